"""Thinking budgets: the steps that the keys take, and how people write them."""

from __future__ import annotations

import re

from qwen3_mlx_app.tui.text import compact_count

__all__ = ["STEPS", "budget_name", "next_budget", "parse_budget"]

#: Tokens; None is no limit.
STEPS: tuple[int | None, ...] = (512, 1024, 2048, 4096, 8192, 16384, None)

#: More than any model can read; a number without an end would be no number.
MOST = 1024 * 1024

_SHAPE = re.compile(r"(\d+(?:\.\d+)?)\s*(k?)", re.IGNORECASE)


def next_budget(budget: int | None, step: int) -> int | None:
    """One step up (1) or down (-1); the ends are walls.

    >>> next_budget(None, -1), next_budget(600, 1), next_budget(512, -1)
    (16384, 1024, 512)
    """
    sizes = [float("inf") if size is None else float(size) for size in STEPS]
    now = float("inf") if budget is None else float(budget)
    if step > 0:
        at = next((i for i, size in enumerate(sizes) if size > now), len(STEPS) - 1)
    else:
        at = max((i for i, size in enumerate(sizes) if size < now), default=0)
    return STEPS[at]


def parse_budget(text: str) -> int | str | None:
    """Tokens as people write them, at most `MOST`; None for "off"; else the text itself.

    >>> parse_budget("2k"), parse_budget("700"), parse_budget("off"), parse_budget("hello")
    (2048, 700, None, 'hello')
    """
    if text.strip().lower() in ("off", "none", "∞", "inf"):
        return None
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        return text
    return round(min(MOST, float(match[1]) * (1024 if match[2] else 1)))


def budget_name(budget: int | None) -> str:
    """`2k`, `700`, `∞`."""
    if budget is None:
        return "∞"
    return f"{budget // 1024}k" if budget and budget % 1024 == 0 else compact_count(budget)
