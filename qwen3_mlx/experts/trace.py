"""Traces of routing: recorded while a model decodes, replayed against any policy and size.

A trace is the sequence, for each layer, of the experts that each decode step wanted. Replaying
it tells what hit rate a policy would have had with so many slots, and `belady` what the best
policy of all would have had, the one that knows the future (Belady 1966): nothing that evicts
one expert for another can hit more often.

On disk a trace is JSON lines: a header, then [layer, [expert, …]] for each call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_mlx.errors import OptionError
from qwen3_mlx.experts.policy import POLICIES, Policy, make_policy

__all__ = ["Trace", "belady", "hit_rates", "read_trace", "replay"]


@dataclass(slots=True)
class Trace:
    """What was wanted. `calls` are (layer, experts) in the order in which they ran."""

    experts: int
    top_k: int
    calls: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def add(self, layer: int, wanted: Sequence[int]) -> None:
        """A layer's call."""
        self.calls.append((layer, tuple(wanted)))

    def by_layer(self) -> dict[int, list[tuple[int, ...]]]:
        """Each layer's steps."""
        steps: dict[int, list[tuple[int, ...]]] = {}
        for layer, wanted in self.calls:
            steps.setdefault(layer, []).append(wanted)
        return steps

    def save(self, path: Path) -> None:
        """Write JSON lines."""
        with path.open("w", encoding="utf-8") as file:
            header = {"format": "qwen3-mlx trace", "experts": self.experts, "top_k": self.top_k}
            file.write(json.dumps(header) + "\n")
            for layer, wanted in self.calls:
                file.write(json.dumps([layer, list(wanted)]) + "\n")


def read_trace(path: Path) -> Trace:
    """A trace from its file.

    Raises:
        OptionError: the file is no trace.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        header = json.loads(lines[0])
        calls = [
            (int(layer), tuple(map(int, wanted))) for layer, wanted in map(json.loads, lines[1:])
        ]
        return Trace(int(header["experts"]), int(header["top_k"]), calls)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise OptionError(f"{path} is no trace of `bench experts --trace-out` ({error})") from error


def replay(steps: Iterable[Sequence[int]], slots: int, policy: Policy) -> tuple[int, int]:
    """Hits and uses of one layer. As in the model, what a step wants stays during the step."""
    held: set[int] = set()
    hits = uses = 0
    for wanted in steps:
        policy.use(wanted)
        hits += sum(expert in held for expert in wanted)
        uses += len(wanted)
        _bring(held, wanted, slots, lambda pinned: policy.victim(held, pinned))
    return hits, uses


def belady(steps: Sequence[Sequence[int]], slots: int) -> tuple[int, int]:
    """Hits and uses where the expert leaves whose next use is farthest away."""
    next_use = _next_uses(steps)
    due: dict[int, int] = {}
    held: set[int] = set()
    hits = uses = 0
    for step, wanted in enumerate(steps):
        hits += sum(expert in held for expert in wanted)
        uses += len(wanted)
        due.update(next_use[step])
        _bring(held, wanted, slots, lambda pinned: max(held - pinned, key=due.__getitem__))
    return hits, uses


def hit_rates(trace: Trace, slots: Iterable[int]) -> dict[int, dict[str, float]]:
    """For each number of slots, the hit rate of every policy and of Belady's, over all layers."""
    return {count: _row(list(trace.by_layer().values()), count) for count in slots}


def _row(layers: list[list[tuple[int, ...]]], slots: int) -> dict[str, float]:
    rates = {
        name: _rate([replay(steps, slots, make_policy(name)) for steps in layers])
        for name in POLICIES
    }
    return rates | {"belady": _rate([belady(steps, slots) for steps in layers])}


def _rate(results: list[tuple[int, int]]) -> float:
    uses = sum(count for _, count in results)
    return sum(hits for hits, _ in results) / uses if uses else 1.0


def _bring(
    held: set[int], wanted: Sequence[int], slots: int, victim: Callable[[set[int]], int]
) -> None:
    """Put what is wanted into the slots, as far as they reach."""
    pinned = set(wanted)
    for expert in wanted:
        if expert in held:
            continue
        if len(held) >= slots:
            if held <= pinned:
                return  # fewer slots than wanted: the rest passes through scratch
            held.discard(victim(pinned))
        held.add(expert)


def _next_uses(steps: Sequence[Sequence[int]]) -> list[dict[int, int]]:
    """For each step, when each of its experts is wanted again."""
    coming: dict[int, int] = {}
    found: list[dict[int, int]] = []
    for step in range(len(steps) - 1, -1, -1):
        found.append({expert: coming.get(expert, len(steps)) for expert in steps[step]})
        coming.update(dict.fromkeys(steps[step], step))
    return found[::-1]
