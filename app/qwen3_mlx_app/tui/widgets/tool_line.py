"""A tool that the model asked for: one line with its arguments, and what came of it."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.state import ToolUse
from qwen3_mlx_app.tui.text import one_line

__all__ = ["ToolLine"]


class ToolLine(Static):
    """`⚙ clock {"zone": "UTC"} → 12:00`; `…` while it runs, ✗ where it failed."""

    def __init__(self, use: ToolUse) -> None:
        super().__init__()
        self._use = use

    def sync(self) -> None:
        """Draw how far it is."""
        use, room = self._use, max(20, self.app.size.width - 20)
        mark, colour = ("…", "$text-muted") if use.result is None else ("→", "$text-muted")
        if use.failed:
            mark, colour = "✗", "$error"
        asked = one_line(use.arguments, room // 2)
        said = one_line(use.result or "", room - len(asked) - len(use.name))
        self.update(
            Content.assemble(
                ("⚙ ", "$secondary"), (use.name, "$secondary bold"),
                (f" {asked} ", "$text-muted"), (f"{mark} {said}", colour),
            )
        )  # fmt: skip
