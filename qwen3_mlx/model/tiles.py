"""How long the tiles are in which packed keys and values are read; without MLX, for the plan."""

from __future__ import annotations

__all__ = ["tile_length"]

_SCORES = 1 << 18  # scores of one tile, all heads and rows together
_SHORTEST, _LONGEST = 128, 512


def tile_length(rows: int) -> int:
    """Positions that one tile has for so many queries, heads counted.

    >>> tile_length(16 * 512)
    128
    """
    return max(_SHORTEST, min(_LONGEST, _SCORES // rows))
