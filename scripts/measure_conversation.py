"""What a conversation costs to read again: nothing but what is new. Prints two tables.

    python scripts/measure_conversation.py              both, as docs/thinking.md shows them
    python scripts/measure_conversation.py --no-ttft    counts only, which no load can disturb

1. Twelve turns with thoughts and two loops of tool calls, word for word the same in each run:
   the script says them through tiny's own template and tokenizer. Counted are the tokens that
   each request had to read, beside those that a cache of the last text alone would have had to.
   After each request the engine also answers greedily, and so does one that keeps nothing.
2. The time to the first token of the tenth turn, behind a history of 6,000 tokens, with that
   history read while the engine was idle, and without.
"""

from __future__ import annotations

import argparse
import json
import queue
import time
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx

from qwen3_mlx import hub
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request, RequestStats
from qwen3_mlx.events import FinishReason
from qwen3_mlx.loading import Parts, read_parts
from qwen3_mlx.prompts import Prompts
from qwen3_mlx.streaming import Keeper

OVERHEAD = 16  # tokens that the template may put around a new message
GREEDY = 8
Message = dict[str, Any]


class Listener:
    """Keeps the tokens and waits for the end."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._end: queue.SimpleQueue[object] = queue.SimpleQueue()

    def prefill(self, done: int, total: int) -> None: ...

    def token(self, token: int) -> None:
        self.tokens.append(token)

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        self._end.put(reason)

    def failed(self, error: Exception) -> None:
        self._end.put(error)

    def wait(self) -> None:
        end = self._end.get()
        if isinstance(end, Exception):
            raise end


class Script:
    """A mask that leaves one token at a time."""

    needs_last = False

    def __init__(self, ids: Sequence[int], vocab: int) -> None:
        self._ids, self._vocab, self._next = ids, vocab, 0

    def allowed(self) -> mx.array:
        token = self._ids[min(self._next, len(self._ids) - 1)]
        self._next += 1
        return mx.arange(self._vocab) == token


def conversation() -> Iterator[tuple[str, list[Message], Message]]:
    """What each request is called, its new messages, and the reply to them."""
    for turn in range(1, 13):
        new: list[Message] = [{"role": "user", "content": f"What is {100 + turn} + {30 * turn}?"}]
        if turn == 1:
            new.insert(0, {"role": "system", "content": "You are a careful assistant."})
        if turn in (5, 9):
            for step in range(1, 4):
                arguments = {"path": f"sums/{turn}/{step}.txt"}
                call = {
                    "id": f"{turn}.{step}",
                    "type": "function",
                    "function": {"name": "read_file", "arguments": arguments},
                }
                thought = f"Step {step}: I have to look at the next file first. " * 2
                yield (
                    f"{turn}, tool {step}",
                    new,
                    {"role": "assistant", "content": "", "reasoning_content": thought.strip(),
                     "tool_calls": [call]},
                )  # fmt: skip
                new = [{"role": "tool", "content": f"{step}. line: 100 + {step} = {100 + step}"}]
        thought = "Ones, then tens, then hundreds, and do not forget to carry. " * (2 + turn % 4)
        answer = f"{100 + turn} + {30 * turn} = {100 + 31 * turn}"
        yield (
            str(turn),
            new,
            {"role": "assistant", "content": answer, "reasoning_content": thought.strip()},
        )


def spelled(reply: Message) -> str:
    """A reply as the model writes it."""
    calls = "\n".join(
        "<tool_call>\n" + json.dumps(call["function"]) + "\n</tool_call>"
        for call in reply.get("tool_calls", [])
    )
    return f"<think>\n{reply['reasoning_content']}\n</think>\n\n{reply['content']}{calls}"


def run(
    engine: Engine, prompt: Sequence[int], most: int, **options: Any
) -> tuple[Request, list[int]]:
    heard = Listener()
    request = Request(prompt, DrawRule(), heard, most, **options)
    engine.submit(request)
    heard.wait()
    return request, heard.tokens


def common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def idle(engine: Engine) -> None:
    """Wait until everything that was to be read ahead is read."""
    while engine.call(lambda: engine.reads_ahead):
        time.sleep(0.005)


def turns(parts: Parts, ours: Engine, empty: Engine, context: int) -> bool:
    """The first table; whether every promise was kept."""
    tokenizer = parts.tokenizer
    prompts = Prompts(parts.template, tokenizer, "hybrid", context)
    end = tokenizer.encode("<|im_end|>")
    messages: list[Message] = []
    before: list[int] = []
    good, sums = True, [0, 0, 0, 0]
    print("| turn | prompt | new message | read by us | read by a last-prefix cache | same reply |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, new, reply in conversation():
        messages += new
        prompt = prompts.chat(messages).ids
        said = [*tokenizer.encode(spelled(reply)), *end]
        request, _ = run(
            ours, prompt, len(said) + 1, eos=frozenset(end), mask=Script(said, tokenizer.size)
        )
        read = len(prompt) - request.stats.cached
        fresh = sum(len(tokenizer.encode(message["content"])) for message in new)
        plain = len(prompt) - common(before, prompt)
        before = request.text
        messages.append(reply)
        same = run(ours, prompt, GREEDY)[1] == run(empty, prompt, GREEDY)[1]
        good &= same and read <= fresh + OVERHEAD * len(new)
        if not reply.get("tool_calls"):
            ours.prepare(prompts.history(messages))
            idle(ours)
        sums = [a + b for a, b in zip(sums, (len(prompt), fresh, read, plain), strict=True)]
        print(
            f"| {name} | {len(prompt)} | {fresh} | {read} | {plain} | {'yes' if same else 'NO'} |"
        )
    print(f"| all | {' | '.join(f'{each:,}' for each in sums)} | |")
    return good


def first_token(ours: Engine, empty: Engine, history: int, message: int, rounds: int) -> bool:
    """The second table; whether the promise was kept."""
    times: dict[str, list[float]] = {"with": [], "without": []}
    ids = [(7 * n) % 2000 for n in range(history)]
    ours.prepare(ids)
    idle(ours)
    for number in range(rounds):
        prompt = [*ids, *((13 * n + number) % 2000 for n in range(message))]
        for name, engine in (("with", ours), ("without", empty)):
            request, _ = run(engine, prompt, 1)
            times[name].append(request.stats.first_token - request.stats.submitted)
    best = {name: min(each) for name, each in times.items()}
    share = best["without"] / best["with"]
    print(f"\nTime to the first token, {history:,} tokens of history and {message} new ones:")
    print(f"{best['with']:.3f} s with what was read before, {best['without']:.3f} s without it,")
    print(f"1/{share:.0f} (best of {rounds}; 1/20 was promised)")
    return share >= 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-ttft", action="store_true", help="leave out the times")
    parser.add_argument("--history", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    parts = read_parts(hub.resolve("tiny"))
    keeper = Keeper(parts, context=8192)
    engines = [
        Engine(lambda: keeper.read(lambda nbytes: None), parts.tokenizer.size, prefix_bytes=size)
        for size in (1 << 30, 0)
    ]
    try:
        good = turns(parts, engines[0], engines[1], keeper.context)
        if not args.no_ttft:
            good &= first_token(*engines, args.history, 64, args.rounds)
    finally:
        for engine in engines:
            engine.close()
    if not good:
        raise SystemExit("a promise is not kept")


if __name__ == "__main__":
    main()
