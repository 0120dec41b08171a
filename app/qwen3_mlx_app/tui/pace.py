"""How often a growing answer is drawn, so that drawing never takes a whole core."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]

#: More often looks no different.
PER_SECOND = 10
#: Of the drawing thread's processor time, between one picture and the next.
SHARE = 0.25
LONGEST_SECONDS = 1.0


class Pace:
    """Says when the next picture is due. Not before a tenth of a second is over, and not before
    what the last one cost is a quarter of the time since: a long table on a slow computer is
    drawn less often, and keys are answered all the same.

    >>> times = iter([(0.0, 0.0), (0.2, 0.1), (0.4, 0.1), (0.45, 0.1)])
    >>> now = cpu = 0.0
    >>> pace = Pace(lambda: now, lambda: cpu)
    >>> for now, cpu in times:
    ...     print(pace.due())
    True
    False
    True
    False
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock, self._processor = clock, processor
        self._at, self._used = float("-inf"), 0.0

    def due(self) -> bool:
        """Whether to draw now; whoever asks and hears True does so."""
        now, used = self._clock(), self._processor()
        passed = now - self._at
        if passed < 1 / PER_SECOND:
            return False
        if used - self._used > SHARE * passed and passed < LONGEST_SECONDS:
            return False
        self._at, self._used = now, used
        return True
