"""Draws gains over mlx-lm as an SVG: a line each, on a logarithmic axis.

    python scripts/plot_gains.py RESULTS OUT.svg

RESULTS is the folder that `scripts/measure` fills: `gains.jsonl` from the scripts, `*.json` from
`qwen3-mlx bench --json`. The dot is the median of all turns, the stroke their middle half.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from gains import Gain

LEFT, WIDTH, ROW, TOP = 300, 420, 22, 44
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)
STYLE = """\
svg { background: #ffffff; color: #1f2328; font: 12px system-ui, sans-serif }
.dot { fill: #6741d9 } .span { stroke: #6741d9; stroke-width: 5; opacity: .35 }
.grid { stroke: currentColor; opacity: .15 } .even { stroke: currentColor; opacity: .6 }
text { fill: currentColor } .title { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; color: #e6edf3 } .dot { fill: #b197fc } .span { stroke: #b197fc }
}
"""


def read(results: Path) -> Iterator[Gain]:
    """Everything that has a gain, scripts first."""
    lines = results / "gains.jsonl"
    if lines.exists():
        for line in lines.read_text().splitlines():
            yield Gain(**json.loads(line))
    for path in sorted(results.glob("*.json")):
        for row in json.loads(path.read_text())["rows"]:
            ours, theirs = row["rounds"].values()
            if row["unit"] != "B":
                faster_is_more = row["unit"] == "t/s"
                pairs = zip(ours, theirs, strict=True)
                gains = [a / b if faster_is_more else b / a for a, b in pairs]
                yield Gain.of(f"{path.stem}: {row['test']}", gains)


def draw(gains: Sequence[Gain]) -> str:
    """The whole picture."""
    low = min(0.5, *(gain.low for gain in gains))
    high = max(2.0, *(gain.high for gain in gains))

    def x(value: float) -> float:
        return LEFT + WIDTH * math.log(value / low) / math.log(high / low)

    height = TOP + ROW * len(gains) + 16
    bottom = height - 12
    parts = ['<text class="title" x="12" y="20">times as fast as mlx-lm</text>']
    for tick in TICKS:
        if low <= tick <= high:
            parts.append(
                f'<line class="{"even" if tick == 1 else "grid"}" x1="{x(tick):.1f}" '
                f'x2="{x(tick):.1f}" y1="{TOP - 10}" y2="{bottom}"/>'
                f'<text x="{x(tick):.1f}" y="{TOP - 16}" text-anchor="middle">{tick:g}</text>'
            )
    for place, gain in enumerate(gains):
        y = TOP + ROW * place + 8
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(gain.name)}</text>'
            f'<line class="span" x1="{x(gain.low):.1f}" x2="{x(gain.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{x(gain.median):.1f}" cy="{y}" r="4"/>'
            f'<text x="{LEFT + WIDTH + 12}" y="{y + 4}">{gain.median:.3g}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {height}" '
        f'role="img">\n<title>Gains over mlx-lm</title>\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main(results: str, out: str) -> None:
    gains = list(read(Path(results)))
    if not gains:
        raise SystemExit(f"{results} has no gains: run scripts/measure first")
    Path(out).write_text(draw(gains), encoding="utf-8")
    for gain in gains:
        print(f"{gain.name:45} {gain}")


if __name__ == "__main__":
    main(*sys.argv[1:])
