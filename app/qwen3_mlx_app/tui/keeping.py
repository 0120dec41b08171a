"""Keeps the chat of a session in the database, and brings it back.

The database may be locked, read-only or full at any moment. Then the chat goes on unsaved,
`trouble` says why, and a later try stores all that is missing: every turn knows whether its
question (`saved`) and its end (`kept`) have been stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from qwen3_mlx_app.tui.attachments import first_words
from qwen3_mlx_app.tui.exchange import SavedChat, read_chat
from qwen3_mlx_app.tui.restoring import restored, saved_turn
from qwen3_mlx_app.tui.state import ChatState, Turn
from qwen3_mlx_app.tui.store import ChatGoneError, Store, StoreError

__all__ = ["Keeper"]

#: A crash loses at most so many seconds of an answer.
FLUSH_SECONDS = 2.0
#: A database that is locked is not asked again at once: each try may have to wait for the lock.
RETRY_SECONDS = 20.0
_LONG_AGO = -1e9

_T = TypeVar("_T")


@dataclass(slots=True)
class _Chat:
    """A chat with its turns, of which some may be stored; `id` is 0 for a new one."""

    id: int
    title: str
    system: str | None
    turns: list[Turn]
    leaf: Turn | None

    def store_in(self, store: Store, last: bool) -> None:
        """Store all that is missing; as a new chat, where another program has deleted this one.

        `last` takes what a running answer has by now for its end.
        """
        try:
            self._store(store, last)
        except ChatGoneError:
            self.id = 0
            for turn in self.turns:
                turn.saved, turn.kept = 0, False
            self._store(store, last)

    def _store(self, store: Store, last: bool) -> None:
        if not self.id:
            self.title = self.title or first_words(self.turns[0].user, 60)
            self.id = store.new_chat(self.title, self.system)
        for turn in self.turns:
            if not turn.saved:
                parent = turn.parent.saved if turn.parent is not None else None
                turn.saved = store.add_turn(self.id, parent, turn.user, thinks=turn.thinks)
                turn.kept = False
            if not turn.kept and (last or not turn.running):
                store.finish_turn(turn.saved, saved_turn(turn))
                turn.kept = True
        if self.leaf is not None:
            store.set_leaf(self.id, self.leaf.saved)


class Keeper:
    """One chat of a store at a time. Without a store it keeps nothing, and says why."""

    def __init__(
        self,
        state: ChatState,
        store: Store | None,
        clock: Callable[[], float],
        trouble: str = "",
        reopen: Callable[[], Store] | None = None,
    ) -> None:
        """`reopen` makes the store that could not be opened at the start; tried again later."""
        self.state, self.store, self.trouble = state, store, trouble
        self._reopen = reopen
        self._behind: list[_Chat] = []  # chats that were left before all of them was stored
        self.chat = 0
        self.title = ""
        self.elsewhere = False
        self._clock = clock
        self._flushed = self._failed = _LONG_AGO
        self._running: Turn | None = None
        self._length = self._done = 0  # of the running turn: letters, and calls that are over

    @property
    def saved(self) -> bool:
        """Whether all that was said is stored, but for the last two seconds."""
        return self.store is not None and not (self.trouble or self._lacks_an_end or self._behind)

    def asked(self, turn: Turn) -> None:
        """A question is about to be answered: store it first."""
        self._running, self._flushed = turn, self._clock()
        self._length = self._done = 0
        self._try(self._store_missing)

    def tick(self) -> None:
        """Call often: stores the answer when two seconds are over, or when it has ended."""
        turn = self._running
        if self._behind:
            self._try(self._store_behind)
        if turn is None:
            if self._lacks_an_end:
                self._try(self._store_missing)
            return
        if not turn.running:
            self._running = None
            self._try(self._store_missing)
        else:
            done = sum(use.result is not None for use in turn.tools)
            if done != self._done or self._clock() - self._flushed >= FLUSH_SECONDS:
                self._flushed = self._clock()
                length = len(turn.thought) + len(turn.answer) + len(turn.tools)
                if (length, done) != (self._length, self._done):
                    self._length, self._done = length, done
                    self._try(lambda: self._flush(turn))

    def leave(self) -> None:
        """Store what is there and let go of the chat; the next question begins a new one.

        What cannot be stored now is stored later, whatever is on the screen by then.
        """
        self._failed = _LONG_AGO  # the last try is due, whatever the one before it met
        if any(not turn.kept for turn in self.state.tree.all):
            self._try(lambda: self._store_missing(last=True))
        if self.can_keep and any(not turn.kept for turn in self.state.tree.all):
            self._behind.append(self._chat_here())
        if self.chat and self.store is not None:
            store, chat = self.store, self.chat
            self._try(lambda: store.release(chat))
        self._running, self.chat, self.title, self.elsewhere = None, 0, "", False

    def close(self) -> None:
        """Leave the chat and close the file."""
        self.leave()
        if self._behind:
            self._try(self._store_behind)
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
        title, behind = self.title, len(self._behind)
        self.leave()
        del self._behind[behind:]  # what could not be stored there is a part of this one
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
    def can_keep(self) -> bool:
        """Whether chats are to be stored at all, now or when that works again."""
        return self.store is not None or self._reopen is not None

    @property
    def _lacks_an_end(self) -> bool:
        return any(not (turn.kept or turn.running) for turn in self.state.tree.all)

    def _store_anew(self) -> None:
        """Store all turns as a chat of their own."""
        for turn in self.state.tree.all:
            turn.saved, turn.kept = 0, False
        self._try(self._store_missing)

    def _store_missing(self, last: bool = False) -> None:
        """Store the chat if it is new, every question that is not stored yet, and every end."""
        assert self.store is not None
        here = self._chat_here()
        try:
            here.store_in(self.store, last)
        finally:  # also where it was stored in part
            self.elsewhere &= here.id == self.chat  # a copy is ours
            self.chat, self.title = here.id, here.title

    def _chat_here(self) -> _Chat:
        tree = self.state.tree
        leaf = self.state.turns[-1] if self.state.turns else None
        return _Chat(self.chat, self.title, self.state.system, list(tree.all), leaf)

    def _store_behind(self) -> None:
        """Store the chats that were left, the oldest first."""
        assert self.store is not None
        while self._behind:
            left = self._behind[0]
            left.store_in(self.store, last=True)
            if left.id != self.chat:
                self.store.release(left.id)
            del self._behind[0]

    def _flush(self, turn: Turn) -> None:
        assert self.store is not None
        self._store_missing()
        self.store.save_partial(turn.saved, saved_turn(turn))

    def _try(self, do: Callable[[], _T]) -> _T | None:
        """Do it; a store that fails is a trouble to tell of, and no reason to stop."""
        if not self.can_keep:
            return None
        if self.trouble and self._clock() - self._failed < RETRY_SECONDS:
            return None
        try:
            if self.store is None and self._reopen is not None:
                self.store = self._reopen()
            result = do()
        except StoreError as error:
            self.trouble, self._failed = str(error), self._clock()
            return None
        self.trouble = ""
        return result
