"""One block on the whole screen: its source, to read, to select from and to copy."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import TextArea

from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.text import clean

__all__ = ["BlockScreen"]


class BlockScreen(ModalScreen[None]):
    """The text as the model wrote it, with its LaTeX and Markdown. Esc, m or q closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,m,q", "dismiss", "Back", key_display="esc")
    ]

    def __init__(self, text: str, title: str = "") -> None:
        super().__init__()
        self._text, self._title = clean(text), title

    def compose(self) -> ComposeResult:
        area = TextArea(self._text, read_only=True, soft_wrap=True, id="block")
        area.cursor_blink, area.border_title = False, self._title  # nothing is typed here
        area.border_subtitle = f"esc {t('Back')}"
        yield area
