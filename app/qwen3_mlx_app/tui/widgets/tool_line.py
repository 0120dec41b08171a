"""A tool that the model asked for: one line with its arguments, and what came of it below."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from qwen3_mlx_app.tui.calls import ToolUse
from qwen3_mlx_app.tui.text import cells, clean, one_line

__all__ = ["ToolLine"]

#: The open result scrolls no further than this; the whole is what `m` shows.
_MOST_CHARACTERS = 2_000


class ToolLine(Vertical):
    """`▸ ⚙ clock {"zone": "UTC"} → 12:00`; `…` while it runs, `?` while it asks, ✗ where it failed.

    A click on the line, or space at the block cursor, opens the result.
    """

    def __init__(self, use: ToolUse) -> None:
        super().__init__()
        self.use = use
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(classes="tool-title")
        yield Static(classes="tool-result")

    def on_mount(self) -> None:
        self.query_one(".tool-result").display = False
        self.sync()

    @property
    def text(self) -> str:
        """The whole call and its whole result."""
        use = self.use
        return f"{use.name} {use.arguments}\n\n{use.result or ''}".strip()

    def sync(self) -> None:
        """Draw how far it is."""
        use, width = self.use, self.app.size.width
        drawn = (use.name, use.arguments, use.asks, use.result, use.failed, width)
        if drawn != self._drawn:
            self._drawn = drawn
            self._draw()

    @on(Click, ".tool-title")
    def flip(self) -> None:
        """Show the result, or only its line."""
        if self.use.result is None:
            return
        for ancestor in self.ancestors:
            if isinstance(ancestor, VerticalScroll):
                ancestor.release_anchor()
        body = self.query_one(".tool-result", Static)
        body.display = not body.display
        said = clean(self.use.result)
        cut = said if len(said) <= _MOST_CHARACTERS else said[:_MOST_CHARACTERS] + "…"
        body.update(Content(cut))
        self._draw()

    def _draw(self) -> None:
        use, room = self.use, max(20, self.app.size.width - 20)
        mark, colour = "→", "$text-muted"
        if use.result is None:
            mark, colour = ("?", "$text-warning") if use.asks else ("…", "$text-muted")
        elif use.failed:
            mark, colour = "✗", "$error"
        fold = "▾ " if self.query_one(".tool-result").display else "▸ "
        asked = one_line(use.arguments, room // 2)
        said = one_line(use.result or "", room - cells(asked) - cells(use.name))
        self.query_one(".tool-title", Static).update(
            Content.assemble(
                (f"{fold if use.result is not None else '  '}⚙ ", "$secondary"),
                (clean(use.name), "$secondary bold"),
                (f" {asked} ", "$text-muted"), (f"{mark} {said}", colour),
            )
        )  # fmt: skip
