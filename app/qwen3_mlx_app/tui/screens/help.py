"""F1: every key and command, read from the bindings and the table of commands themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from qwen3_mlx_app.tui.commands import COMMANDS
from qwen3_mlx_app.tui.language import t

__all__ = ["HelpScreen"]


class HelpScreen(ModalScreen[None]):
    """A card over the chat; any of esc, F1, enter or q closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter,q", "dismiss", "Close", key_display="esc")
    ]

    def __init__(self, keys: Iterable[tuple[str, str]], hints: Iterable[str]) -> None:
        """`keys` are pairs of a key and what it does, `hints` the widgets' own words."""
        super().__init__()
        self._keys = list(keys)
        self._hints = list(hints)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(_section(t("Keys"), self._keys))
            yield Static(_section(t("Commands"), [(c.usage, t(c.help)) for c in COMMANDS]))
            yield Static(Content.styled("\n\n".join(self._hints), "$text-muted"))

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()


def _section(title: str, rows: list[tuple[str, str]]) -> Content:
    width = max(len(key) for key, _ in rows) + 2
    lines = [Content.assemble((f"{key:<{width}}", "$primary"), text) for key, text in rows]
    return Content("\n").join([Content.styled(title, "bold"), *lines, Content("")])
