"""One turn of the transcript: the question, the thought, the answer, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from ..state import Phase, Turn, View
from ..text import tokens_per_second
from .note import NoticeLine, turn_error
from .thought import Thought
from .user_turn import UserTurn

if TYPE_CHECKING:
    from .answer import Answer

__all__ = ["TurnView"]


class TurnView(Vertical):
    """Draws one `Turn`; parts are mounted when there is something to put in them."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn
        self.finished = False
        self._thought: Thought | None = None
        self._answer: Answer | None = None
        self._notices = 0

    def compose(self) -> ComposeResult:
        yield UserTurn(self.turn.user)
        yield Static(classes="activity")

    async def sync(self, view: View, now: float, loaded: bool) -> None:
        """Bring the widgets up to the turn. After the end only the view of thoughts changes."""
        turn = self.turn
        await self._sync_thought(view, now)
        if self.finished:
            return
        await self._sync_notices()
        await self._sync_answer()
        self._sync_activity(loaded)
        if not turn.running:
            self.finished = True
            await self._mount_end(loaded)

    async def _sync_thought(self, view: View, now: float) -> None:
        if not self.turn.thought:
            return
        if self._thought is None:
            self._thought = Thought()
            await self.mount(self._thought, before=self.query_one(".activity"))
        self._thought.sync(self.turn, view, now)

    async def _sync_notices(self) -> None:
        for text in self.turn.notices[self._notices :]:
            await self.mount(NoticeLine(text), before=self.query_one(".activity"))
        self._notices = len(self.turn.notices)

    async def _sync_answer(self) -> None:
        if not self.turn.answer.strip():
            return
        if self._answer is None:
            # Markdown is a third of the app's imports, and the first frame does not need it.
            from .answer import Answer

            self._answer = Answer()
            await self.mount(self._answer, before=self.query_one(".activity"))
        await self._answer.sync(self.turn.answer, final=not self.turn.running)

    def _sync_activity(self, loaded: bool) -> None:
        activity = self.query_one(".activity", Static)
        activity.display = self.turn.phase in (Phase.WAITING, Phase.READING)
        if activity.display:
            activity.update(_activity(self.turn, loaded))

    async def _mount_end(self, loaded: bool) -> None:
        turn = self.turn
        if turn.error is not None:
            await self.mount(turn_error(turn, turn.error, loaded))
        elif (stats := _stats(turn)) is not None:
            await self.mount(Static(stats, classes="stats"))


def _activity(turn: Turn, loaded: bool) -> str:
    """What is going on before the first token."""
    if not loaded:
        return "Waiting for the model…"
    if turn.prompt_total:
        return f"Reading {turn.prompt_done:,} / {turn.prompt_total:,} tokens…"
    return "Reading…"


def _stats(turn: Turn) -> Content | None:
    """`1,204 think + 187 answer · 74 tok/s · first token 0.31 s`, and why it ended early."""
    if turn.reply is None:
        return None
    counts = [(turn.thought_tokens, "think"), (turn.answer_tokens, "answer")]
    parts = [" + ".join(f"{count:,} {name}" for count, name in counts if count) or "no tokens"]
    if (rate := turn.rate(0.0)) > 0:
        parts.append(tokens_per_second(rate))
    if (first := turn.reply.timing.ttft_seconds) > 0:
        parts.append(f"first token {first:.2f} s")
    why = {"cancelled": "stopped", "timeout": "out of time", "length": "cut: out of tokens"}
    note = why.get(turn.finish or "", "")
    return Content.assemble(
        (f"{note} · " if note else "", "$text-warning"), (" · ".join(parts), "$text-muted")
    )
