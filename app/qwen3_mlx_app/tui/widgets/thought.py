"""A thought: one live line, with as much of its text below as the view allows."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import Phase, Turn, View
from qwen3_mlx_app.tui.text import clean, meter, seconds, tokens

__all__ = ["Thought"]

#: A preview of six rows never needs more text than this, however long the thought grows.
_PREVIEW_CHARACTERS = 2_000


class Thought(Vertical):
    """Folded, previewed or open. A click on the line opens or folds this one alone."""

    HELP = "{view} goes round: fold (live lines, folded when done), open, line."

    def __init__(self) -> None:
        super().__init__()
        self._own: bool | None = None
        self._view: View | None = None
        self._turn: Turn | None = None
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(classes="thought-title")
        with VerticalScroll(classes="thought-body", can_focus=False):
            yield Static(classes="thought-text")

    def on_mount(self) -> None:
        body = self.query_one(VerticalScroll)
        body.display = False
        body.anchor()

    def sync(self, turn: Turn, view: View, now: float) -> None:
        """Draw the turn's thought, in place so that the transcript keeps its position."""
        if view != self._view:
            self._view, self._own = view, None
        self._turn = turn
        live = turn.phase is Phase.THINKING
        preview = live and view == "fold" and self._own is None
        opened = preview or (view == "open" if self._own is None else self._own)
        self.query_one(".thought-title", Static).update(_title(turn, opened, now))
        body = self.query_one(VerticalScroll)
        body.display = opened
        body.set_class(preview, "-preview")
        drawn = (len(turn.thought), preview, opened)
        if opened and drawn != self._drawn:
            self._drawn = drawn
            text = turn.thought[-_PREVIEW_CHARACTERS:] if preview else turn.thought
            self.query_one(".thought-text", Static).update(Content(clean(text.strip("\n"))))

    @on(Click, ".thought-title")
    def flip(self) -> None:
        """Open or fold this thought, whatever the view says of the others."""
        for ancestor in self.ancestors:
            if isinstance(ancestor, VerticalScroll):
                # The line stays under the pointer; following goes on with the next message.
                ancestor.release_anchor()
        if self._turn is not None and self._view is not None:
            self._own = not self.query_one(VerticalScroll).display
            self.sync(self._turn, self._view, self._turn.thought_started or 0.0)


def _title(turn: Turn, opened: bool, now: float) -> Content:
    """`▸ Thought 14s · 1,204 tokens`."""
    live = turn.phase is Phase.THINKING
    name = t("Thinking") if live else t("Thought")
    title = Content.assemble(
        ("▾ " if opened else "▸ ", "$secondary"),
        (name, "$secondary bold" if live else "$secondary"),
        (f" {seconds(turn.thinking_for(now))} · {_count(turn, live)}", "$text-muted"),
    )
    if live and turn.budget:
        filled, empty = meter(turn.thought_tokens / turn.budget)
        title += Content.assemble("  ", (filled + empty, "$secondary on $panel"))
    if live:
        title += Content.styled(f"  {say('{answer_now} answer now')}", "$text-muted")
    return title


def _count(turn: Turn, live: bool) -> str:
    """`812 / 2,048 tokens` while there is a budget; at the end, who ended the thought."""
    if live and turn.budget:
        return t("{n:,} / {total:,} tokens", n=turn.thought_tokens, total=turn.budget)
    text = tokens(turn.thought_tokens)
    why = {
        "budget": t("budget used up"), "user": t("ended by you"),
        "loop": t("ended: it went round in circles"), "context": t("ended: the context is full"),
        "length": t("ended: the rest is for the answer"),
    }  # fmt: skip
    return text if live or turn.ended_by not in why else f"{text} · {why[turn.ended_by]}"
