"""What `--speculate` gives on this machine: passes, and the time of a text that repeats something.

    python scripts/measure_speculation.py 4b
    python scripts/measure_speculation.py ./my-model --ask question.txt --turns 9

First the time of one pass over several tokens, as multiples of a pass over one: where eight cost
less than eight times as much, guesses can pay. Then the same question with and without guesses,
greedily and in turns: the tokens that came by a guess, how many times as fast, and whether the two
texts are equal. Without --ask it is a list that has to be said again with one change.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import mlx.core as mx
from gains import Gain

import qwen3_mlx
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache

LENGTHS = (1, 2, 3, 4, 6, 8)
NAMES = ("width", "height", "depth", "margin", "padding", "border", "radius", "shadow", "opacity")
LIST = "\n".join(f"    {name} = config.get({name!r}, 10)" for name in NAMES)
ASK = f"Say this again, with a height of 7, and nothing else:\n\n{LIST}"


def costs(engine: Engine, rounds: int = 15) -> dict[int, float]:
    """Seconds of a pass over so many tokens, behind 256 others."""

    def passes() -> dict[int, float]:
        model = engine.model
        kv = KVCache(model.config)
        mx.eval(model.hidden(mx.array([[n % 50 for n in range(256)]]), kv), kv.arrays())
        seconds: dict[int, list[float]] = {length: [] for length in LENGTHS}
        for _ in range(rounds):
            for length in LENGTHS:
                began = time.perf_counter()
                mx.eval(model.logits(model.hidden(mx.array([[7] * length]), kv)))
                seconds[length].append(time.perf_counter() - began)
                kv.trim(256)
        return {length: statistics.median(each) for length, each in seconds.items()}

    return engine.call(passes)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--ask", type=Path, help="a file with the question")
    parser.add_argument("--max-tokens", type=int, default=300)
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    question = args.ask.read_text(encoding="utf-8") if args.ask else ASK
    greedy = qwen3_mlx.Sampling(temperature=0)

    def answer(model: qwen3_mlx.Qwen3) -> tuple[qwen3_mlx.Reply, float]:
        began = time.perf_counter()
        reply = model.ask(
            question, sampling=greedy, max_tokens=args.max_tokens,
            thinking=False if model.info.can_switch_thinking else None,
        )  # fmt: skip
        return reply, time.perf_counter() - began

    with (
        qwen3_mlx.load(args.model, agent=False) as plain,
        qwen3_mlx.load(args.model, agent=False, speculate=True) as guessing,
    ):
        measured = costs(plain._engine)
        print("tokens in a pass   times as long as one")
        for length, seconds in measured.items():
            print(f"{length:16}   {seconds / measured[1]:.2f}")
        for model in (plain, guessing):
            answer(model)  # compiles, and is not counted
        gains = []
        for turn in range(args.turns):
            order = (plain, guessing) if turn % 2 == 0 else (guessing, plain)
            took = {id(model): answer(model) for model in order}
            gains.append(took[id(plain)][1] / took[id(guessing)][1])
    said_plainly, guessed = took[id(plain)][0], took[id(guessing)][0]
    usage = guessed.usage
    said = usage.thinking_tokens + usage.answer_tokens
    print(
        f"{usage.guessed_tokens} of {said} tokens came by a guess; {Gain.of('speculation', gains)}"
    )
    print("the texts are equal" if guessed.text == said_plainly.text else "the texts DIFFER")


if __name__ == "__main__":
    main()
