"""The question whether a tool may run, above the composer, which stays open beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.message import Message
from textual.widgets import Static

from qwen3_mlx_app.tui.approval import Verdict
from qwen3_mlx_app.tui.calls import ToolUse
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.text import clean, plain_json

__all__ = ["Approval"]

#: A letter that comes sooner was meant for the composer, and must not say yes.
SETTLE_SECONDS = 0.5


class Approval(VerticalScroll, can_focus=True):
    """The call with all its arguments, and three keys. Other letters go on into the composer."""

    HELP = (
        "Before a tool runs you are asked: y runs it once, a always in this chat, n does not and "
        "tells the model, esc stops the answer. Tab goes from the composer to the question. Space "
        "on a call opens its result, m shows all of it."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('yes')", "Yes"),
        Binding("a", "answer('always')", "Always"),
        Binding("n", "answer('no')", "No"),
        Binding("tab", "write", "Message", key_display="⇥"),
    ]

    #: What the key bar shows while the question has the focus.
    KEYS = ("answer('yes')", "answer('always')", "answer('no')", "stop", "write")

    class Answered(Message):
        """The person has decided."""

        def __init__(self, verdict: Verdict) -> None:
            super().__init__()
            self.verdict = verdict

    class Left(Message):
        """Back to the composer; `typed` is the letter that was meant for it."""

        def __init__(self, typed: str = "") -> None:
            super().__init__()
            self.typed = typed

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._since = 0.0
        self.use: ToolUse | None = None

    def compose(self) -> ComposeResult:
        yield Static()

    def sync(self, use: ToolUse | None) -> bool:
        """Ask for this call, or nothing; True if the question is new."""
        self.display = use is not None
        if use is self.use:
            return False
        self.use, self._since = use, self._clock()
        if use is not None:
            self._draw()
        self.scroll_home(animate=False)
        return use is not None

    def watch_has_focus(self, has_focus: bool) -> None:
        """Say which keys answer, or how to get to them."""
        super().watch_has_focus(has_focus)
        self._draw()

    def on_key(self, event: Key) -> None:
        """Letters that mean nothing here are the beginning of a message."""
        bound = event.key in self._bindings.key_to_bindings
        if event.is_printable and event.character and not bound:
            event.stop()
            self.post_message(self.Left(event.character))

    def action_answer(self, verdict: Verdict) -> None:
        """Decide, unless the question has only just come up under the person's fingers."""
        if self._clock() - self._since < SETTLE_SECONDS:
            self.post_message(self.Left(verdict[0]))
        else:
            self.post_message(self.Answered(verdict))

    def action_write(self) -> None:
        """To the composer; the question stays."""
        self.post_message(self.Left())

    def _draw(self) -> None:
        self.border_title = t("May this tool run?")
        keys = t("y once · a always in this chat · n no · esc stop")
        self.border_subtitle = keys if self.has_focus else t("⇥ to answer: yes, always, no")
        if self.use is None:
            return
        content = Content.styled(clean(self.use.name), "$secondary bold")
        for name, value in self.use.values.items():
            content += Content.assemble(
                (f"\n{plain_json(name)[1:-1]}: ", "$text-muted"), plain_json(value)
            )
        self.query_one(Static).update(content)
