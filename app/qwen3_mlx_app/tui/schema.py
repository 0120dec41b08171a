"""The tables of the chat database, as numbered migrations.

`PRAGMA user_version` counts the migrations that a file has. Each runs in one transaction with
its number, so two instances that start together cannot run it twice. A released migration is
never edited; a change is a new one at the end.
"""

from __future__ import annotations

import sqlite3

from qwen3_mlx_app.tui.language import t

__all__ = ["MIGRATIONS", "NewerDatabaseError", "migrate"]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE chats (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL DEFAULT '',
            system TEXT,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            deleted REAL,
            leaf INTEGER,
            writer INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX chats_by_time ON chats (updated DESC) WHERE deleted IS NULL",
        """CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            chat INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
            parent INTEGER REFERENCES turns (id) ON DELETE CASCADE,
            created REAL NOT NULL,
            question TEXT NOT NULL,
            thought TEXT NOT NULL DEFAULT '',
            answer TEXT NOT NULL DEFAULT '',
            thinks INTEGER NOT NULL DEFAULT 1,
            finish TEXT NOT NULL DEFAULT '',
            details TEXT NOT NULL DEFAULT '{}'
        )""",
        "CREATE INDEX turns_by_chat ON turns (chat)",
        "CREATE INDEX turns_by_parent ON turns (parent)",
        "CREATE INDEX turns_unfinished ON turns (id) WHERE finish = ''",
        # `words` is the text with Chinese cut into pairs (see searching.py); rowid is the turn.
        "CREATE VIRTUAL TABLE search USING fts5 (words, prefix = '1 2 3')",
        "CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN "
        "DELETE FROM search WHERE rowid = old.id; END",
    ),
)


class NewerDatabaseError(Exception):
    """The file was written by a later version of this program."""


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables up to this version; `db` is in autocommit mode."""
    if _version(db) == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db)  # another instance may have been quicker
        if version > len(MIGRATIONS):
            text = t("its format is {n}, and {known} is known", n=version, known=len(MIGRATIONS))
            raise NewerDatabaseError(text)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
