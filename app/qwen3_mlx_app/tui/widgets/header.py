"""The top line: which model answers, and whether it thinks first."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.budgets import budget_name
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import ChatState
from qwen3_mlx_app.tui.text import clean, gigabytes, one_line

__all__ = ["HeaderBar"]


class HeaderBar(Horizontal):
    """Model and quantisation at the left, the mode as a pill at the right."""

    HELP = "The pill at the right is the mode of your next message; {think} switches it."

    def __init__(self, model_name: str) -> None:
        super().__init__()
        self.model_name = model_name

    def compose(self) -> ComposeResult:
        yield Static(id="model")
        yield Static(id="title")
        yield Static(id="pill")

    def sync(self, state: ChatState) -> None:
        """Draw the state."""
        self.query_one("#model", Static).update(self._model(state))
        pill = self.query_one("#pill", Static)
        pill.update(_mode(state))
        pill.set_class(state.thinking, "-on")

    def title(self, title: str, saved: bool, turns: int) -> None:
        """The chat's title and whether it is stored; an empty chat has neither."""
        room = max(0, self.app.size.width - 54)  # this widget's own size comes a frame later
        state = t("saved") if saved else t("not saved")
        parts = [
            (f"{one_line(title, room)} · " if title and room >= 12 else "", "$text-muted"),
            (state, "$text-muted" if saved else "$warning"),
        ]
        self.query_one("#title", Static).update(Content.assemble(*parts) if turns else "")

    def _model(self, state: ChatState) -> Content:
        if (info := state.info) is not None:
            name, detail = info.name, info.quantization
        else:
            name, detail = self.model_name, _progress(state)
        return Content.assemble((clean(name), "bold"), (f"  {clean(detail)}", "$text-muted"))


def _mode(state: ChatState) -> str:
    if not state.thinking:
        return t("NO THINK")
    return t("THINK") if state.budget is None else f"{t('THINK')} {budget_name(state.budget)}"


def _progress(state: ChatState) -> str:
    if state.load_error is not None:
        return t("not loaded")
    if state.loading is not None and state.loading.total:
        done, total = gigabytes(state.loading.done), gigabytes(state.loading.total)
        return t("loading {done} of {total}", done=done, total=total)
    return t("loading…")
