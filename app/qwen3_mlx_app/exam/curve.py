"""Accuracy against the thinking budget as an SVG, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from qwen3_mlx.evaluation.run import Score
from qwen3_mlx_app import svg
from qwen3_mlx_app.exam.report import Results, by_skill

__all__ = ["draw"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 460, 260, 60, 64, 48, 120
_STYLE = """\
svg { background: #ffffff; color: #1f2328; font: 12px system-ui, sans-serif }
.line { fill: none; stroke: currentColor; stroke-width: 2 }
.span { stroke: currentColor; stroke-width: 5; opacity: .3 }
.dot { fill: currentColor } .grid { stroke: currentColor; opacity: .15 } text { fill: currentColor }
.c0 { color: #1f2328 } .c1 { color: #6741d9 } .c2 { color: #c2255c } .c3 { color: #2b8a3e }
.c4 { color: #e8590c } .c5 { color: #1971c2 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; color: #e6edf3 } .c0 { color: #e6edf3 } .c1 { color: #b197fc }
  .c2 { color: #faa2c1 } .c3 { color: #8ce99a } .c4 { color: #ffc078 } .c5 { color: #74c0fc }
}
"""


def draw(results: Results) -> str:
    """A line for each skill: direct answers at the left, then budgets, then no limit."""
    columns = {str(budget): by_skill(found) for budget, found in results.budgets.items()}
    skills = list(next(iter(columns.values()), {}))
    if "direct" in results.modes:
        columns = {"direct": by_skill(results.modes["direct"])} | columns
    if "thinking" in results.modes:
        columns["no limit"] = by_skill(results.modes["thinking"])
    skills.sort(key=lambda skill: skill != "multi-step")
    step = _WIDTH / max(1, len(columns) - 1)
    ticks = "".join(
        f'<text x="{step * place:.1f}" y="{_HEIGHT + 18}" text-anchor="middle">{name}</text>'
        for place, name in enumerate(columns)
    )
    lines = "".join(
        _line(place, skill, [column.get(skill) for column in columns.values()], step)
        for place, skill in enumerate(skills)
    )
    width, height = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM
    title = escape(f"Accuracy against the thinking budget: {results.model}, {results.quantization}")
    body = (
        f'<text x="{_LEFT}" y="24">{title}</text>\n'
        f'<g transform="translate({_LEFT} {_TOP})">{_grid()}{ticks}'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 36}" text-anchor="middle">'
        f"tokens of the thought</text>\n{lines}</g>"
    )
    return svg.frame(width, height, title, _STYLE, body)


def _grid() -> str:
    return "".join(
        f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{_y(part / 4):.1f}" y2="{_y(part / 4):.1f}"/>'
        f'<text x="-10" y="{_y(part / 4) + 4:.1f}" text-anchor="end">{25 * part} %</text>'
        for part in range(5)
    )


def _line(place: int, skill: str, found: Sequence[Score | None], step: float) -> str:
    points = [
        (step * number, _y(one.share), _y(one.interval[0]), _y(one.interval[1]))
        for number, one in enumerate(found)
        if one is not None
    ]
    name = f'<text x="{_WIDTH + 14}" y="{14 + 18 * place}">{escape(skill)}</text>'
    return svg.line(f"c{place % 6}", points, name) + "\n"


def _y(share: float) -> float:
    return _HEIGHT * (1 - share)
