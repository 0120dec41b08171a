"""What an empty chat shows."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from ..state import ChatState

__all__ = ["Welcome"]


class Welcome(Static):
    """A greeting, and whether the model is there yet."""

    def __init__(self, hint: str = "") -> None:
        super().__init__()
        self._hint = hint

    def sync(self, state: ChatState) -> None:
        """Draw it while there are no turns."""
        self.display = not state.turns and state.load_error is None
        if not self.display:
            return
        if state.info is None:
            status = "The model is loading. You can type already."
        else:
            status = "Everything you write stays on this computer."
        self.update(
            Content.assemble(
                ("Qwen3", "$primary bold"),
                ("\n\nWhat would you like to know?\n", "$foreground"),
                (status, "$text-muted"),
                (f"\n\n{self._hint}" if self._hint else "", "$text-muted"),
            )
        )
