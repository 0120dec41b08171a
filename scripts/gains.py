"""Gains over mlx-lm that scripts measured, kept as JSON lines for `plot_gains.py`."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Gain(NamedTuple):
    """How many times as fast: the median of the turns and their middle half."""

    name: str
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, gains: Iterable[float]) -> Gain:
        """
        >>> Gain.of("decode", [1.0, 2.0, 2.2, 2.4, 9.0])
        Gain(name='decode', median=2.2, low=2.0, high=2.4)
        """
        ranked = sorted(gains)
        quarter = len(ranked) // 4
        return cls(name, statistics.median(ranked), ranked[quarter], ranked[-1 - quarter])

    def __str__(self) -> str:
        digits = 0 if self.median >= 20 else 2
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        return f"gain {self.median:.{digits}f} (middle half {low} to {high})"

    def keep(self) -> None:
        """Append to the file that the environment names in GAINS, if it does."""
        if path := os.environ.get("GAINS"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._asdict()) + "\n")
