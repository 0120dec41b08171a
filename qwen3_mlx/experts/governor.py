"""The governor: how reads are made is decided by what is measured, while the model runs.

Whether threads, overlap or prefetch pay depends on the disk, on the page cache and on how
long a layer computes, and changes while a text goes on. So the ways race: all of them in a
few rounds, then the best two in more. The winner is kept for a while, and then they race again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class _Turn(NamedTuple):
    """One decode step of a race; the first of a way's turns in a round does not count."""

    way: Way
    round: int
    counts: bool


class _Step(NamedTuple):
    """What a decode step took, and how many experts it had to read."""

    seconds: float
    misses: int


class Governor:
    """Chooses among ways by the time of decode steps.

    A turn is compared with the other turns of its round only, because whatever else the machine
    does slows all of a round alike. That some tokens miss more experts than others is no merit of
    a way either: what a miss costs is estimated over all turns, and taken off.

    Args:
        ways: what may be chosen; with one of them nothing is tried.
        heats: rounds in which all ways take part, two counted steps each.
        final: rounds between the best two, three counted steps each.
        hold: steps for which a choice stands.
        clock: seconds.
    """

    def __init__(
        self,
        ways: Sequence[Way],
        *,
        heats: int = 4,
        final: int = 12,
        hold: int = 600,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ways, self._heats, self._final, self._hold = tuple(ways), heats, final, hold
        self._clock, self._began, self._after_pause = clock, 0.0, True
        self._misses = 0
        self._racing: tuple[Way, ...] = ()
        self._rounds: list[dict[Way, list[_Step]]] = []
        self._turns: list[_Turn] = []  # last first
        self.way = ways[0]
        self._choice: Way | None = ways[0] if len(self._ways) == 1 else None

    @property
    def choice(self) -> str:
        """The way that won the last race, or that the first one is under way."""
        return self._choice.name if self._choice else "measuring"

    def step(self, misses: int = 0) -> Way:
        """A decode step begins, and the one before it has ended: the way to read in it.

        `misses` is how many experts have been missing so far, over all steps.
        """
        now = self._clock()
        if self._began:
            self._note(_Step(now - self._began, misses - self._misses))
        self._began, self._misses = now, misses
        if len(self._ways) > 1:
            if not self._turns:
                self._end_phase()
            self.way = self._turns[-1].way
        return self.way

    def pause(self) -> None:
        """Something else than a decode step ran: this step's turn is taken again."""
        self._began, self._after_pause = 0.0, True

    def _note(self, step: _Step) -> None:
        """A step has ended; the first after a pause says nothing."""
        if self._after_pause:
            self._after_pause = False
        elif self._turns:
            turn = self._turns.pop()
            if turn.counts:
                self._rounds[turn.round].setdefault(turn.way, []).append(step)

    def _end_phase(self) -> None:
        """After the heats comes the final, after that its winner, after a while a new race."""
        if len(self._racing) > 2:
            self._race(self._ranked()[:2], self._final, 3)
        elif self._racing:
            self._choice, self._racing = self._ranked()[0], ()
            self._turns = [_Turn(self._choice, 0, counts=False)] * self._hold
        elif len(self._ways) > 2:
            self._race(self._ways, self._heats, 2)
        else:
            self._race(self._ways, self._final, 3)

    def _race(self, ways: Sequence[Way], rounds: int, counted: int) -> None:
        """Every other round goes through the ways backwards."""
        self._racing, self._rounds = tuple(ways), [{} for _ in range(rounds)]
        turns = [
            _Turn(way, number, step > 0)
            for number in range(rounds)
            for way in (ways[::-1] if number % 2 else ways)
            for step in range(1 + counted)
        ]
        self._turns = turns[::-1]

    def _ranked(self) -> list[Way]:
        """Those that race, the fastest first: by the median of their shares of their rounds."""
        cost = _cost_of_a_miss([steps for times in self._rounds for steps in times.values()])

        def share(way: Way) -> float:
            return statistics.median(
                _seconds(times[way], cost) / sum(_seconds(each, cost) for each in times.values())
                for times in self._rounds
            )

        return sorted(self._racing, key=share)


def _seconds(steps: Sequence[_Step], cost: float) -> float:
    return sum(step.seconds - cost * step.misses for step in steps)


def _cost_of_a_miss(groups: Sequence[Sequence[_Step]]) -> float:
    """Seconds, by least squares within turns of the same way and round.

    Something of every step must be left, whatever few turns make of it.
    """
    above = below = 0.0
    for steps in groups:
        seconds = statistics.fmean(step.seconds for step in steps)
        misses = statistics.fmean(step.misses for step in steps)
        above += sum((step.seconds - seconds) * (step.misses - misses) for step in steps)
        below += sum((step.misses - misses) ** 2 for step in steps)
    steps = [step for group in groups for step in group]
    most = min((step.seconds / step.misses for step in steps if step.misses), default=0.0)
    return min(max(0.0, above / below), 0.9 * most) if below else 0.0
