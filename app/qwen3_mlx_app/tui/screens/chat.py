"""The chat screen: joins the session, its widgets and the keys."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import MouseUp
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import TextArea

from ..clipboard import copy_with_pbcopy
from ..commands import Unknown, parse
from ..session import Session
from ..state import VIEWS, Turn, View
from ..text import clean
from ..widgets.composer import Composer, Hints, QueueChip
from ..widgets.header import HeaderBar
from ..widgets.keybar import KeyBar
from ..widgets.note import NoticeLine, load_error
from ..widgets.status import StatusLine
from ..widgets.thought import Thought
from ..widgets.turn import TurnView
from ..widgets.welcome import Welcome
from .help import HelpScreen

__all__ = ["ChatScreen"]

TICKS_PER_SECOND = 20

#: The footer's keys; on a narrow screen the last are left out, and F1 still lists them.
FOOTER = ("submit", "stop", "think", "retry", "new", "copy", "help", "view", "quit")


class ChatScreen(Screen[None]):
    """Transcript, composer, gauges, keys. The state is drained 20 times a second while it moves."""

    AUTO_FOCUS = "#composer"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape",
            "stop",
            "Stop",
            key_display="esc",
            tooltip="Stop the answer, keep its text; un-queue first",
        ),
        Binding("ctrl+t", "think", "Think", priority=True, tooltip="Think before answering"),
        Binding("ctrl+r", "retry", "Retry", priority=True, tooltip="Answer the last question anew"),
        Binding("ctrl+n", "new", "New", priority=True, tooltip="Start a new chat"),
        Binding("ctrl+y", "copy", "Copy", priority=True, tooltip="Copy the last answer"),
        Binding(
            "ctrl+f",
            "view",
            "Fold",
            priority=True,
            tooltip="Show thoughts folded, open, or as a line",
        ),
        Binding("f1", "help", "Help", key_display="F1", priority=True, tooltip="Show this help"),
    ]

    def __init__(
        self, session: Session, model_name: str, hint: str = "", blink: bool = True
    ) -> None:
        super().__init__()
        self.session = session
        self.state = session.state
        self._model_name = model_name
        self._hint = hint
        self._blink = blink
        self._timer: Timer | None = None
        self.views: list[TurnView] = []
        self._shown_load_error: Exception | None = None
        self._was_running = False
        self._drawing = asyncio.Lock()

    def compose(self) -> ComposeResult:
        yield HeaderBar(self._model_name)
        yield Welcome(self._hint)
        with VerticalScroll(id="transcript", can_focus=False):
            # An anchored scroll pins short content to its bottom; this one fills the height.
            yield Vertical(id="turns")
        with Vertical(id="bottom"):
            yield Hints()
            yield QueueChip()
            yield Composer()
            yield StatusLine()
        yield KeyBar(FOOTER)

    def on_mount(self) -> None:
        self.composer.cursor_blink = self._blink
        self.transcript.anchor()
        self._sync_chrome()
        self._timer = self.set_interval(1 / TICKS_PER_SECOND, self._tick)
        # The first frame is drawn before the model is asked for.
        self.call_after_refresh(self.session.start)

    @property
    def composer(self) -> Composer:
        """Where messages are typed."""
        return self.query_one(Composer)

    @property
    def transcript(self) -> VerticalScroll:
        """Where the turns are."""
        return self.query_one("#transcript", VerticalScroll)

    @property
    def turns(self) -> Vertical:
        """What the transcript scrolls."""
        return self.query_one("#turns", Vertical)

    # Drawing

    async def _tick(self) -> None:
        """Drain and draw; an idle chat costs nothing but the tick itself."""
        if self.session.drain() or self.state.busy:
            await self.sync()

    async def sync(self) -> None:
        """Bring every widget up to the state.

        Timers run beside the message loop, so a key press can arrive in the middle of a tick.
        """
        async with self._drawing:
            await self._sync_turns()
            await self._sync_load_error()
            self._sync_chrome()

    async def _sync_turns(self) -> None:
        """Turns are only ever added at the end, or taken away by retry and new."""
        turns = self.state.turns
        for view in [view for view in self.views if view.turn not in turns]:
            self.views.remove(view)
            await view.remove()
        for turn in turns[len(self.views) :]:
            await self._mount_turn(turn)
        now, loaded = self.session.clock(), self.state.info is not None
        for view in self.views:
            if not view.finished:
                await view.sync(self.state.view, now, loaded)

    async def _mount_turn(self, turn: Turn) -> None:
        view = TurnView(turn)
        self.views.append(view)
        await self.turns.mount(view)
        self.transcript.anchor()

    async def _sync_load_error(self) -> None:
        """A model that failed to load while nobody waited for an answer says so here."""
        error = self.state.load_error
        if error is self._shown_load_error:
            return
        self._shown_load_error = error
        if error is not None and not any(turn.error is error for turn in self.state.turns):
            await self.turns.mount(load_error(error))

    def _sync_chrome(self) -> None:
        """Everything but the turns."""
        state = self.state
        self.query_one(Welcome).sync(state)
        self.transcript.display = not self.query_one(Welcome).display
        self.query_one(HeaderBar).sync(state)
        self.query_one(QueueChip).sync(state.queued)
        self.query_one(StatusLine).sync(state, self.session.clock())
        stoppable = state.generating or state.queued is not None
        if stoppable != self._was_running:
            self._was_running = stoppable
            self.refresh_bindings()

    def notice(self, text: str) -> None:
        """A dim line at the end of the transcript."""
        if self.query_one(Welcome).display:
            self.notify(text, timeout=4)
        else:
            self.turns.mount(NoticeLine(text))

    # The composer

    @on(TextArea.Changed, "#composer")
    def hint(self, event: TextArea.Changed) -> None:
        """List the commands while one is being typed."""
        self.query_one(Hints).sync(event.text_area.text)

    @on(Composer.Submitted)
    async def submit(self, event: Composer.Submitted) -> None:
        """Run a command, or send the message."""
        parsed = parse(event.text)
        if isinstance(parsed, Unknown):
            self.notice(parsed.message)
            self.composer.put(event.text)
        elif parsed is not None:
            command, argument = parsed
            command.run(self, argument)
        else:
            self.session.send(clean(event.text))
        await self.sync()

    def on_mouse_up(self, _: MouseUp) -> None:
        """A click anywhere leaves the composer ready to type in."""
        self.call_later(self.composer.focus)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is dim while there is nothing to stop."""
        if action == "stop":
            return True if self.state.generating or self.state.queued is not None else None
        return True

    async def action_stop(self) -> None:
        """Un-queue first: the text goes back to the composer, where it can be changed."""
        queued = self.session.stop()
        if queued is not None:
            self.composer.put("\n".join(part for part in (queued, self.composer.text) if part))
        await self.sync()

    def action_think(self) -> None:
        """Switch the mode of the next message."""
        self._tell(self.session.toggle_thinking())

    async def action_retry(self) -> None:
        """Answer the last question anew."""
        self.retry()
        await self.sync()

    async def action_new(self) -> None:
        """Start a new chat."""
        self.new_chat()
        await self.sync()

    def action_copy(self) -> None:
        """Copy the last answer."""
        self.copy_answer()

    async def action_view(self) -> None:
        """Fold, open, line."""
        await self._show_view(self.state.next_view())

    def action_help(self) -> None:
        """Show the help."""
        self.show_help()

    def action_page(self, direction: int) -> None:
        """Scroll the transcript by a page; the bottom holds on to the newest text again."""
        if direction < 0:
            self.transcript.scroll_page_up()
        else:
            self.transcript.scroll_page_down()

    # What the commands ask for (see commands.CommandTarget)

    def show_help(self) -> None:
        """A card with every key and command."""
        hints = [widget.HELP for widget in (Composer, HeaderBar, Thought) if widget.HELP]
        self.app.push_screen(HelpScreen(self._help_keys(), hints))

    def new_chat(self) -> None:
        """Forget the conversation, keep the model and the settings."""
        self.session.new()
        self.turns.remove_children(NoticeLine)

    def set_thinking(self, on: bool) -> None:
        """Set the mode of the messages to come."""
        self._tell(self.session.set_thinking(on))

    def ask(self, text: str, thinks: bool) -> None:
        """Send a message with a mode of its own."""
        self.session.send(clean(text), thinks)

    def retry(self) -> None:
        """Answer the last question anew."""
        if self.session.retry() is None:
            why = "stop the answer first" if self.state.generating else "nothing was asked yet"
            self.notify(f"Nothing to retry: {why}.", timeout=3)

    def set_system(self, text: str) -> None:
        """The system prompt of the messages to come."""
        self.state.system = text or None
        self.notice(f"System prompt: {text}" if text else "The system prompt is removed.")

    def set_view(self, view: str) -> None:
        """How thoughts are shown; without a name, the next way."""
        if view and view not in VIEWS:
            self.notice(f"/thoughts takes one of: {', '.join(VIEWS)}")
            return
        self.state.view = _as_view(view) if view else self.state.next_view()
        self._redraw_view()

    @work(exclusive=True, group="view")
    async def _redraw_view(self) -> None:
        await self._show_view(self.state.view)

    def copy_answer(self) -> None:
        """To the terminal's clipboard, and the Mac's."""
        answer = self.state.last_answer
        if not answer:
            self.notify("There is no answer to copy yet.", timeout=3)
            return
        self.app.copy_to_clipboard(answer)
        self.run_worker(lambda: copy_with_pbcopy(answer), thread=True, group="clipboard")
        self.notify("Answer copied.", timeout=2)

    def quit(self) -> None:
        """Leave the app."""
        self.app.exit()

    # Helpers

    def _tell(self, reason: str | None) -> None:
        """The new mode in the header, or why it stays."""
        if reason is not None:
            self.notify(reason, timeout=4)
        self.query_one(HeaderBar).sync(self.state)

    async def _show_view(self, view: View) -> None:
        now, loaded = self.session.clock(), self.state.info is not None
        async with self._drawing:
            for turn_view in self.views:
                await turn_view.sync(view, now, loaded)
        self.notify(f"Thoughts: {view}", timeout=1.5)

    def _help_keys(self) -> list[tuple[str, str]]:
        """Every binding here that says what it is for, the footer's first."""
        bindings = [active.binding for active in self.active_bindings.values()]
        bindings.sort(key=lambda b: FOOTER.index(b.action) if b.action in FOOTER else len(FOOTER))
        rows: dict[str, str] = {}
        for binding in bindings:
            if binding.tooltip:
                rows.setdefault(binding.tooltip, self.app.get_key_display(binding))
        return [(key, tooltip) for tooltip, key in rows.items()]


def _as_view(name: str) -> View:
    return next(view for view in VIEWS if view == name)
