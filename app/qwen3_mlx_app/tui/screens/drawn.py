"""The chat screen's picture: its widgets, and the tick that draws the state into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import MouseUp, Resize
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static, TextArea

from qwen3_mlx_app.tui.attachments import Attachment, AttachmentError, attached
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.pace import Pace
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.state import Turn
from qwen3_mlx_app.tui.widgets.approval import Approval
from qwen3_mlx_app.tui.widgets.composer import Chips, Composer, Hints, QueueChip
from qwen3_mlx_app.tui.widgets.header import HeaderBar
from qwen3_mlx_app.tui.widgets.keybar import KeyBar
from qwen3_mlx_app.tui.widgets.note import NoticeLine, load_error, store_error
from qwen3_mlx_app.tui.widgets.status import StatusLine
from qwen3_mlx_app.tui.widgets.transcript import Transcript
from qwen3_mlx_app.tui.widgets.turn import TurnView
from qwen3_mlx_app.tui.widgets.welcome import Welcome

__all__ = ["FOOTER", "DrawnChat"]

TICKS_PER_SECOND = 20
LEAST = 44, 12
LEAVING_SECONDS = 10
_FOR_GOOD_SECONDS = 24 * 3600.0

#: The footer's keys; on a narrow screen the last are left out, and F1 still lists them.
FOOTER = (
    "submit", "stop", "answer_now", "think", "retry", "chats", "models", "help", "new", "copy",
    "settings", "quit",
)  # fmt: skip


class DrawnChat(Screen[None]):
    """Transcript, composer, gauges, keys. The state is drained 20 times a second while it moves."""

    AUTO_FOCUS = "#composer"

    def __init__(
        self, session: Session, model_name: str, hint: str = "", still: bool = False
    ) -> None:
        super().__init__()
        self.session = session
        self.state = session.state
        self._model_name = model_name
        self._hint = hint
        self._still = still
        self._shown_load_error: Exception | None = None
        self._shown_trouble = ""
        self._was_running: tuple[object, ...] = ()
        self._pace = Pace()
        self._stale = False
        self._pen = asyncio.Lock()
        self._ticking: Timer | None = None
        self._leaving = False
        self.editing: Turn | None = None
        self.pasted: list[Attachment] = []
        self._draft: tuple[str, list[Attachment]] = "", []  # while an old message is edited

    def compose(self) -> ComposeResult:
        yield HeaderBar(self._model_name)
        yield Welcome(self._hint)
        yield Transcript()
        with Vertical(id="bottom"):
            yield Hints()
            yield QueueChip()
            yield Chips()
            yield Approval(self.session.clock)
            yield Composer()
            yield StatusLine()
        yield KeyBar(FOOTER)
        yield Static(id="small")

    def on_resize(self, event: Resize) -> None:
        """Below the least size there is a word about it instead of a heap of broken lines."""
        width, height = event.size
        least_width, least_height = LEAST
        was_small, small = self.has_class("-small"), width < least_width or height < least_height
        self.set_class(small, "-small")
        if was_small and not small and self.focused is None:  # what is not shown has no focus
            self.call_after_refresh(self.composer.focus)
        text = t(
            "The terminal is too small: {width}×{height}, and {w}×{h} is the least.",
            width=width, height=height, w=least_width, h=least_height,
        )  # fmt: skip
        kept = t("Kept: the chat; an answer goes on.")
        step = t("Make the window larger, or its letters smaller.")
        self.query_one("#small", Static).update(f"{text}\n{kept}\n→ {step}")
        self.query_one(Hints).sync(self.composer.text)
        self._sync_chrome()  # some of it is cut to the width

    def on_mount(self) -> None:
        self.composer.cursor_blink = not self._still
        self.query_one(Chips).sync([])
        self._sync_chrome()
        self._ticking = self.set_interval(1 / TICKS_PER_SECOND, self._tick)
        # The first frame is drawn before the model is asked for.
        self.call_after_refresh(self.session.start)

    @property
    def composer(self) -> Composer:
        """Where messages are typed."""
        return self.query_one(Composer)

    @property
    def transcript(self) -> Transcript:
        """Where the turns are."""
        return self.query_one(Transcript)

    @property
    def views(self) -> list[TurnView]:
        """The turns that are mounted."""
        return self.transcript.views

    async def _tick(self) -> None:
        """Drain and draw; an idle chat costs nothing but the tick itself."""
        queued = self.state.queued
        self._stale |= self.session.drain()
        if queued is not None and self.state.queued is None:
            self.transcript.unhurried = self.state.current
        if (self._stale or self.state.busy) and self._pace.due():
            self._stale = False
            await self.sync()
        async with self.drawing() as may:
            if not may:
                return
            box = self.transcript
            box.keep_place()
            if box.hidden and box.at_the_top:
                await box.show_earlier(self.state, self.session.clock())

    async def sync(self) -> None:
        """Bring every widget up to the state.

        Timers run beside the message loop, so a key press can arrive in the middle of a tick.
        """
        async with self.drawing() as may:
            if may:
                await self.transcript.sync(self.state, self.session.clock())
                await self._sync_load_error()
                self._sync_chrome()
                await self._sync_trouble()

    @asynccontextmanager
    async def drawing(self) -> AsyncIterator[bool]:
        """Be the only one to change the widgets; False where they are about to be taken down."""
        async with self._pen:
            yield not self._leaving

    async def stop_drawing(self) -> None:
        """Finish the picture that is being drawn, and begin no other. Call it before the end."""
        if self._ticking is not None:
            self._ticking.pause()  # stop() would cut a picture in the middle
        self._leaving = True
        with suppress(TimeoutError):  # a picture that hangs must not keep anyone from leaving
            async with asyncio.timeout(LEAVING_SECONDS), self._pen:
                pass

    async def _sync_load_error(self) -> None:
        """A model that failed to load while nobody waited for an answer says so here."""
        error = self.state.load_error
        if error is self._shown_load_error:
            return
        self._shown_load_error = error
        for old in self.transcript.turns.query(".unloaded"):
            await old.remove()
        if error is not None and not any(turn.error is error for turn in self.state.turns):
            note = load_error(error)
            note.add_class("unloaded")
            await self.transcript.turns.mount(note)

    async def _sync_trouble(self) -> None:
        """A chat that cannot be stored says so, until it can be."""
        trouble = self.session.keeper.trouble
        if trouble != self._shown_trouble and self.state.turns:
            self._shown_trouble = trouble
            for old in self.transcript.turns.query(".trouble"):
                await old.remove()
            if trouble:
                note = store_error(trouble)
                note.add_class("trouble")
                await self.transcript.turns.mount(note)

    def _sync_chrome(self) -> None:
        """Everything but the turns."""
        state, keeper = self.state, self.session.keeper
        self.query_one(Welcome).sync(state)
        self.transcript.display = not self.query_one(Welcome).display
        header = self.query_one(HeaderBar)
        header.sync(state)
        header.title(keeper.title, keeper.saved, len(state.turns))
        self.query_one(QueueChip).sync(state.queued)
        self.query_one(StatusLine).sync(state, self.session.clock())
        self._sync_approval()
        phase = state.current.phase if state.current is not None else None
        running = (phase, state.queued is None, self.editing is None)
        if running != self._was_running:
            self._was_running = running
            self.refresh_bindings()

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information",
        timeout: float | None = None, markup: bool = False,
    ) -> None:  # fmt: skip
        """A word in the corner: text, since names and prompts may hold brackets, never markup."""
        shown_seconds = _FOR_GOOD_SECONDS if self._still else timeout
        super().notify(
            message, title=title, severity=severity, timeout=shown_seconds, markup=markup
        )

    def _sync_approval(self) -> None:
        """Ask whether a tool may run; who is writing is not interrupted."""
        turn, approval = self.state.current, self.query_one(Approval)
        new = approval.sync(turn.asking if turn is not None else None)
        if new and self.focused is self.composer and not self.composer.text:
            approval.focus()
        elif approval.use is None and self.focused is approval:
            self.composer.focus()

    def notice(self, text: str) -> None:
        """A dim line at the end of the transcript."""
        if self._leaving:
            return
        if self.query_one(Welcome).display:
            self.notify(text, timeout=4)
        else:
            self.transcript.turns.mount(NoticeLine(text))

    # The composer

    @on(TextArea.Changed, "#composer")
    def hint(self, event: TextArea.Changed) -> None:
        """List the commands while one is being typed, and the files that go along."""
        text = event.text_area.text
        self.query_one(Hints).sync(text)
        self.sync_chips(text)

    def sync_chips(self, text: str) -> None:
        """Show what goes along, and what cannot."""
        try:
            self.query_one(Chips).sync([*self.pasted, *attached(text)])
        except AttachmentError as error:
            self.query_one(Chips).sync(self.pasted, str(error))

    def attachments(self, text: str) -> list[Attachment]:
        """Pastes and named files. Raises AttachmentError for a file that cannot go along."""
        return [*self.pasted, *attached(text)]

    @on(Composer.Pasted)
    def paste(self, event: Composer.Pasted) -> None:
        """A long paste goes along as a chip."""
        name = t("pasted {n}", n=len(self.pasted) + 1)
        self.pasted.append(Attachment(name, event.text))
        self.sync_chips(self.composer.text)

    @on(Approval.Answered)
    async def allow(self, event: Approval.Answered) -> None:
        """The person has decided about a call."""
        self.session.allow(event.verdict)
        await self.sync()

    @on(Composer.Away)
    def answer_call(self) -> None:
        """To the call that waits for an answer."""
        if self.query_one(Approval).use is not None:
            self.query_one(Approval).focus()

    @on(Approval.Left)
    @on(Transcript.Left)
    def write_on(self, event: Approval.Left | Transcript.Left) -> None:
        """Back from the block cursor or a question to the composer, with the letter typed."""
        self.composer.focus()
        if event.typed:
            self.composer.insert(event.typed)

    def on_mouse_up(self, event: MouseUp) -> None:
        """A click anywhere leaves the composer ready to type in, but not one that answers."""
        approval, at = self.query_one(Approval), event.screen_offset
        answers = (approval, self.query_one(KeyBar))
        if self.focused is approval and any(widget.region.contains_point(at) for widget in answers):
            return
        self.call_later(self.composer.focus)
