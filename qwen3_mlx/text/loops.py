"""Notices that a text goes round in circles.

A run of `_GRAM` tokens that has come at least `_SEEN` times lately is stale. When nearly all
of the last tokens end stale runs, nothing new is being said. Lists, tables and code repeat
their frames, but each row brings something new, and one new token freshens all the runs that
it is part of. A text that quotes itself once or twice is not stale either.
"""

from __future__ import annotations

from collections import deque

__all__ = ["LoopGuard"]

_GRAM = 16
_SEEN = 3
_REACH = 8192  # tokens: a cycle of up to a quarter of this is found
_STALE = 0.97
_BASE, _PRIME = 1_000_003, (1 << 61) - 1
_TOP = pow(_BASE, _GRAM, _PRIME)


class LoopGuard:
    """Feed it tokens; `looping` tells whether the last `window` of them said nothing new.

    A token costs the same few steps however long the text is.

    >>> guard = LoopGuard(window=40)
    >>> for token in [1, 2, 3, 4, 5] * 20:
    ...     guard.push(token)
    >>> guard.looping
    True
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._last: deque[int] = deque(maxlen=_GRAM + 1)
        self._hash = 0
        self._grams: deque[int] = deque()
        self._counts: dict[int, int] = {}
        self._flags: deque[bool] = deque()
        self._stale = 0

    @property
    def looping(self) -> bool:
        return len(self._flags) == self._window and self._stale >= _STALE * self._window

    def push(self, token: int) -> None:
        self._last.append(token + 1)
        self._hash = (self._hash * _BASE + token + 1) % _PRIME
        if len(self._last) > _GRAM:
            self._hash = (self._hash - self._last[0] * _TOP) % _PRIME
        if len(self._last) >= _GRAM:
            self._flag(self._seen(self._hash) >= _SEEN)

    def _seen(self, gram: int) -> int:
        """How often the run came before, lately; counts it."""
        before = self._counts.get(gram, 0)
        self._counts[gram] = before + 1
        self._grams.append(gram)
        if len(self._grams) > _REACH:
            old = self._grams.popleft()
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]
        return before

    def _flag(self, stale: bool) -> None:
        self._flags.append(stale)
        self._stale += stale
        if len(self._flags) > self._window:
            self._stale -= self._flags.popleft()
