"""Decode speed beside mlx-lm in short slices, for machines that are busy with other things.

    python scripts/measure_decode.py FOLDER --contexts 32,1000 --dtype float32

Both sides hold a running text, and take turns saying SLICE tokens of it. A slice of ours and
the next of mlx-lm's are so close together that whatever else runs slows both. Both compute
one token ahead; a slice ends when that one is done too, so each is charged with its own work.
"""

from __future__ import annotations

import argparse
import queue
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
from gains import Gain

from qwen3_mlx.engine.request import DrawRule, Request, RequestStats
from qwen3_mlx.events import FinishReason
from qwen3_mlx.presets import THINKING
from qwen3_mlx_app.bench.peer import MlxLm
from qwen3_mlx_app.bench.sides import Ours, prompt_ids


class Seconds(NamedTuple):
    """What a slice took by the clock, and of the processor."""

    clock: float
    cpu: float


WARM = 36  # the engine compiles its step after 32 tokens


class Gate:
    """A listener that lets the engine say so many tokens and then holds it."""

    def __init__(self) -> None:
        self._allowed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def prefill(self, done: int, total: int) -> None: ...

    def token(self, token: int) -> bool:
        if self._allowed.empty():
            mx.synchronize()  # the next token, which is under way, belongs to this slice
        self._said.put(True)
        return not self._allowed.get()

    def finished(self, reason: FinishReason, stats: RequestStats) -> None: ...

    def failed(self, error: Exception) -> None:
        raise error

    def take(self, count: int) -> None:
        """Let `count` tokens be said."""
        for _ in range(count):
            self._allowed.put(True)
        for _ in range(count):
            self._said.get()

    def end(self) -> None:
        self._allowed.put(False)


def our_text(side: Ours, ids: list[int], total: int, rule: DrawRule) -> Gate:
    gate = Gate()
    side.engine.submit(Request(ids, rule, gate, total, seed=1))
    gate._said.get()
    return gate


def their_text(side: MlxLm, ids: list[int], total: int) -> Iterator[object]:
    return iter(
        side._generate.generate_step(
            mx.array(ids), side.model, max_tokens=total, sampler=side._sampler()
        )
    )


def seconds(function: Callable[[], None]) -> Seconds:
    began, cpu = time.perf_counter(), time.process_time()
    function()
    return Seconds(time.perf_counter() - began, time.process_time() - cpu)


def compare(ours: Ours, theirs: MlxLm, context: int, args: argparse.Namespace) -> None:
    total = WARM + args.slice * (args.rounds + 1) + 2
    ids = prompt_ids(context, ours.parts.tokenizer.size, seed=context)
    gate = our_text(ours, ids, total, THINKING if args.sampled else DrawRule())
    other = their_text(theirs, ids, total)

    def take_theirs(count: int = args.slice) -> None:
        for _ in range(count):
            next(other)
        mx.synchronize(theirs._generate.generation_stream)

    gate.take(WARM)
    take_theirs(WARM)
    pairs = []
    for number in range(args.rounds):
        if number % 2:
            there = seconds(take_theirs)
            pairs.append((seconds(lambda: gate.take(args.slice)), there))
        else:
            here = seconds(lambda: gate.take(args.slice))
            pairs.append((here, seconds(take_theirs)))
    gate.end()
    tell(context, args, pairs)


def tell(context: int, args: argparse.Namespace, pairs: list[tuple[Seconds, Seconds]]) -> None:
    sampled = ", sampled" if args.sampled else ""
    compiler = "" if shutil.which("g++") or shutil.which("clang++") else ", no compiler"
    name = f"{args.folder.name}: decode after {context}{sampled}{compiler}"
    print(f"{name}, {args.rounds} turns of {args.slice} tokens")
    for kind in Seconds._fields:
        each = [(getattr(here, kind), getattr(there, kind)) for here, there in pairs]
        gain = Gain.of(name, (there / here for here, there in each))
        mine, other = (
            1e3 * statistics.median(side) / args.slice for side in zip(*each, strict=True)
        )
        print(
            f"  {kind:5} ms a token: ours {mine:.2f}, mlx-lm {other:.2f}, {gain}",
            flush=True,
        )
        if kind == "clock":
            gain.keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--contexts", default="32")
    parser.add_argument("--slice", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sampled", action="store_true")
    args = parser.parse_args()
    ours = Ours(args.folder, args.dtype, sampled=args.sampled)
    ours.load()
    theirs = MlxLm(args.folder, args.dtype, ours.parts.tokenizer.size, sampled=args.sampled)
    theirs.load()
    for context in map(int, args.contexts.split(",")):
        compare(ours, theirs, context, args)
    ours.close()


if __name__ == "__main__":
    main()
