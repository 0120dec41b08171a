"""One turn of the transcript: the question, the thought, the answer, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.describe import why_ended
from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import Phase, Turn, View
from qwen3_mlx_app.tui.text import tokens_per_second
from qwen3_mlx_app.tui.widgets.note import NoticeLine, turn_error
from qwen3_mlx_app.tui.widgets.thought import Thought
from qwen3_mlx_app.tui.widgets.tool_line import ToolLine
from qwen3_mlx_app.tui.widgets.user_turn import UserTurn

if TYPE_CHECKING:
    from qwen3_mlx_app.tui.widgets.answer import Answer

__all__ = ["TurnView"]


class TurnView(Vertical):
    """Draws one `Turn`; parts are mounted when there is something to put in them."""

    def __init__(self, turn: Turn, place: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.turn = turn
        self._place = place
        self.finished = False
        self._thought: Thought | None = None
        self._answers: dict[int, Answer] = {}
        self._notices = 0
        self._tools: list[ToolLine] = []

    def compose(self) -> ComposeResult:
        yield UserTurn(self.turn.user, self._place)
        yield Static(classes="activity")

    async def sync(self, view: View, now: float, loaded: bool) -> None:
        """Bring the widgets up to the turn. After the end only the view of thoughts changes."""
        turn = self.turn
        await self._sync_thought(view, now)
        if self.finished and turn.running:
            await self._go_on()
        if self.finished:
            return
        await self._sync_notices()
        await self._sync_parts()
        self._sync_activity(loaded)
        if not turn.running:
            self.finished = True
            await self._mount_end()

    async def _go_on(self) -> None:
        """An answer that was cut off is being continued: what its end said is over."""
        self.finished = False
        await self.query(".end").remove()

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

    async def _sync_parts(self) -> None:
        """Texts and calls in the order in which they came."""
        turn, begin = self.turn, 0
        for line in [line for line in self._tools if line.use not in turn.tools]:
            self._tools.remove(line)  # what began as a call was none after all
            await line.remove()
        ends = sorted({use.after[1] for use in turn.tools if use.after is not None})
        for at, end in enumerate([*ends, None]):
            await self._sync_answer(at, turn.answer[begin:end])
            for use in turn.tools[len(self._tools) :]:
                if end is None or (use.after is not None and use.after[1] == end):
                    self._tools.append(ToolLine(use))
                    await self.mount(self._tools[-1], before=self.query_one(".activity"))
            begin = end or 0
        for line in self._tools:
            line.sync()

    async def _sync_answer(self, at: int, text: str) -> None:
        """The text before the calls of a step, or after the last of them."""
        if not text.strip():
            return
        if at not in self._answers:
            # Markdown is a third of the app's imports, and the first frame does not need it.
            from qwen3_mlx_app.tui.widgets.answer import Answer

            self._answers[at] = Answer()
            await self.mount(self._answers[at], before=self.query_one(".activity"))
        await self._answers[at].sync(text)

    def _sync_activity(self, loaded: bool) -> None:
        activity = self.query_one(".activity", Static)
        activity.display = self.turn.phase in (Phase.WAITING, Phase.READING)
        if activity.display:
            activity.update(_activity(self.turn, loaded))

    async def _mount_end(self) -> None:
        turn = self.turn
        for answer in self._answers.values():
            await answer.settle()
        if turn.error is not None:
            note = turn_error(turn, turn.error)
            note.add_class("end")
            await self.mount(note)
        elif (stats := _stats(turn)) is not None:
            await self.mount(Static(stats, classes="stats end"))


def _activity(turn: Turn, loaded: bool) -> str:
    """What is going on before the first token."""
    if not loaded:
        return t("Waiting for the model…")
    if turn.prompt_total:
        done, total = turn.prompt_done, turn.prompt_total
        return t("Reading {done:,} / {total:,} tokens…", done=done, total=total)
    return t("Reading…")


def _why(turn: Turn) -> str:
    """Why an answer ended before its end, and what can be done about it."""
    why = why_ended(turn)
    return f"{why} · {say('{go_on} continues')}" if why and turn.can_continue else why


def _stats(turn: Turn) -> Content | None:
    """`1,204 think + 187 answer · 74 tok/s · first token 0.31 s`, and why it ended early."""
    if turn.finish == "interrupted":
        text = say("interrupted: the program ended while it answered · {go_on} continues")
        return Content.styled(text, "$warning")
    if turn.reply is None:
        return None
    counts = [(turn.thought_tokens, t("think")), (turn.answer_tokens, t("answer"))]
    said = " + ".join(f"{count:,} {name}" for count, name in counts if count)
    parts = [said or t("no tokens")]
    if (rate := turn.rate(0.0)) > 0:
        parts.append(tokens_per_second(rate))
    if (first := turn.reply.timing.ttft_seconds) > 0:
        parts.append(t("first token {s:.2f} s", s=first))
    note = _why(turn)
    return Content.assemble(
        (f"{note} · " if note else "", "$text-warning"), (" · ".join(parts), "$text-muted")
    )
