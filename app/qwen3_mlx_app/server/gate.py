"""How many requests are answered at once, and how many may wait for that."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from qwen3_mlx_app.server.faults import ApiError

__all__ = ["Gate", "Turn"]


class Turn:
    """A request's place, in the row of those that wait or among those that run."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin


class Gate:
    """Lets so many run, in the order in which they came.

    >>> gate, begun = Gate(parallel=1, waiting=1), []
    >>> first, second = (gate.enter(lambda name=name: begun.append(name)) for name in "ab")
    >>> gate.leave(first)
    >>> begun
    ['a', 'b']
    """

    def __init__(self, parallel: int, waiting: int) -> None:
        self._parallel, self._most_waiting = parallel, waiting
        self._lock = threading.Lock()
        self._running: set[Turn] = set()
        self._waiting: deque[Turn] = deque()

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, begin: Callable[[], None]) -> Turn:
        """Run or wait; `begin` is called when it may run, on any thread.

        Raises:
            ApiError: too many wait.
        """
        turn = Turn(begin)
        with self._lock:
            if len(self._running) < self._parallel:
                self._running.add(turn)
            elif len(self._waiting) < self._most_waiting:
                self._waiting.append(turn)
                return turn
            else:
                raise ApiError(
                    429, f"{self._most_waiting} requests wait already: try again later",
                    code="busy", headers={"Retry-After": "5"},
                )  # fmt: skip
        begin()
        return turn

    def leave(self, turn: Turn) -> None:
        """It has ended, or does not want to wait any longer. Again is no harm."""
        begun = None
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn in self._running:
                self._running.remove(turn)
                if self._waiting:
                    begun = self._waiting.popleft()
                    self._running.add(begun)
        if begun is not None:
            begun.begin()
