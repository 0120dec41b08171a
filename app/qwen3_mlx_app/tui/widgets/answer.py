"""The answer: Markdown that grows while it is being written."""

from __future__ import annotations

from textual.widgets import Markdown

from qwen3_mlx_app.tui.markdown import answer_parser
from qwen3_mlx_app.tui.text import clean

__all__ = ["Answer"]


class Answer(Markdown):
    """Growing Markdown. Call `sync` on every tick; it writes on every second one.

    At 20 ticks a second that is 10 writes, which costs a third less than 20 and looks the same.
    Textual's MarkdownStream would write from a task of its own, which outlives the widget when
    the app is left in the middle of an answer.
    """

    def __init__(self) -> None:
        super().__init__(parser_factory=answer_parser)
        self._written = 0
        self._rest = False

    async def sync(self, text: str, final: bool) -> None:
        """Write what is new; with `final`, all of it now."""
        self._rest = not self._rest and not final
        if self._rest or self._written == len(text):
            return
        fragment, self._written = text[self._written :], len(text)
        await self.append(clean(fragment))
