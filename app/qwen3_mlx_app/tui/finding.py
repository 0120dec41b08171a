"""Which chats have some words, in their titles or in what was said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qwen3_mlx_app.tui.searching import match_query, snippet

__all__ = ["ChatRow", "Hit", "find"]

#: Matches that are looked at together, and how often: one long chat may have thousands.
_PAGE, _MOST_PAGES, _BEYOND = 400, 50, 2**62

#: Rows for a statement and its values.
Read = Callable[..., list[Any]]


@dataclass(frozen=True, slots=True)
class ChatRow:
    """One line of the list of chats."""

    id: int
    title: str
    updated: float
    turns: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A chat that a search found: the line around the hit, and where in it the hit lies."""

    chat: ChatRow
    turn: int
    line: str
    begin: int
    end: int


def find(read: Read, text: str, limit: int) -> list[Hit]:
    """One hit for each chat: those that only their title tells, then the newest turns."""
    query = match_query(text)
    if not query:
        return []
    newest = _newest_turns(read, query, limit)
    rows = read(
        "SELECT c.id, c.title, c.updated, t.id, t.question, t.answer, t.thought "
        "FROM turns AS t JOIN chats AS c ON c.id = t.chat "
        f"WHERE t.id IN ({','.join('?' * len(newest))}) ORDER BY t.id DESC",
        *newest,
    )
    hits: dict[int, Hit] = {}
    for chat, title, updated, turn, *texts in rows:
        line, begin, end = snippet(" ".join(texts), text)
        hits[chat] = Hit(ChatRow(chat, title, updated, 0), turn, line, begin, end)
    named = [hit for hit in _titled(read, text) if hit.chat.id not in hits]
    return [*named, *hits.values()][:limit]


def _newest_turns(read: Read, query: str, limit: int) -> list[int]:
    """The newest turn that matches, of so many chats."""
    newest: dict[int, int] = {}
    before = _BEYOND
    for _ in range(_MOST_PAGES):
        rows = read(
            "SELECT t.id, t.chat, c.deleted FROM (SELECT rowid FROM search WHERE words MATCH ? "
            "AND rowid < ? ORDER BY rowid DESC LIMIT ?) AS found "
            "JOIN turns AS t ON t.id = found.rowid JOIN chats AS c ON c.id = t.chat "
            "ORDER BY t.id DESC",
            query, before, _PAGE,
        )  # fmt: skip
        for turn, chat, deleted in rows:
            if deleted is None:
                newest.setdefault(chat, turn)
        if len(rows) < _PAGE or len(newest) >= limit:
            break
        before = rows[-1][0]
    return list(newest.values())[:limit]


def _titled(read: Read, text: str) -> Iterator[Hit]:
    """Chats whose title has all the words, the last used first."""
    words = text.casefold().split()
    # SQLite knows the two cases of ASCII letters only.
    known = [word for word in words if word.isascii() or word.lower() == word.upper()]
    rows = read(
        "SELECT id, title, updated, leaf FROM chats WHERE deleted IS NULL AND leaf IS NOT NULL"
        f"{' AND instr(lower(title), ?)' * len(known)} ORDER BY updated DESC, id DESC",
        *known,
    )
    for chat, title, updated, leaf in rows:
        lowered = title.casefold()
        if all(word in lowered for word in words):
            line, begin, end = snippet(title, text)
            yield Hit(ChatRow(chat, title, updated, 0), leaf, line, begin, end)
