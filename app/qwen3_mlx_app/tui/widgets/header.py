"""The top line: which model answers, and whether it thinks first."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from ..state import ChatState
from ..text import clean, gigabytes

__all__ = ["HeaderBar"]


class HeaderBar(Horizontal):
    """Model and quantisation at the left, the mode as a pill at the right."""

    HELP = "The pill at the right is the mode of your next message; ^t switches it."

    def __init__(self, model_name: str) -> None:
        super().__init__()
        self._model_name = model_name

    def compose(self) -> ComposeResult:
        yield Static(id="model")
        yield Static(id="pill")

    def sync(self, state: ChatState) -> None:
        """Draw the state."""
        self.query_one("#model", Static).update(self._model(state))
        pill = self.query_one("#pill", Static)
        pill.update("THINK" if state.thinking else "NO THINK")
        pill.set_class(state.thinking, "-on")

    def _model(self, state: ChatState) -> Content:
        if (info := state.info) is not None:
            name, detail = info.name, info.quantization
        else:
            name, detail = self._model_name, _progress(state)
        return Content.assemble((clean(name), "bold"), (f"  {clean(detail)}", "$text-muted"))


def _progress(state: ChatState) -> str:
    if state.load_error is not None:
        return "not loaded"
    if state.loading is not None and state.loading.total:
        return f"loading {gigabytes(state.loading.done)} of {gigabytes(state.loading.total)}"
    return "loading…"
