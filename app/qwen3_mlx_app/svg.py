"""What the pictures of `bench` and `eval` have in common. All texts are escaped by the caller."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["frame", "line"]


def frame(width: float, height: float, title: str, style: str, body: str) -> str:
    """A whole picture, `title` being what a screen reader says."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n{body}</svg>\n"
    )


def line(kind: str, points: Sequence[tuple[float, float, float, float]], after: str = "") -> str:
    """A line through (x, y, low, high), with a dot at y and a stroke from low to high.

    The style says what `.line`, `.dot` and `.span` look like, and what colour `kind` has; `after`
    is drawn in it too.
    """
    marks = "".join(
        f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        for x, y, low, high in points
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    return f'<g class="{kind}">{marks}<polyline class="line" points="{path}"/>{after}</g>'
