"""Expert use by skill and language as an SVG: a row for each kind of text, a block for each layer.

A cell is how often an expert was chosen, against the mean of all experts: white is the mean or
less, the darkest is four times as often.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from qwen3_mlx.evaluation.experts import ExpertUse, information
from qwen3_mlx_app import svg

__all__ = ["draw"]

_CELL, _GAP, _LEFT, _TOP = 14, 18, 130, 64
_MOST = 4.0  # times the mean
_STYLE = """\
svg { background: #ffffff; color: #1f2328; font: 12px system-ui, sans-serif }
text { fill: currentColor } .cell { fill: #6741d9 } .frame { fill: none; stroke: currentColor;
  opacity: .3 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; color: #e6edf3 } .cell { fill: #b197fc }
}
"""


def draw(use: ExpertUse, title: str) -> str:
    """The whole picture.

    Args:
        use: counts (layers, E) by (skill, language).
        title: what was looked at.
    """
    kinds = sorted(use)
    layers, experts = use[kinds[0]].shape
    block = experts * _CELL + _GAP
    width, height = _LEFT + layers * block, _TOP + len(kinds) * _CELL + 24
    names = "".join(
        f'<text x="{_LEFT - 8}" y="{_TOP + row * _CELL + 11}" text-anchor="end">'
        f"{escape(skill)} {escape(language)}</text>\n"
        for row, (skill, language) in enumerate(kinds)
    )
    bits = information(use)
    blocks = "".join(
        f'<g transform="translate({_LEFT + layer * block} {_TOP})">'
        f'<text x="0" y="-8">layer {layer}, {bits[layer]:.2f} bits</text>'
        f"{_cells(use, kinds, layer)}"
        f'<rect class="frame" width="{experts * _CELL}" height="{len(kinds) * _CELL}"/></g>\n'
        for layer in range(layers)
    )
    body = (
        f'<text x="{_LEFT}" y="20">Expert use by skill and language: {escape(title)}</text>\n'
        f'<text x="{_LEFT}" y="36">Columns are experts; the darkest are chosen four times as '
        f"often as the mean</text>\n{names}{blocks}"
    )
    return svg.frame(width, height, escape(title), _STYLE, body)


def _cells(use: ExpertUse, kinds: list[tuple[str, str]], layer: int) -> str:
    parts = []
    for row, kind in enumerate(kinds):
        counts = use[kind][layer]
        for place, count in enumerate(counts):
            strength = min(1.0, max(0.0, float(count / counts.mean()) - 1) / (_MOST - 1))
            if strength > 0.01:
                parts.append(
                    f'<rect class="cell" x="{place * _CELL}" y="{row * _CELL}" width="{_CELL}" '
                    f'height="{_CELL}" opacity="{strength:.2f}"/>'
                )
    return "".join(parts)
