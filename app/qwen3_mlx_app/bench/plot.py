"""Speed over prompt length as an SVG, written by hand: two panels, a line for each side.

The lines are medians, the strokes behind them reach from the lowest to the highest round.
Colours follow the reader's light or dark setting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from qwen3_mlx_app import svg
from qwen3_mlx_app.bench.measure import Row
from qwen3_mlx_app.bench.report import Results

__all__ = ["draw"]

_WIDTH, _HEIGHT, _GAP = 360, 240, 24
_LEFT, _TOP, _BOTTOM = 64, 56, 40
_STYLE = """\
svg { background: #ffffff; color: #1f2328; font: 12px system-ui, sans-serif }
.side0 { color: #6741d9 } .side1 { color: #868e96 }
.line { fill: none; stroke: currentColor; stroke-width: 2 }
.span { stroke: currentColor; stroke-width: 5; opacity: .3 }
.dot { fill: currentColor } .grid { stroke: currentColor; opacity: .15 }
text { fill: currentColor } .title { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; color: #e6edf3 } .side0 { color: #b197fc } .side1 { color: #adb5bd }
}
"""


def draw(results: Results) -> str:
    """The whole picture."""
    panels = [
        _panel(title, [row for row in results.rows if row.kind == kind], results)
        for title, kind in (("prefill, tokens/s", "prefill"), ("decode, tokens/s", "decode"))
    ]
    width = 2 * (_WIDTH + _LEFT) + _GAP
    height = _TOP + _HEIGHT + _BOTTOM
    names = "".join(
        f'<text class="side{place}" x="{_LEFT + 130 * place}" y="18">{escape(side)}</text>'
        for place, side in enumerate(results.sides)
    )
    where = escape(f"{results.model} on {results.machine['chip']}")
    placed = "".join(
        f'<g transform="translate({_LEFT + place * (_WIDTH + _LEFT + _GAP // 2)} {_TOP})">'
        f"{panel}</g>\n"
        for place, panel in enumerate(panels)
    )
    machine = f'<text x="{width - 12}" y="18" text-anchor="end">{where}</text>'
    return svg.frame(width, height, where, _STYLE, f"{names}\n{machine}\n{placed}")


def _panel(title: str, rows: Sequence[Row], results: Results) -> str:
    """One diagram, its origin at the upper left corner of the axes."""
    lengths = results.plan.prompts[: len(rows)]
    xs = _places([math.log2(length) for length in lengths])
    top = _round_up(max(row.spread(side).high for row in rows for side in results.sides))
    parts = [f'<text class="title" x="0" y="-14">{title}</text>', _grid(top), _ticks(lengths, xs)]
    parts += [_line(place, side, rows, xs, top) for place, side in enumerate(results.sides)]
    return "".join(parts)


def _line(place: int, side: str, rows: Sequence[Row], xs: Sequence[float], top: float) -> str:
    def y(value: float) -> float:
        return _HEIGHT * (1 - value / top)

    spreads = [row.spread(side) for row in rows]
    points = [
        (x, y(each.median), y(each.low), y(each.high)) for x, each in zip(xs, spreads, strict=True)
    ]
    return svg.line(f"side{place}", points)


def _grid(top: float) -> str:
    lines = []
    for part in range(5):
        y, value = _HEIGHT * (1 - part / 4), top * part / 4
        lines.append(
            f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{y}" y2="{y}"/>'
            f'<text x="-8" y="{y + 4}" text-anchor="end">{value:,.4g}</text>'
        )
    return "".join(lines)


def _ticks(lengths: Sequence[int], xs: Sequence[float]) -> str:
    ticks = "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT + 18}" text-anchor="middle">{length:,}</text>'
        for x, length in zip(xs, lengths, strict=True)
    )
    return ticks + (
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 34}" text-anchor="middle">prompt, tokens</text>'
    )


def _places(values: Sequence[float]) -> list[float]:
    """Values spread over the width, with a margin on both sides."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return [24 + (_WIDTH - 48) * (value - low) / span for value in values]


def _round_up(value: float) -> float:
    """The next number that quarters well.

    >>> _round_up(173.0)
    200.0
    """
    unit = 10 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return float(unit * next(step for step in (1, 2, 4, 6, 8, 10) if value <= step * unit))
