"""What an empty chat shows."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import ChatState

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
            status = t("The model is loading. You can type already.")
        else:
            status = t("Everything you write stays on this computer.")
        self.update(
            Content.assemble(
                ("Qwen3", "$primary bold"),
                (f"\n\n{t('What would you like to know?')}\n", "$foreground"),
                (status, "$text-muted"),
                (f"\n\n{t(self._hint)}" if self._hint else "", "$text-muted"),
            )
        )
