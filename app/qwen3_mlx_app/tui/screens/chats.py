"""^o: every chat, the last used first. Typing searches in all of them."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.store import ChatRow, Hit, Store, StoreError
from qwen3_mlx_app.tui.text import clean, one_line
from qwen3_mlx_app.tui.widgets.keybar import KeyBar

__all__ = ["ChatsScreen"]

#: Chats that are listed.
MOST = 200


class ChatsScreen(ModalScreen[int | None]):
    """Returns the chat to open, or None. The input keeps the focus; arrows move in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="⏎", priority=True),
        Binding("up", "move(-1)", "Up", show=False, priority=True),
        Binding("down", "move(1)", "Down", show=False, priority=True),
        Binding("ctrl+e", "rename", "Rename", priority=True),
        Binding("ctrl+x", "delete", "Delete", priority=True),
        Binding("ctrl+z", "undo", "Undo", priority=True),
        Binding("escape,ctrl+o", "back", "Back", key_display="esc", priority=True),
    ]

    def __init__(self, store: Store, current: int, search: str = "") -> None:
        super().__init__()
        self._store, self._current, self._search = store, current, search
        self._renaming: int | None = None
        self._listed = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield Input(self._search, placeholder=t("Search all chats…"), id="search")
            yield OptionList(id="chats")
            yield Static(id="word")
            yield KeyBar(("open", "rename", "delete", "undo", "back"), palette=False)

    def on_mount(self) -> None:
        self.query_one("#card").border_title = t("Chats")
        self.query_one(Input).cursor_blink = False
        self._fill()

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def _chosen(self) -> int | None:
        at = self._list.highlighted
        return None if at is None else int(self._list.get_option_at_index(at).id or 0)

    @on(Input.Changed)
    def search(self) -> None:
        """Search while it is typed.

        The last letter of a new title may be told of when the old search is back already.
        """
        text = self.query_one(Input).value.strip()
        if self._renaming is None and text != self._listed:
            self._fill()

    def _fill(self, keep: int | None = None) -> None:
        """Read the list anew, and stay at the same line if one is given."""
        self._listed = text = self.query_one(Input).value.strip()
        try:
            options = self._found(text) if text else self._all()
        except StoreError as error:
            self._say(str(error))
            options = []
        self._list.clear_options()
        self._list.add_options(options)
        self._list.highlighted = min(keep or 0, len(options) - 1) if options else None
        if not options:
            self._say(t("Nothing is found.") if text else t("There are no chats yet."))
        elif not text and len(options) == MOST:
            self._say(t("The last {n}; typing finds the others.", n=MOST))
        else:
            self._say("")

    def _all(self) -> list[Option]:
        return [self._line(row, None) for row in self._store.chats(MOST)]

    def _found(self, text: str) -> list[Option]:
        return [self._line(hit.chat, hit) for hit in self._store.search(text)]

    def _line(self, row: ChatRow, hit: Hit | None) -> Option:
        """Title and day; the line of the hit below."""
        room = max(20, min(self.app.size.width, 92) - 26)
        title = one_line(row.title or t("(no title)"), room)
        mark = "● " if row.id == self._current else "  "
        content = Content.assemble(
            (mark, "$primary"), (title, "bold"), (f"  {_when(row.updated)}", "$text-muted")
        )
        if row.turns > 1:
            content += Content.styled(f" · {t('{n} turns', n=row.turns)}", "$text-muted")
        if hit is not None:
            line = Content(clean(hit.line)).stylize("$accent bold", hit.begin, hit.end)
            content = content + Content("\n    ") + line
        return Option(content, id=str(row.id))

    @on(OptionList.OptionSelected)
    def clicked(self) -> None:
        """A click opens."""
        self.action_open()

    def action_move(self, step: int) -> None:
        """Up and down in the list."""
        if step < 0:
            self._list.action_cursor_up()
        else:
            self._list.action_cursor_down()

    def action_open(self) -> None:
        """Open the chat at the cursor, or take the new title."""
        if self._renaming is not None:
            self._end_renaming(self.query_one(Input).value.strip())
        elif self._chosen is not None:
            self.dismiss(self._chosen)

    def action_back(self) -> None:
        """Leave the renaming, or the list."""
        if self._renaming is not None:
            self._end_renaming("")
        else:
            self.dismiss(None)

    def action_rename(self) -> None:
        """The input is for the new title now."""
        if self._chosen is None or self._renaming is not None:
            return
        try:
            title = self._store.chat(self._chosen)[0]
        except StoreError as error:
            self._say(t("Not done: {why}", why=error))
            return
        box = self.query_one(Input)
        self._renaming, self._search = self._chosen, box.value
        box.value = title
        box.cursor_position = len(box.value)
        self.query_one("#card").border_title = t("New title")

    def _end_renaming(self, title: str) -> None:
        chat, self._renaming = self._renaming, None
        if title and chat is not None:
            self._try("rename", chat, title)
        self.query_one("#card").border_title = t("Chats")
        self.query_one(Input).value = self._search
        self._fill(self._list.highlighted)

    def action_delete(self) -> None:
        """Delete the chat at the cursor; ^z brings it back."""
        chat = self._chosen
        if chat is None or self._renaming is not None:
            return
        if chat == self._current:
            self._say(say("This chat is on show: start another one first, with {new}."))
            return
        try:
            elsewhere = self._store.written_elsewhere(chat)
        except StoreError as error:
            self._say(t("Not done: {why}", why=error))
            return
        if elsewhere:
            self._say(t("Open in another window: leave it there first."))
            return
        if self._try("delete", chat):
            self._fill(self._list.highlighted)
            self._say(t("Deleted. ^z brings it back."))

    def action_undo(self) -> None:
        """Bring back the chat that was deleted last, also before this list was opened."""
        try:
            chat = self._store.last_deleted()
        except StoreError as error:
            self._say(t("Not done: {why}", why=error))
            return
        if chat is not None and self._try("undelete", chat):
            self._fill(self._list.highlighted)

    def _try(self, name: str, chat: int, *values: str) -> bool:
        try:
            getattr(self._store, name)(chat, *values)
        except StoreError as error:
            self._say(t("Not done: {why}", why=error))
            return False
        return True

    def _say(self, text: str) -> None:
        self.query_one("#word", Static).update(Content.styled(text, "$text-muted"))


def _when(moment: float) -> str:
    """The time for today, the day for this year, else the date."""
    then, now = time.localtime(moment), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%m-%d" if then[0] == now[0] else "%Y-%m-%d", then)
