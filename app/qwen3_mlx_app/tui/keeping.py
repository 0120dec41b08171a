"""Keeps the chat of a session in the database, and brings it back.

The database may be locked, read-only or full at any moment. Then the chat goes on unsaved,
`trouble` says why, and a later try stores all that is missing: every turn knows whether its
question (`saved`) and its end (`kept`) have been stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qwen3_mlx_app.tui.attachments import first_words
from qwen3_mlx_app.tui.exchange import SavedChat, read_chat
from qwen3_mlx_app.tui.restoring import restored, saved_turn
from qwen3_mlx_app.tui.state import ChatState, Turn
from qwen3_mlx_app.tui.store import Store, StoreError

__all__ = ["Keeper"]

#: A crash loses at most so many seconds of an answer.
FLUSH_SECONDS = 2.0
#: A database that is locked is not asked again at once: each try may have to wait for the lock.
RETRY_SECONDS = 20.0
_LONG_AGO = -1e9

_T = TypeVar("_T")


class Keeper:
    """One chat of a store at a time. Without a store it keeps nothing, and says why."""

    def __init__(
        self, state: ChatState, store: Store | None, clock: Callable[[], float], trouble: str = ""
    ) -> None:
        self.state, self.store, self.trouble = state, store, trouble
        self.chat = 0
        self.title = ""
        self.elsewhere = False
        self._clock = clock
        self._flushed = self._failed = _LONG_AGO
        self._running: Turn | None = None
        self._length = 0

    @property
    def saved(self) -> bool:
        """Whether all that was said is stored, but for the last two seconds."""
        return self.store is not None and not (self.trouble or self._lacks_an_end)

    def asked(self, turn: Turn) -> None:
        """A question is about to be answered: store it first."""
        self._running, self._flushed = turn, self._clock()
        self._try(self._store_missing)

    def tick(self) -> None:
        """Call often: stores the answer when two seconds are over, or when it has ended."""
        turn = self._running
        if turn is None:
            if self._lacks_an_end:
                self._try(self._store_missing)
            return
        if not turn.running:
            self._running = None
            self._try(self._store_missing)
        elif self._clock() - self._flushed >= FLUSH_SECONDS:
            self._flushed = self._clock()
            length = len(turn.thought) + len(turn.answer)
            if length != self._length:
                self._length = length
                self._try(lambda: self._flush(turn))

    def leave(self) -> None:
        """Store what is there and let go of the chat; the next question begins a new one."""
        self._failed = _LONG_AGO  # the last try is due, whatever the one before it met
        if any(not turn.kept for turn in self.state.tree.all):
            self._try(lambda: self._store_missing(last=True))
        if self.chat and self.store is not None:
            store, chat = self.store, self.chat
            self._try(lambda: store.release(chat))
        self._running, self.chat, self.title, self.elsewhere = None, 0, "", False

    def close(self) -> None:
        """Leave the chat and close the file."""
        self.leave()
        if self.store is not None:
            self.store.close()
            self.store = None

    def open(self, chat: int) -> bool:
        """Show a stored chat instead of this one; False if it cannot be read.

        A chat that another instance writes is shown too; what is said then becomes a copy.
        """
        store = self.store
        if store is None:
            return False
        saved = self._try(lambda: read_chat(store, chat))
        if saved is None:
            return False
        self.leave()
        owned = bool(self._try(lambda: store.claim(chat)))
        self._show(saved, owned)
        self.chat = chat if owned else 0
        self.elsewhere = not owned
        return True

    def adopt(self, saved: SavedChat) -> None:
        """Show a chat that came from a file; it is stored at once."""
        self.leave()
        self._show(saved, owned=False)
        self._store_anew()

    def fork(self) -> None:
        """Go on in a new chat that has all of this one; the old one stays as it is."""
        title = self.title
        self.leave()
        self.title = f"{title} (2)" if title else ""
        self._store_anew()

    def rename(self, title: str) -> None:
        """Give this chat a title."""
        self.title = title
        if self.store is not None and self.chat:
            store, chat = self.store, self.chat
            self._try(lambda: store.rename(chat, title))

    def refresh(self) -> None:
        """The list of chats may have given this one another title."""
        if self.store is not None and self.chat:
            store, chat = self.store, self.chat
            if found := self._try(lambda: store.chat(chat)):
                self.title = found[0]

    def shown(self) -> None:
        """Another branch is on show: remember which."""
        if self.store is not None and self.chat and self.state.turns:
            store, chat, leaf = self.store, self.chat, self.state.turns[-1].saved
            self._try(lambda: store.set_leaf(chat, leaf))

    def system_changed(self) -> None:
        """Keep the system prompt with the chat."""
        if self.store is not None and self.chat:
            store, chat, system = self.store, self.chat, self.state.system
            self._try(lambda: store.set_system(chat, system))

    # Helpers

    def _show(self, saved: SavedChat, owned: bool) -> None:
        self.state.clear()
        turns = {turn.id: restored(turn) for turn in saved.turns}
        for old in saved.turns:
            turn = turns[old.id]
            turn.parent = turns.get(old.parent) if old.parent is not None else None
            turn.saved, turn.kept = old.id if owned else 0, True
            self.state.tree.all.append(turn)
        if branch := saved.branch():
            self.state.tree.show(turns[branch[-1].id])
        self.title = saved.title
        self.state.system = saved.system

    @property
    def _lacks_an_end(self) -> bool:
        return any(not (turn.kept or turn.running) for turn in self.state.tree.all)

    def _store_anew(self) -> None:
        """Store all turns as a chat of their own."""
        for turn in self.state.tree.all:
            turn.saved, turn.kept = 0, False
        self._try(self._store_missing)

    def _store_missing(self, last: bool = False) -> None:
        """Store the chat if it is new, every question that is not stored yet, and every end.

        `last` takes what a running answer has by now for its end.
        """
        assert self.store is not None
        turns = self.state.tree.all
        if not self.chat:
            self.title = self.title or first_words(turns[0].user, 60)
            self.chat = self.store.new_chat(self.title, self.state.system)
        for turn in turns:
            if not turn.saved:
                parent = turn.parent.saved if turn.parent is not None else None
                turn.saved = self.store.add_turn(self.chat, parent, turn.user, thinks=turn.thinks)
                turn.kept = False
            if not turn.kept and (last or not turn.running):
                self.store.finish_turn(turn.saved, saved_turn(turn))
                turn.kept = True
        if self.state.turns:
            self.store.set_leaf(self.chat, self.state.turns[-1].saved)

    def _flush(self, turn: Turn) -> None:
        assert self.store is not None
        self._store_missing()
        self.store.save_partial(turn.saved, turn.thought, turn.answer)

    def _try(self, do: Callable[[], _T]) -> _T | None:
        """Do it; a store that fails is a trouble to tell of, and no reason to stop."""
        if self.store is None:
            return None
        if self.trouble and self._clock() - self._failed < RETRY_SECONDS:
            return None
        try:
            result = do()
        except StoreError as error:
            self.trouble, self._failed = str(error), self._clock()
            return None
        self.trouble = ""
        return result
