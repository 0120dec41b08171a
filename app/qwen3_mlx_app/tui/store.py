"""The chats on disk: one SQLite file, safe against crashes and against a second instance.

A question is stored before its answer is asked for, and the answer every two seconds while it
comes. WAL lets a second instance read while this one writes; writes are single short
transactions that wait for each other. A chat has one writer at a time (`claim`).

Every method raises `StoreError` when the file cannot be used: the caller says so once and goes
on unsaved.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen3_mlx_app.tui.finding import ChatRow, Hit, find
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.schema import NewerDatabaseError, migrate
from qwen3_mlx_app.tui.searching import indexed
from qwen3_mlx_app.tui.text import whole
from qwen3_mlx_app.tui.writers import Writers

__all__ = ["ChatGoneError", "ChatRow", "Hit", "SavedTurn", "Store", "StoreError"]

#: A deleted chat can be brought back until the first start after so many seconds.
UNDO_SECONDS = 24 * 3600

_BUSY_SECONDS = 0.5
#: How the answer of a turn ended whose program did not live to say so.
INTERRUPTED = "interrupted"


class StoreError(Exception):
    """The database cannot be read or written; the text says why, as a clause."""


class ChatGoneError(StoreError):
    """Another program has deleted the chat, a day ago or more."""


@dataclass(frozen=True, slots=True)
class SavedTurn:
    """A question and its answer. `finish` is "" while the answer comes.

    Turns form a tree: those with the same `parent` are versions of one place in the chat.
    """

    question: str
    id: int = 0
    parent: int | None = None
    created: float = 0.0
    thought: str = ""
    answer: str = ""
    thinks: bool = True
    finish: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Store:
    """The chat database. One thread uses it.

    >>> store = Store(":memory:")
    >>> chat = store.new_chat()
    >>> turn = store.add_turn(chat, None, "What is 排序?", thinks=False)
    >>> store.finish_turn(turn, SavedTurn("", answer="Sorting.", finish="stop"))
    >>> [hit.line for hit in store.search("排序")]
    ['What is 排序? Sorting.']
    """

    def __init__(self, path: Path | str, now: Callable[[], float] = time.time) -> None:
        """Open or create the file, migrate it, and close what a crash left open."""
        self.path = str(path)
        self._now = now
        try:
            if self.path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(_reason(error)) from error
        self._writers = Writers(None if self.path == ":memory:" else Path(path))
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            self._writers.leave()
            raise

    def _prepare(self) -> None:
        with self._errors():
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            migrate(self._db)
            if self.path != ":memory:":
                with suppress(OSError):
                    os.chmod(self.path, 0o600)  # chats are private, also on a shared computer
            self._recover()
            self._write(
                "DELETE FROM chats WHERE deleted IS NOT NULL AND deleted < ?",
                self._now() - UNDO_SECONDS,
            )

    def close(self) -> None:
        """Let go of the chats that this instance writes, and of the file."""
        with suppress(sqlite3.Error):
            self._db.execute("UPDATE chats SET writer = 0 WHERE writer = ?", (os.getpid(),))
        self._db.close()
        self._writers.leave()

    # Chats

    def new_chat(self, title: str = "", system: str | None = None) -> int:
        """An empty chat that this instance writes; its id."""
        now = self._now()
        return self._write(
            "INSERT INTO chats (title, system, created, updated, writer) VALUES (?, ?, ?, ?, ?)",
            title, system, now, now, os.getpid(),
        )  # fmt: skip

    def claim(self, chat: int) -> bool:
        """Become the chat's one writer; False while another living instance is."""
        with self._transaction():
            row = self._db.execute("SELECT writer FROM chats WHERE id = ?", (chat,)).fetchone()
            if row is None or self._is_other(row[0]):
                return False
            self._db.execute("UPDATE chats SET writer = ? WHERE id = ?", (os.getpid(), chat))
            return True

    def release(self, chat: int) -> None:
        """Let another instance write the chat."""
        self._write("UPDATE chats SET writer = 0 WHERE id = ? AND writer = ?", chat, os.getpid())

    def rename(self, chat: int, title: str) -> None:
        """Give the chat a title."""
        self._write("UPDATE chats SET title = ? WHERE id = ?", title, chat)

    def set_system(self, chat: int, system: str | None) -> None:
        """Keep the system prompt with the chat."""
        self._write("UPDATE chats SET system = ? WHERE id = ?", system, chat)

    def set_leaf(self, chat: int, turn: int | None) -> None:
        """Keep which branch is on show: the one that ends with this turn."""
        self._write("UPDATE chats SET leaf = ? WHERE id = ?", turn, chat)

    def delete(self, chat: int) -> None:
        """Hide the chat; `undelete` brings it back until the next day's first start."""
        self._write("UPDATE chats SET deleted = ? WHERE id = ?", self._now(), chat)

    def last_deleted(self) -> int | None:
        """The chat that was deleted last and can be brought back."""
        rows = self._read(
            "SELECT id FROM chats WHERE deleted IS NOT NULL ORDER BY deleted DESC, id DESC LIMIT 1"
        )
        return rows[0][0] if rows else None

    def written_elsewhere(self, chat: int) -> bool:
        """Whether another living instance writes the chat."""
        rows = self._read("SELECT writer FROM chats WHERE id = ?", chat)
        return bool(rows) and self._is_other(rows[0][0])

    def undelete(self, chat: int) -> None:
        """Take a deletion back."""
        self._write("UPDATE chats SET deleted = NULL WHERE id = ?", chat)

    def chats(self, limit: int = 200, offset: int = 0) -> list[ChatRow]:
        """Chats that have something in them, the last used first."""
        rows = self._read(
            "SELECT id, title, updated, (SELECT count(*) FROM turns WHERE chat = chats.id) "
            "FROM chats WHERE deleted IS NULL AND leaf IS NOT NULL "
            "ORDER BY updated DESC, id DESC LIMIT ? OFFSET ?",
            limit, offset,
        )  # fmt: skip
        return [ChatRow(*row) for row in rows]

    def search(self, text: str, limit: int = 50) -> list[Hit]:
        """Chats with a title or a turn that has all the words; one hit for each.

        Those that only their title tells come first, then the newest turns.
        """
        return find(self._read, text, limit)

    def chat(self, chat: int) -> tuple[str, str | None, int | None]:
        """Title, system prompt and leaf."""
        for row in self._read("SELECT title, system, leaf FROM chats WHERE id = ?", chat):
            return row[0], row[1], row[2]
        raise StoreError(t("this chat is gone"))

    # Turns

    def turns(self, chat: int) -> list[SavedTurn]:
        """All turns of the chat, every branch, in the order in which they were made."""
        rows = self._read(
            "SELECT question, id, parent, created, thought, answer, thinks, finish, details "
            "FROM turns WHERE chat = ? ORDER BY id",
            chat,
        )
        return [
            SavedTurn(q, id_, parent, created, thought, answer, bool(thinks), end, _details(more))
            for q, id_, parent, created, thought, answer, thinks, end, more in rows
        ]

    def add_turn(self, chat: int, parent: int | None, question: str, *, thinks: bool) -> int:
        """Store a question whose answer is still to come; the turn's id.

        A chat that another window has deleted comes back with it.
        """
        now = self._now()
        with self._transaction():
            if not self._db.execute(
                "UPDATE chats SET updated = ?, deleted = NULL WHERE id = ?", (now, chat)
            ).rowcount:
                raise ChatGoneError(t("this chat is gone"))
            cursor = self._db.execute(
                "INSERT INTO turns (chat, parent, created, question, thinks) "
                "VALUES (?, ?, ?, ?, ?)",
                (chat, parent, now, question, thinks),
            )
            turn = cursor.lastrowid or 0
            self._db.execute("UPDATE chats SET leaf = ? WHERE id = ?", (turn, chat))
            self._index(turn, question)
        return turn

    def save_partial(self, turn: int, saved: SavedTurn) -> None:
        """What the answer has so far: its texts, and the calls that were carried out."""
        self._write(
            "UPDATE turns SET thought = ?, answer = ?, details = ?, finish = '' WHERE id = ?",
            saved.thought, saved.answer, _json(saved.details), turn,
        )  # fmt: skip

    def finish_turn(self, turn: int, saved: SavedTurn) -> None:
        """The end of an answer: its texts, how it ended and its details; it can be found now."""
        with self._transaction():
            self._db.execute(
                "UPDATE turns SET thought = ?, answer = ?, finish = ?, details = ? WHERE id = ?",
                (saved.thought, saved.answer, saved.finish or "stop",
                 _json(saved.details), turn),
            )  # fmt: skip
            self._reindex(turn)

    def add_all(self, chat: int, turns: Sequence[SavedTurn], leaf: int | None) -> None:
        """Store turns that came from elsewhere, in one transaction. Their ids are made anew."""
        ids: dict[int, int] = {}
        with self._transaction():
            for turn in turns:
                parent = None if turn.parent is None else ids[turn.parent]
                cursor = self._db.execute(
                    "INSERT INTO turns (chat, parent, created, question, thought, answer, "
                    "thinks, finish, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (chat, parent, turn.created or self._now(), turn.question, turn.thought,
                     turn.answer, turn.thinks, turn.finish or "stop",
                     _json(turn.details)),
                )  # fmt: skip
                ids[turn.id] = cursor.lastrowid or 0
                self._reindex(ids[turn.id])
            last = ids.get(leaf or 0) or next(reversed(ids.values()), None)
            self._db.execute("UPDATE chats SET leaf = ? WHERE id = ?", (last, chat))

    # Helpers

    def _is_other(self, writer: int) -> bool:
        return writer not in (0, os.getpid()) and self._writers.lives(writer)

    def _recover(self) -> None:
        """Answers that were coming when their program died are marked, and can be found."""
        rows = self._db.execute(
            "SELECT t.id, c.writer FROM turns t JOIN chats c ON c.id = t.chat WHERE t.finish = ''"
        ).fetchall()
        for turn, writer in rows:
            if not self._is_other(writer):
                with self._transaction():
                    self._db.execute(
                        "UPDATE turns SET finish = ? WHERE id = ?", (INTERRUPTED, turn)
                    )
                    self._reindex(turn)

    def _reindex(self, turn: int) -> None:
        texts = self._db.execute(
            "SELECT question, answer, thought FROM turns WHERE id = ?", (turn,)
        ).fetchone()
        if texts is not None:
            self._db.execute("DELETE FROM search WHERE rowid = ?", (turn,))
            self._index(turn, "\n".join(texts))

    def _index(self, turn: int, text: str) -> None:
        self._db.execute("INSERT INTO search (rowid, words) VALUES (?, ?)", (turn, indexed(text)))

    def _read(self, sql: str, *values: object) -> list[Any]:
        with self._errors():
            return self._db.execute(sql, values).fetchall()

    def _write(self, sql: str, *values: object) -> int:
        with self._errors():
            return self._db.execute(sql, values).lastrowid or 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. IMMEDIATE takes the lock at once, where waiting for it is possible."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, NewerDatabaseError, OSError, UnicodeError, OverflowError) as error:
            raise StoreError(_reason(error)) from error


def _json(details: dict[str, Any]) -> str:
    return whole(json.dumps(details, ensure_ascii=False))


def _details(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _reason(error: Exception) -> str:
    """SQLite's word for it, and what it means."""
    text = str(error)
    if "readonly" in text or isinstance(error, PermissionError):
        return t("it is read-only")
    if "locked" in text:
        return t("another program holds it locked")
    if "full" in text:
        return t("the disk is full")
    if "not a database" in text or "malformed" in text:
        return t("it is damaged or no database")
    if isinstance(error, NewerDatabaseError):
        return t("a newer version of this program wrote it ({why})", why=text)
    return text or type(error).__name__
