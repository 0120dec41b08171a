"""The turns on show, the last of them mounted, and a cursor that goes over their blocks."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Blur, Key
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import ChatState, Turn
from qwen3_mlx_app.tui.widgets.blocks import BLOCKS, Block
from qwen3_mlx_app.tui.widgets.thought import Thought
from qwen3_mlx_app.tui.widgets.tool_line import ToolLine
from qwen3_mlx_app.tui.widgets.turn import TurnView

__all__ = ["Transcript"]

#: Markdown is slow to mount (43 ms a message): so many turns at once, the rest on scrolling up.
WINDOW = 10


class Transcript(VerticalScroll, can_focus=True):
    """Scrolls the turns. While it has the focus, single letters act on the block at the cursor."""

    HELP = (
        "{blocks} goes to the blocks of the chat, ↑ and ↓ over them: c copies, w writes to a "
        "file, m shows it full screen, space folds a thought, e edits, r answers anew, f forks, "
        "[ and ] flip versions, esc goes back."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+up,up,k", "cursor(-1)", "Block up", show=False),
        Binding("alt+down,down,j", "cursor(1)", "Block down", show=False),
        Binding("c", "act('copy')", "Copy"),
        Binding("w", "act('write')", "Write"),
        Binding("m", "act('maximise')", "Full"),
        Binding("space", "fold", "Fold", key_display="␣"),
        Binding("e", "act('edit')", "Edit"),
        Binding("r", "act('retry')", "Retry"),
        Binding("f", "act('fork')", "Fork"),
        Binding("left_square_bracket", "act('before')", "Before", key_display="["),
        Binding("right_square_bracket", "act('after')", "After", key_display="]"),
        Binding("escape", "leave", "Back", key_display="esc"),
    ]

    #: What the key bar shows while the cursor is on a block.
    KEYS = ("act('copy')", "act('write')", "act('maximise')", "fold", "act('edit')",
            "act('retry')", "act('fork')", "act('before')", "act('after')", "leave")  # fmt: skip

    class Act(Message):
        """A key that acts on the block at the cursor."""

        def __init__(self, name: str, block: Block) -> None:
            super().__init__()
            self.name, self.block = name, block

    class Left(Message):
        """The cursor is put away; `typed` is what was pressed to leave, if it is a letter."""

        def __init__(self, typed: str = "") -> None:
            super().__init__()
            self.typed = typed

    def __init__(self) -> None:
        super().__init__(id="transcript")
        self.views: list[TurnView] = []
        self.hidden = 0
        self.unhurried: Turn | None = None
        self._cursor: Widget | None = None
        self._from_bottom: float | None = None
        self._height = 0

    def compose(self) -> ComposeResult:
        # An anchored scroll pins short content to its bottom; this one fills the height.
        with Vertical(id="turns"):
            yield Static(id="earlier")

    def on_mount(self) -> None:
        self.query_one("#earlier").display = False
        self.anchor()

    @property
    def turns(self) -> Vertical:
        """What is scrolled."""
        return self.query_one("#turns", Vertical)

    async def sync(self, state: ChatState, now: float) -> None:
        """Bring the widgets up to the line of turns on show.

        A new turn is scrolled to, but not the `unhurried` one: it was queued, and the person may
        have gone elsewhere to read.
        """
        line, loaded = state.turns, state.info is not None
        kept = self._common(line)
        lost = self._place_in(self.views[kept:])
        for view in self.views[kept:]:
            await view.remove()
        del self.views[kept:]
        if not self.views:
            self.hidden, self._from_bottom = max(0, len(line) - WINDOW), None
            self._sync_earlier()
        for turn in line[self.hidden + len(self.views) :]:
            self.views.append(TurnView(turn, state.tree.place(turn)))
            await self.turns.mount(self.views[-1])
            if turn is not self.unhurried:
                self.anchor()
                await self._let_earlier_go()
        for view in self.views:
            if not view.finished or view.turn.running:
                await view.sync(state.view, now, loaded)
        if lost is not None:
            self._put_back(state, *lost)

    async def _let_earlier_go(self) -> None:
        """At the end of a long chat the first turns are not drawn: each costs time and memory."""
        left = sum(view.size.height for view in self.views[-WINDOW:])
        if len(self.views) <= 2 * WINDOW or self._cursor is not None or left <= self.size.height:
            return
        gone = len(self.views) - WINDOW
        for view in self.views[:gone]:
            await view.remove()
        del self.views[:gone]
        self.hidden += gone
        self._sync_earlier()

    async def show_view(self, state: ChatState, now: float) -> None:
        """Show all thoughts as the state's view says."""
        for view in self.views:
            await view.sync(state.view, now, state.info is not None)

    async def show_earlier(self, state: ChatState, now: float) -> None:
        """Mount the turns before the first one that is, and stay where the person reads."""
        begin = max(0, self.hidden - WINDOW)
        new = [TurnView(turn, state.tree.place(turn)) for turn in state.turns[begin : self.hidden]]
        if not new:
            return
        self.release_anchor()
        self._from_bottom = self.virtual_size.height - self.scroll_y
        self.hidden = begin
        self.views[:0] = new
        await self.turns.mount(*new, after=self.query_one("#earlier"))
        for view in new:
            await view.sync(state.view, now, state.info is not None)
        self._sync_earlier()

    @property
    def at_the_top(self) -> bool:
        """Whether the person has scrolled up to where earlier turns begin."""
        known = self._from_bottom is None and self._laid_out
        return known and self.scroll_y <= 2 and self.scroll_target_y <= 2

    @property
    def _laid_out(self) -> bool:
        """Whether there is a layout that has every turn; what is mounted is not in it at once."""
        return all(view.size.height for view in self.views)

    def keep_place(self) -> None:
        """Call on every tick: earlier turns grow above the place where the person reads.

        Nothing tells when their heights are final, so two ticks must find the same.
        """
        if self._from_bottom is None:
            return
        height = self.virtual_size.height
        self.scroll_to(y=height - self._from_bottom, animate=False, immediate=True)
        if self._laid_out and height == self._height:
            self._from_bottom = None
        self._height = height

    def _common(self, line: list[Turn]) -> int:
        """How many of the mounted turns are still at their place."""
        for at, view in enumerate(self.views):
            place = self.hidden + at
            if place >= len(line) or line[place] is not view.turn:
                return at
        return len(self.views)

    def _sync_earlier(self) -> None:
        earlier = self.query_one("#earlier", Static)
        earlier.display = self.hidden > 0
        text = t("▲ {n} earlier turns: scroll up", n=self.hidden)
        earlier.update(Content.styled(text, "$text-muted"))

    # The cursor

    @property
    def block(self) -> Block | None:
        """The block at the cursor."""
        return Block.of(self._cursor) if self._cursor is not None else None

    def _place_in(self, views: list[TurnView]) -> tuple[Turn, str, int] | None:
        """Where the cursor is in these: the turn, the kind of block, and which of that kind."""
        cursor = self._cursor
        for view in views if cursor is not None else ():
            blocks = list(view.query(BLOCKS).results(Widget))
            if cursor in blocks:
                alike = [block for block in blocks if type(block) is type(cursor)]
                return view.turn, type(cursor).__name__, alike.index(cursor)
        return None

    def _put_back(self, state: ChatState, turn: Turn, kind: str, at: int) -> None:
        """Put the cursor of a turn that is gone into the version that came in its place."""
        versions = state.tree.siblings(turn) if turn in state.tree.all else []
        view = next((view for view in self.views if view.turn in versions), None)
        if view is None:  # another chat is on show, or none
            self.action_leave()
            return
        blocks = list(view.query(BLOCKS).results(Widget))
        alike = [block for block in blocks if type(block).__name__ == kind]
        block = alike[min(at, len(alike) - 1)] if alike else blocks[0]
        self._put(block, scroll=not view.turn.running)  # an answer that comes is followed

    def action_cursor(self, step: int) -> None:
        """Go to the next block; from nowhere, to the last. Past the last, leave."""
        widgets = list(self.query(BLOCKS).results(Widget))
        if not widgets:
            return
        at = widgets.index(self._cursor) if self._cursor in widgets else len(widgets)
        if at + step >= len(widgets):
            self.action_leave()
            return
        self._put(widgets[max(0, at + step)])

    def action_act(self, name: str) -> None:
        """Tell the screen."""
        if (block := self.block) is not None:
            self.post_message(self.Act(name, block))

    def action_fold(self) -> None:
        """Open or fold the call at the cursor, or else the thought of its turn."""
        if isinstance(self._cursor, ToolLine):
            self._cursor.flip()
        elif (block := self.block) is not None:
            for thought in block.view.query(Thought):
                thought.flip()

    def action_leave(self) -> None:
        """Put the cursor away."""
        self._put(None)
        self.post_message(self.Left())

    def on_key(self, event: Key) -> None:
        """Any other letter belongs into the composer."""
        if event.is_printable and event.character and not self._bound(event.key):
            event.stop()
            self._put(None)
            self.post_message(self.Left(event.character))

    def on_blur(self, _: Blur) -> None:
        """Without the focus there is no cursor, unless a card lies over the chat."""
        if self.screen.is_active:
            self._put(None)

    def _bound(self, key: str) -> bool:
        return key in self._bindings.key_to_bindings

    def _put(self, widget: Widget | None, scroll: bool = True) -> None:
        if self._cursor is not None:
            self._cursor.remove_class("-cursor")
        self._cursor = widget
        if widget is not None:
            widget.add_class("-cursor")
        if widget is not None and scroll:
            self.release_anchor()
            widget.scroll_visible(animate=False)
