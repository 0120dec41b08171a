"""The governor: how reads are made is decided by what is measured, while the model runs.

Whether threads, overlap or prefetch pay depends on the disk, on the page cache and on how
long a layer computes, and changes while a text goes on. So the ways are tried in turn for a
few tokens each, the one with the shortest median step is kept for a while, and then they are
tried again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["WAYS", "Governor", "Way"]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to read: how many threads, hits computed meanwhile, the next layer guessed."""

    name: str
    threads: int = 0
    overlap: bool = False
    prefetch: bool = False


#: The ways by name. "inline" reads on the engine thread, which costs least if nothing waits.
WAYS = {
    way.name: way
    for way in (
        Way("inline"),
        Way("threads", threads=4),
        Way("overlap", threads=2, overlap=True),
        Way("prefetch", threads=2, overlap=True, prefetch=True),
    )
}


class Governor:
    """Chooses among ways by the time of decode steps.

    Args:
        ways: what may be chosen; with one of them nothing is tried.
        trial: steps for each way in a round of trials; the first of them is not counted.
        rounds: rounds of trials before a choice.
        hold: steps for which a choice stands.
        clock: seconds.
    """

    def __init__(
        self,
        ways: Sequence[Way],
        *,
        trial: int = 5,
        rounds: int = 5,
        hold: int = 400,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ways, self._trial, self._rounds, self._hold = tuple(ways), trial, rounds, hold
        self._clock, self._began = clock, 0.0
        self._times: dict[Way, list[float]] = {way: [] for way in ways}
        self._schedule = self._trials()
        self.way = ways[0]
        self._choice: Way | None = ways[0] if len(self._ways) == 1 else None

    @property
    def choice(self) -> str:
        """The way that was found best, or that trials are under way."""
        return self._choice.name if self._choice else "measuring"

    def step(self, follows: bool) -> Way:
        """A decode step begins: the way to read in it. `follows` is false after a pause."""
        now = self._clock()
        if follows and self._began:
            self._note(now - self._began)
        elif self._schedule:
            self._schedule[0] = (self._schedule[0][0], False)
        self._began = now
        if len(self._ways) > 1:
            if not self._schedule:
                self._end_phase()
            self.way = self._schedule[0][0]
        return self.way

    def pause(self) -> None:
        """Something else than a decode step ran: the next interval says nothing."""
        self._began = 0.0

    def _note(self, seconds: float) -> None:
        """The step that ends now took so long."""
        if not self._schedule:
            return
        way, counts = self._schedule.pop(0)
        if counts:
            self._times[way].append(seconds)

    def _end_phase(self) -> None:
        """After trials comes the choice, after a choice come trials."""
        if any(self._times.values()):
            medians = {way: statistics.median(times) for way, times in self._times.items() if times}
            self._choice = min(medians, key=medians.__getitem__)
            self._times = {way: [] for way in self._ways}
            self._schedule = [(self._choice, False)] * self._hold
        else:
            self._schedule = self._trials()

    def _trials(self) -> list[tuple[Way, bool]]:
        """The steps of all trials, and whether each counts."""
        one = [(way, step > 0) for way in self._ways for step in range(self._trial)]
        return one * self._rounds
