"""The database of chats: the tree, search, two instances, and files that cannot be used."""

from __future__ import annotations

import doctest
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from driving import another_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx.errors import PromptError
from qwen3_mlx_app.tui import exchange, schema, searching, store
from qwen3_mlx_app.tui.exchange import (
    ChatFileError,
    SavedChat,
    from_json,
    read_chat,
    to_json,
    to_markdown,
)
from qwen3_mlx_app.tui.keeping import Keeper
from qwen3_mlx_app.tui.restoring import restored
from qwen3_mlx_app.tui.state import ChatState
from qwen3_mlx_app.tui.store import INTERRUPTED, ChatGoneError, SavedTurn, Store, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "chats.db"


def filled(db: Store, question: str, answer: str = "fine", parent: int | None = None) -> int:
    """A new chat with one finished turn; the chat's id."""
    chat = db.new_chat(question)
    turn = db.add_turn(chat, parent, question, thinks=True)
    db.finish_turn(turn, SavedTurn("", answer=answer, finish="stop"))
    return chat


def stored(db: Store, saved: SavedChat) -> int:
    """The id of a chat that came from a file, as the app stores it."""
    keeper = Keeper(ChatState(), db, clock=lambda: 0.0)
    keeper.adopt(saved)
    assert keeper.trouble == ""
    return keeper.chat


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("module", [store, exchange, searching])
def test_the_examples_in_docstrings_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert result.failed == 0


def test_a_tree_of_turns_comes_back(path: Path) -> None:
    db = Store(path)
    chat = db.new_chat("Sums", "Be brief.")
    first = db.add_turn(chat, None, "1 + 1?", thinks=True)
    db.save_partial(first, SavedTurn("", thought="well", answer="Tw"))
    (partial,) = db.turns(chat)
    assert (partial.thought, partial.answer, partial.finish) == ("well", "Tw", "")
    db.finish_turn(first, SavedTurn("", thought="well", answer="Two.", details={"model": "m"}))
    left = db.add_turn(chat, first, "and 2?", thinks=False)
    right = db.add_turn(chat, first, "and 3?", thinks=False)
    db.set_leaf(chat, left)
    db.close()
    again = Store(path)
    assert again.chat(chat) == ("Sums", "Be brief.", left)
    turns = again.turns(chat)
    assert [(turn.id, turn.parent) for turn in turns] == [(1, None), (left, 1), (right, 1)]
    assert turns[0].details == {"model": "m"}
    assert not turns[1].thinks
    assert [turn.finish for turn in turns] == ["stop", INTERRUPTED, INTERRUPTED]
    again.close()


def test_the_list_is_by_time_and_knows_deletion_undo_and_renaming(path: Path) -> None:
    now = [100.0]
    db = Store(path, lambda: now[0])
    chats = []
    for name in "abc":
        now[0] += 1
        chats.append(filled(db, name))
    db.new_chat("empty")
    assert [row.title for row in db.chats()] == ["c", "b", "a"]
    assert db.chats(limit=1, offset=1)[0].title == "b"
    assert db.chats()[0].turns == 1
    db.delete(chats[1])
    db.rename(chats[0], "first")
    assert [row.title for row in db.chats()] == ["c", "first"]
    assert db.search("b") == []
    db.undelete(chats[1])
    assert [row.title for row in db.chats()] == ["c", "b", "first"]
    db.delete(chats[1])
    db.close()
    now[0] += 25 * 3600
    later = Store(path, lambda: now[0])
    later.undelete(chats[1])
    assert [row.title for row in later.chats()] == ["c", "first"]
    later.close()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("排序", True),
        ("稳定排序", True),
        ("归并", True),
        ("序", True),
        ("稳", True),
        ("定归", False),
        ("排序 merge", True),
        ("STABLE", True),
        ("stab", True),
        ("stab merge", False),
        ("naïve", True),
        ("naive", True),
        ('"', False),
        ("AND OR NOT (", False),
        ("", False),
    ],
)
def test_search(query: str, found: bool) -> None:
    db = Store(":memory:")
    chat = filled(db, "请写稳定排序。归并!", "A stable merge, not naïve")
    filled(db, "something else")
    assert [hit.chat.id for hit in db.search(query)] == ([chat] if found else [])


def test_a_hit_shows_where_it_is() -> None:
    db = Store(":memory:")
    filled(db, "hello", "word " * 60 + "the needle is here " + "word " * 60)
    (hit,) = db.search("needle")
    assert hit.line[hit.begin : hit.end] == "needle"
    assert hit.line.startswith("…")
    assert len(hit.line) <= 72


@pytest.fixture(scope="module")
def memory() -> Store:
    return Store(":memory:")


@given(st.text(), st.text())
@settings(max_examples=40)
def test_any_text_can_be_stored_and_any_query_asked(memory: Store, text: str, query: str) -> None:
    chat = filled(memory, text)
    memory.search(query)
    assert memory.turns(chat)[0].question == text
    for hit in memory.search(text[:20]):
        assert 0 <= hit.begin <= hit.end


def test_two_instances_write_one_file_and_a_chat_has_one_writer(path: Path) -> None:
    one, two = Store(path), Store(path)
    chat = filled(one, "mine")
    other = filled(two, "yours")
    assert {row.id for row in one.chats()} == {chat, other}
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE chats SET writer = 1 WHERE id = ?", (chat,))
        raw.execute("UPDATE chats SET writer = ? WHERE id = ?", (a_dead_process(), other))
    raw.close()
    with another_writer(path):
        assert not two.claim(chat)
        assert two.written_elsewhere(chat)
    assert two.claim(other)
    assert not two.claim(99)
    assert two.claim(chat), "init lives, as ever, and has no chat open"
    two.release(other)
    one.close()
    two.close()


def test_an_answer_that_another_instance_is_writing_is_left_alone(path: Path) -> None:
    one = Store(path)
    chat = one.new_chat("t")
    one.add_turn(chat, None, "q", thinks=True)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE chats SET writer = 1")
    raw.close()
    with another_writer(path):
        two = Store(path)
    assert two.turns(chat)[0].finish == ""
    one.close()
    two.close()


def test_what_is_said_in_a_deleted_chat_brings_it_back(path: Path) -> None:
    one, two = Store(path), Store(path)
    chat = filled(one, "mine")
    two.delete(chat)
    assert one.chats() == []
    assert two.last_deleted() == chat
    one.add_turn(chat, None, "still here", thinks=False)
    assert [row.id for row in two.chats()] == [chat]
    with pytest.raises(ChatGoneError):
        one.add_turn(99, None, "nowhere", thinks=False)
    one.close()
    two.close()


def test_titles_are_found_and_one_long_chat_hides_no_other(path: Path) -> None:
    db = Store(path)
    old = filled(db, "a needle in the old one")
    db.rename(old, "old")
    db.rename(filled(db, "figures"), "Taxes 2024")
    long = db.new_chat("long")
    for number in range(500):
        db.add_turn(long, None, f"needle {number}", thinks=False)
    assert [hit.chat.id for hit in db.search("needle")] == [long, old]
    (hit,) = db.search("2024 tax")
    assert (hit.chat.title, hit.line[hit.begin : hit.end]) == ("Taxes 2024", "Tax")
    db.close()


def test_a_locked_database_is_an_error_and_no_hang(path: Path) -> None:
    db = Store(path)
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            filled(db, "x")
        assert db.chats() == []  # reading goes on
        raw.execute("ROLLBACK")
    raw.close()
    filled(db, "x")
    db.close()


def test_files_that_cannot_be_used(path: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("this is no database at all " * 50)
    for name, reason in [("folder.db", "unable"), ("text.db", "damaged or no database")]:
        with pytest.raises(StoreError, match=reason):
            Store(tmp_path / name)
    Store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreError, match="a newer version"):
        Store(path)


def test_half_a_character_costs_no_more_than_itself(memory: Store) -> None:
    chat = memory.new_chat("a")
    turn = memory.add_turn(chat, None, "q", thinks=True)
    details = {"steps": ["\udcff"], "error": "no", "error_kind": "PromptError"}
    memory.finish_turn(turn, SavedTurn("", answer="b", finish="failed", details=details))
    (saved,) = memory.turns(chat)
    assert saved.details["steps"] == ["?"]
    assert isinstance(restored(saved).error, PromptError)
    with pytest.raises(StoreError):
        memory.rename(chat, "\udcff")
    with pytest.raises(StoreError):
        memory.add_turn(chat, turn, "\udcff", thinks=True)
    assert len(memory.turns(chat)) == 1


def test_a_hit_in_chinese_is_in_its_line() -> None:
    line, begin, end = searching.snippet("一" * 200 + "排序" + "二" * 200, "排序", 40)
    assert line[begin:end] == "排序"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everything")
def test_a_read_only_file(path: Path) -> None:
    Store(path).close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    with pytest.raises(StoreError, match="read-only"):
        Store(path)
    path.parent.chmod(0o700)


def test_the_file_is_private_and_migrated_once(path: Path) -> None:
    db = Store(path)
    assert path.stat().st_mode & 0o077 == 0
    schema.migrate(db._db)
    assert db._db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    db.close()


def test_a_chat_goes_out_as_json_and_comes_back_with_every_branch() -> None:
    db = Store(":memory:")
    turns = [
        SavedTurn("q", 1, None, answer="a", thought="hm", finish="stop", details={"model": "M"}),
        SavedTurn("left", 2, 1, answer="l", finish="cancelled"),
        SavedTurn("right", 3, 1, answer="r", finish="stop", thinks=False),
    ]
    chat = stored(db, SavedChat("标题", "sys", 2, turns))
    saved = read_chat(db, chat)
    assert [turn.question for turn in saved.branch()] == ["q", "left"]
    copy = read_chat(db, stored(db, from_json(to_json(saved))))
    assert [t.answer for t in copy.turns] == ["a", "l", "r"]
    assert [t.question for t in copy.branch()] == ["q", "left"]
    assert (copy.title, copy.system) == ("标题", "sys")
    assert len(db.search("left")) == 2
    text = to_markdown(saved)
    assert "# 标题\n\n> sys\n\n## You\n\nq\n\n## M\n\n<details>" in text
    assert "right" not in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "no chat"),
        ('{"format": "qwen3-mlx chat", "version": 7}', "version is 7"),
        ('{"format": "qwen3-mlx chat", "version": 1}', "no list of turns"),
        ('{"format": "qwen3-mlx chat", "version": 1, "turns": 3}', "no list of turns"),
        ('{"format": "qwen3-mlx chat", "version": 1, "turns": []}', r"no chat .* \(0 turns\)"),
        ('{"format": "qwen3-mlx chat", "version": 1, "turns": [{}]}', "no question"),
        ('{"format": "qwen3-mlx chat", "version": 1, "turns": [{"question": "q"}]}', "no id"),
        (
            '{"format": "qwen3-mlx chat", "version": 1, '
            '"turns": [{"question": "q", "id": 1, "parent": 1}]}',
            "does not come before",
        ),
        (
            '{"format": "qwen3-mlx chat", "version": 1, '
            '"turns": [{"question": "q", "id": 1, "parent": []}]}',
            "does not come before",
        ),
    ],
)
def test_a_file_that_is_no_chat_says_why(text: str, reason: str) -> None:
    with pytest.raises(ChatFileError, match=reason):
        from_json(text)


def test_a_time_that_cannot_be_is_none() -> None:
    for created in ("1" + "0" * 400, "NaN", "-5", "true", '"noon"'):
        turn = f'{{"question": "q", "id": 1, "created": {created}}}'
        text = f'{{"format": "qwen3-mlx chat", "version": 1, "turns": [{turn}]}}'
        assert from_json(text).turns[0].created == 0.0


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)
_NAMES = ["thought_tokens", "thought_seconds", "notices", "error", "model", "ttft_seconds"]


@given(
    st.dictionaries(st.sampled_from(_NAMES), _JSON),
    st.sampled_from(["stop", "failed", "odd", INTERRUPTED]),
    st.one_of(st.none(), st.lists(st.integers()), st.integers(0, 2)),
)
def test_a_chat_from_anywhere_can_be_shown(
    details: dict[str, object], finish: str, leaf: object
) -> None:
    turn = {"question": "half \ud800", "id": 1, "details": details, "finish": finish}
    chat = {"format": "qwen3-mlx chat", "version": 1, "title": "t", "leaf": leaf, "turns": [turn]}
    saved = from_json(json.dumps(chat))
    assert saved.turns[0].question == "half ?"
    assert restored(saved.turns[0]).thought_tokens >= 0 or details["thought_tokens"]
    db = Store(":memory:")
    assert stored(db, saved)
    db.close()
