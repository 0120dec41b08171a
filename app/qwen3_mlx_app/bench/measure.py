"""Rounds: every side does the same work in turn, so that a busy machine is unfair to none.

A ratio is taken within a round, between runs that follow each other, and what is reported
is the median of those ratios with its extremes. It is always a gain: 2.0 means that ours
is twice as fast.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from qwen3_mlx_app.bench.sides import Side, cold_process

__all__ = ["Plan", "Row", "Spread", "measure"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and extremes of several rounds.

    >>> Spread.of([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: lengths in tokens, batches in rows."""

    prompts: tuple[int, ...]
    generate: int
    warm: int  # tokens said, uncounted, before a test: enough for the step to be compiled
    batches: tuple[int, ...]
    rounds: int
    cold: bool


@dataclass(slots=True)
class Row:
    """One line of the table: a test, and what each side measured in each round."""

    kind: str  # prefill, decode, batch, ttft, load, cold_ask, cold_ask_compiling, peak
    test: str
    unit: str  # "t/s", where more is better; "s" or "B", where less is
    values: dict[str, list[float]] = field(default_factory=dict)

    def spread(self, side: str) -> Spread:
        return Spread.of(self.values[side])

    def gains(self, ours: str, theirs: str) -> list[float]:
        """How much better ours is, round by round."""
        pairs = zip(self.values[ours], self.values[theirs], strict=True)
        return [mine / other if self.unit == "t/s" else other / mine for mine, other in pairs]


def measure(
    sides: Sequence[Side], plan: Plan, tell: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """Run the plan. What the sides have loaded is loaded again, and there when this returns.

    Whatever runs first in a process compiles, caches and allocates. Each test therefore
    runs once without being counted, except for loading and cold starts, which are about that.
    """
    rows: list[Row] = []

    def each_round(new: Sequence[Row], run: Callable[[Side, int], Sequence[float]]) -> None:
        tell(", ".join(row.test for row in new))
        for number in range(plan.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                for row, value in zip(new, run(side, number), strict=True):
                    row.values.setdefault(side.name, []).append(value)
        rows.extend(new)

    each_round([Row("load", "load", "s")], lambda side, _: [side.load()])
    _each_length(sides, plan, each_round)
    for batch in plan.batches:
        _each_batch(sides, plan, batch, each_round)
    if all(side.asks for side in sides):
        for side in sides:
            side.ttft()
        each_round([Row("ttft", "first token, warm", "s")], lambda side, _: [side.ttft()])
    if plan.cold:
        _each_cold_start(sides, each_round)
    return rows


_EachRound = Callable[[Sequence[Row], Callable[[Side, int], Sequence[float]]], None]


def _each_length(sides: Sequence[Side], plan: Plan, each_round: _EachRound) -> None:
    for prompt in plan.prompts:
        for side in sides:
            side.solo(prompt, plan.warm, seed=0)

        def run(side: Side, number: int, prompt: int = prompt) -> Sequence[float]:
            solo = side.solo(prompt, plan.generate, seed=number + 1)
            return solo.prefill, solo.decode, solo.peak_bytes

        new = [
            Row("prefill", f"prefill {prompt}", "t/s"),
            Row("decode", f"decode {plan.generate} after {prompt}", "t/s"),
            Row("peak", f"peak memory at {prompt + plan.generate}", "B"),
        ]
        each_round(new, run)


def _each_batch(sides: Sequence[Side], plan: Plan, batch: int, each_round: _EachRound) -> None:
    prompt = plan.prompts[0]
    for side in sides:
        side.batch(batch, prompt, plan.warm, seed=0)
    row = Row("batch", f"batch of {batch}, {prompt} + {plan.generate} each", "t/s")
    each_round([row], lambda side, number: [side.batch(batch, prompt, plan.generate, number + 1)])


def _each_cold_start(sides: Sequence[Side], each_round: _EachRound) -> None:
    for side in sides:
        cold_process(side.cold_command())
    each_round(
        [Row("cold_ask", "cold start to one token", "s")],
        lambda side, _: [cold_process(side.cold_command())],
    )
    if mx.metal.is_available():  # the system keeps Metal's kernels, where nobody can empty it
        return
    each_round(
        [Row("cold_ask_compiling", "the same, compile cache empty", "s")],
        lambda side, _: [cold_process(side.cold_command(), empty_cache=True)],
    )
