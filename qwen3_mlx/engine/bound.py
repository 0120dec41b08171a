"""How many rows fit into the memory for keys and values.

A batch is a rectangle: every row takes as many positions as the longest. So a long text beside
short ones costs a multiple of what is in it, and what has to be counted is the rectangle.

Nobody knows how long a text will be, and most end long before they must. So a text is begun where
the batch has room for some growth; if the batch outgrows the bound all the same, its newest text
steps back and waits, what was read of it goes, and it is read again when there is room. The
oldest always runs, and nobody is overtaken.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_mlx.engine.kv import STEP
from qwen3_mlx.engine.request import Request

__all__ = ["Bound"]


class Bound:
    """The rows that a batch may have, and the positions: its rows times their length.

    One text alone is always let in: that the context fits was decided when the model was loaded.

    >>> Bound(16, kv_bytes=1 << 20, token_bytes=1024).positions
    1024
    """

    def __init__(self, rows: int, kv_bytes: int | None, token_bytes: int) -> None:
        self._rows = rows
        self.positions = None if kv_bytes is None else kv_bytes // token_bytes

    def admits(self, rows: Sequence[Request], coming: Request) -> bool:
        """Whether one more text may join these, and all grow by a step of the cache."""
        return not rows or (len(rows) < self._rows and self._holds([*rows, coming], STEP))

    def outgrown(self, rows: Sequence[Request], read: Sequence[Request]) -> bool:
        """Whether the next token of these rows is too much, beside texts that are being read."""
        return len(rows) > 1 and not self._holds(rows, 1, sum(map(_length, read)))

    def _holds(self, rows: Sequence[Request], growth: int, beside: int = 0) -> bool:
        if self.positions is None:
            return True
        most = min(growth, max(row.left for row in rows))
        length = -(-(max(map(_length, rows)) + most) // STEP) * STEP
        return len(rows) * length + beside <= self.positions


def _length(request: Request) -> int:
    return len(request.prompt) + len(request.said)
