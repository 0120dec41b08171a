"""Which expert has to leave when another needs its slot.

A policy hears of every use, in order, and names the expert to give up among those that are
held. It never sees weights or slots, so the same objects run in the model and in a replay of
a recorded trace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

__all__ = ["POLICIES", "Lfu", "Lru", "Policy", "make_policy"]


class Policy(Protocol):
    """The memory of one layer's uses."""

    def use(self, experts: Iterable[int]) -> None:
        """These experts run now, in this order."""

    def victim(self, held: Collection[int], pinned: Collection[int]) -> int:
        """The expert to give up: one of `held` that is not in `pinned`."""


class Lru:
    """Gives up what was used least recently."""

    def __init__(self) -> None:
        self._order: dict[int, None] = {}

    def use(self, experts: Iterable[int]) -> None:
        order = self._order
        for expert in experts:
            order.pop(expert, None)
            order[expert] = None

    def victim(self, held: Collection[int], pinned: Collection[int]) -> int:
        for expert in self._order:
            if expert in held and expert not in pinned:
                del self._order[expert]  # it comes back with its next use
                return expert
        return next(expert for expert in held if expert not in pinned)


class Lfu:
    """Gives up what was used least often, where uses fade: each use halves after `half_life`.

    With a short half-life this is nearly LRU, with a long one a count of all uses.
    """

    def __init__(self, half_life: float = 64.0) -> None:
        self._growth = 2.0 ** (1.0 / half_life)
        self._weight, self._score = 1.0, dict[int, float]()

    def use(self, experts: Iterable[int]) -> None:
        self._weight *= self._growth
        for expert in experts:
            self._score[expert] = self._score.get(expert, 0.0) + self._weight
        if self._weight > 1e100:
            self._rescale()

    def victim(self, held: Collection[int], pinned: Collection[int]) -> int:
        score = self._score
        free = (expert for expert in held if expert not in pinned)
        return min(free, key=lambda expert: score.get(expert, 0.0))

    def _rescale(self) -> None:
        self._score = {expert: value / self._weight for expert, value in self._score.items()}
        self._weight = 1.0


#: The policies by the name that options use.
POLICIES: dict[str, type[Lru] | type[Lfu]] = {"lru": Lru, "lfu": Lfu}


def make_policy(name: str) -> Policy:
    """A fresh policy of this name (a key of POLICIES)."""
    return POLICIES[name]()
