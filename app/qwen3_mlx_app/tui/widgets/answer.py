"""The answer: Markdown that grows while it is being written."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Markdown, markdown

from qwen3_mlx_app.tui.markdown import answer_parser
from qwen3_mlx_app.tui.text import clean
from qwen3_mlx_app.tui.widgets.growing import GROWING_LISTS

__all__ = ["Answer"]


#: What is a formula, or the target of a link, only when its end is there.
_LATER = ("$$", "\\[", "]: ")


class MarkdownFence(markdown.MarkdownFence):
    """Code. Where no language is named it is text: Pygments would guess for seconds, each time."""

    @classmethod
    def highlight(cls, code: str, language: str, ansi: bool = False, dark: bool = False) -> Content:
        """The code in its colours."""
        return super().highlight(code, language or "text", ansi, dark)


class Answer(Markdown):
    """Growing Markdown. Textual's MarkdownStream would write from a task of its own, which outlives
    the widget when the app is left in the middle of an answer.
    """

    BLOCKS = {  # noqa: RUF012 (as Textual declares it)
        **Markdown.BLOCKS, **GROWING_LISTS, "fence": MarkdownFence, "code_block": MarkdownFence,
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__(parser_factory=answer_parser)
        self._written = 0
        self._grew = False
        self.text = ""

    async def sync(self, text: str) -> None:
        """Write what is new; `text` stays as the model wrote it."""
        if self._written == len(text):
            return
        self._grew |= self._written > 0
        fragment, self._written, self.text = text[self._written :], len(text), text
        await self.append(clean(fragment))

    async def settle(self) -> None:
        """Read a text that grew whole, where pieces of it may have been read otherwise."""
        if self._grew and any(mark in self.text for mark in _LATER):
            await self.update(clean(self.text))
