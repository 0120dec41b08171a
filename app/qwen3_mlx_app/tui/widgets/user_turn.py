"""What the person said, as it was typed."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from ..text import clean

__all__ = ["UserTurn"]


class UserTurn(Static):
    """A message with a coloured edge. It is shown as typed: no Markdown, no markup."""

    def __init__(self, text: str) -> None:
        super().__init__(Content(clean(text)))
