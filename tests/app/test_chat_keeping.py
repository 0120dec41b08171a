"""A session whose chat is kept: after crashes, in a second window, on a bad disk."""

from __future__ import annotations

import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from driving import Clock, another_writer, until

from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import ToolCall, ToolResult
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui import calls
from qwen3_mlx_app.tui.exchange import SavedChat
from qwen3_mlx_app.tui.keeping import FLUSH_SECONDS, RETRY_SECONDS
from qwen3_mlx_app.tui.plain import PlainChat
from qwen3_mlx_app.tui.restoring import restored
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.state import Phase, Turn
from qwen3_mlx_app.tui.store import INTERRUPTED, SavedTurn, Store, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chats.db"


def answered(session: Session, turn: Turn | None) -> Turn:
    assert turn is not None
    until(lambda: session.drain() and not turn.running)
    return turn


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def open_session(path: Path) -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def make(*tape: Answer | str, clock: Clock | None = None) -> Session:
        model = FakeModel(tape)
        session = Session(lambda progress: model, clock=clock or Clock(), store=Store(path))
        session.start()
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


def test_a_chat_is_there_again_with_its_branches_and_figures(
    open_session: Callable[..., Session], path: Path
) -> None:
    session = open_session(Answer("One.", thinking="hm", thinking_seconds=3.0), "Two.", "Deux.")
    answered(session, session.send("first"))
    second = answered(session, session.send("second"))
    answered(session, session.retry(second, "deuxième"))
    assert session.keeper.title == "first"
    assert session.flip(session.state.turns[-1], -1)
    assert not session.flip(session.state.turns[-1], -1)
    chat = session.keeper.chat
    session.close()
    again = open_session("Three.")
    assert again.open(chat)
    assert [(t.user, t.answer) for t in again.state.turns] == [
        ("first", "One."),
        ("second", "Two."),
    ]
    turn = again.state.turns[0]
    assert (turn.thought, turn.thought_seconds, turn.finish) == ("hm", 3.0, "stop")
    assert turn.reply is not None
    assert again.state.tree.place(again.state.turns[1]) == (1, 2)
    answered(again, again.send("third"))
    assert len(again.state.tree.all) == 4
    again.new()
    assert again.keeper.store is not None
    assert [row.turns for row in again.keeper.store.chats()] == [4]
    assert not again.open(999)


def test_the_question_is_stored_before_and_the_answer_every_two_seconds(
    open_session: Callable[..., Session], path: Path
) -> None:
    clock = Clock()
    session = open_session(Answer("a b c d", pause_after=2), clock=clock)
    reader = Store(path)
    turn = session.send("q")
    assert turn is not None
    (stored,) = reader.turns(session.keeper.chat)
    assert (stored.question, stored.answer) == ("q", "")
    until(lambda: session.drain() and turn.answer == "a b")
    assert reader.turns(session.keeper.chat)[0].answer == ""
    clock.now = 2.0
    session.drain()
    assert reader.turns(session.keeper.chat)[0].answer == "a b"
    chat = session.keeper.chat
    session.new()
    assert reader.turns(chat)[0].finish == "cancelled"
    reader.close()


def test_a_fault_and_a_continued_answer_are_kept(open_session: Callable[..., Session]) -> None:
    broken = Answer("one two three", error=EngineError("boom"), error_after=2)
    session = open_session(broken, "three four")
    turn = answered(session, session.send("count"))
    chat = session.keeper.chat
    assert turn.can_continue
    answered(session, session.go_on())
    assert turn.answer == "one twothree four"
    assert session.go_on() is None
    assert session.keeper.store is not None
    (saved,) = session.keeper.store.turns(chat)
    assert (saved.answer, saved.finish) == (turn.answer, "stop")


def test_a_restored_fault_says_its_error(open_session: Callable[..., Session]) -> None:
    session = open_session(Answer("one", error=EngineError("boom")))
    answered(session, session.send("count"))
    assert session.open(session.keeper.chat)
    turn = session.state.turns[0]
    assert (turn.phase, str(turn.error)) == (Phase.FAILED, "boom")


def test_a_locked_database_costs_nothing_but_time(
    open_session: Callable[..., Session], path: Path
) -> None:
    clock = Clock()
    session = open_session("one", "two", clock=clock)
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.execute("BEGIN IMMEDIATE")
        answered(session, session.send("first"))
        assert not session.keeper.saved
        assert "locked" in session.keeper.trouble
        raw.execute("ROLLBACK")
    raw.close()
    clock.now = 60.0
    answered(session, session.send("second"))
    assert session.keeper.saved
    assert session.keeper.store is not None
    stored = session.keeper.store.turns(session.keeper.chat)
    assert [turn.answer for turn in stored] == ["one", "two"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As another program does that writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        yield
        raw.execute("ROLLBACK")


def test_an_answer_that_ended_while_the_database_was_locked_is_stored_later(
    open_session: Callable[..., Session], path: Path
) -> None:
    clock, reader = Clock(), Store(path)
    session = open_session("one", "two", clock=clock)
    turn = session.send("first")
    assert reader.turns(session.keeper.chat)[0].finish == ""
    with locked(path):
        answered(session, turn)
        assert not session.keeper.saved
    assert reader.turns(session.keeper.chat)[0].answer == ""
    clock.now = 60.0
    assert session.drain()  # by itself, and the screen is told
    assert session.keeper.saved
    assert [(turn.answer, turn.finish) for turn in reader.turns(session.keeper.chat)] == [
        ("one", "stop")
    ]
    reader.close()


def test_leaving_tries_once_more(open_session: Callable[..., Session], path: Path) -> None:
    session = open_session("one")
    with locked(path):
        answered(session, session.send("first"))
    assert not session.keeper.saved
    session.new()
    assert session.keeper.store is not None
    (row,) = session.keeper.store.chats()
    assert session.keeper.store.turns(row.id)[0].answer == "one"


def test_looking_at_a_chat_of_another_window_makes_no_copy(
    open_session: Callable[..., Session], path: Path
) -> None:
    session = open_session("one")
    answered(session, session.send("q"))
    chat = session.keeper.chat
    session.new()
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("UPDATE chats SET writer = 1")
    with another_writer(path):
        assert session.open(chat)
    session.new()
    assert session.keeper.store is not None
    assert [row.id for row in session.keeper.store.chats()] == [chat]


def test_a_chat_that_is_left_unsaved_is_stored_later(
    open_session: Callable[..., Session], path: Path
) -> None:
    clock = Clock()
    session = open_session("one", "two", "three", clock=clock)
    answered(session, session.send("kept"))
    with locked(path):
        answered(session, session.send("unsaved"))
        session.new()
        answered(session, session.send("another chat"))
        assert not session.keeper.saved
    clock.now += RETRY_SECONDS + 1
    session.drain()
    assert session.keeper.saved
    store = session.keeper.store
    assert store is not None
    stored = [[turn.question for turn in store.turns(row.id)] for row in store.chats()]
    assert sorted(stored) == [["another chat"], ["kept", "unsaved"]]


def test_a_fork_of_what_is_unsaved_is_stored_whole(
    open_session: Callable[..., Session], path: Path
) -> None:
    clock = Clock()
    session = open_session("one", "two", "three", clock=clock)
    answered(session, session.send("kept"))
    with locked(path):
        answered(session, session.send("unsaved"))
        session.fork()
    clock.now += RETRY_SECONDS + 1
    answered(session, session.send("further"))
    assert session.keeper.saved
    store = session.keeper.store
    assert store is not None
    stored = [[turn.question for turn in store.turns(row.id)] for row in store.chats()]
    assert ["kept", "unsaved", "further"] in stored


def test_a_database_that_was_locked_at_the_start_is_tried_again(path: Path) -> None:
    Store(path).close()
    clock, free = Clock(), []

    def reopen() -> Store:
        if not free:
            raise StoreError("another program holds it locked")
        return Store(path)

    session = Session(lambda progress: FakeModel(["one", "two"]), clock=clock, store=None,
                      trouble="another program holds it locked", reopen=reopen)  # fmt: skip
    session.start()
    answered(session, session.send("q"))
    assert session.keeper.trouble
    free.append(True)
    clock.now += RETRY_SECONDS + 1
    session.drain()
    assert session.keeper.saved
    assert session.keeper.store is not None
    assert [row.title for row in session.keeper.store.chats()] == ["q"]
    session.close()


def test_lines_without_a_screen_say_once_that_nothing_is_stored() -> None:
    def reopen() -> Store:
        raise StoreError("another program holds it locked")

    session = Session(lambda progress: FakeModel(["one", "two"]), store=None,
                      trouble="another program holds it locked", reopen=reopen)  # fmt: skip
    sink = io.StringIO()
    assert PlainChat(session, io.StringIO("q\nr\n"), sink).run() == 0
    assert sink.getvalue().count("not saved: another program holds it locked") == 1


def test_a_chat_that_another_window_deleted_for_good_is_stored_anew(
    open_session: Callable[..., Session], path: Path
) -> None:
    session = open_session("one", "two")
    answered(session, session.send("q"))
    chat = session.keeper.chat
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("DELETE FROM chats WHERE id = ?", (chat,))
    answered(session, session.send("r"))
    assert session.keeper.saved
    assert session.keeper.store is not None
    questions = [turn.question for turn in session.keeper.store.turns(session.keeper.chat)]
    assert questions == ["q", "r"]


def test_a_call_that_was_carried_out_is_stored_at_once(
    open_session: Callable[..., Session], path: Path
) -> None:
    session = open_session(Answer("", pause_after=0))
    turn = session.send("delete it")
    assert turn is not None
    first, second = ToolCall("c1", "delete", {}), ToolCall("c2", "again", {})
    for call in (first, second):
        calls.advance(turn, call)
    calls.end_step(turn)
    calls.advance(turn, ToolResult(first, "done", failed=False))
    session.keeper.tick()
    with closing(Store(path)) as other:
        (stored,) = other.turns(session.keeper.chat)
    found = restored(stored)
    assert [use.result for use in found.tools] == ["done", calls.OVER]
    assert [each["role"] for each in found.steps.messages] == ["assistant", "tool", "tool"]


def test_without_a_store_the_chat_goes_on() -> None:
    session = Session(lambda progress: FakeModel(["one"]), store=None, trouble="it is read-only")
    session.start()
    assert answered(session, session.send("q")).answer == "one"
    assert not session.keeper.saved
    assert not session.open(1)
    session.close()


def test_a_chat_of_another_window_goes_on_as_a_copy(
    open_session: Callable[..., Session], path: Path
) -> None:
    session = open_session("one", "two")
    answered(session, session.send("q"))
    chat = session.keeper.chat
    session.new()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE chats SET writer = 1")
    raw.close()
    with another_writer(path):
        assert session.open(chat)
        assert session.keeper.elsewhere
        answered(session, session.send("r"))
    assert not session.keeper.elsewhere
    assert session.keeper.chat not in (0, chat)
    assert session.keeper.store is not None
    assert len(session.keeper.store.turns(chat)) == 1
    assert len(session.keeper.store.turns(session.keeper.chat)) == 2


def test_fork_and_adopt_make_new_chats(open_session: Callable[..., Session]) -> None:
    session = open_session("one", "two")
    answered(session, session.send("q"))
    first = session.keeper.chat
    session.keeper.fork()
    assert session.keeper.chat != first
    answered(session, session.send("r"))
    assert session.keeper.store is not None
    assert len(session.keeper.store.turns(first)) == 1
    session.adopt(SavedChat("from a file", None, None, [SavedTurn("x", 7, answer="y")]))
    session.keeper.rename("renamed")
    assert [row.title for row in session.keeper.store.chats()][:1] == ["renamed"]


def moments_of(log: Path) -> list[tuple[float, int]]:
    """When a dying chat had how many letters of its answer; a line that is cut off is left out."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [(float(line.split()[0]), int(line.split()[1])) for line in lines if line[-1] == "\n"]


def has_flushed(log: Path) -> bool:
    """Whether it must have stored a part of its answer, and has said more since."""
    said = [when for when, length in moments_of(log) if length]
    return bool(said) and said[-1] - said[0] > FLUSH_SECONDS + 0.5


def test_kill_9_while_an_answer_comes_loses_two_seconds_at_most(tmp_path: Path) -> None:
    script = Path(__file__).with_name("dying_chat.py")
    paths = [tmp_path / f"{number}.db" for number in range(20)]
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.writelines(f"{path}\n" for path in paths)
        parent.stdin.close()
        children = [int(parent.stdout.readline()) for _ in paths]
        logs = [Path(f"{path}.log") for path in paths]
        until(lambda: all(has_flushed(log) for log in logs))
        chance = random.Random(3)
        for child in children:
            time.sleep(chance.uniform(0, 0.1))
            with suppress(ProcessLookupError):  # after a minute it ends by itself
                os.kill(child, signal.SIGKILL)
        until(lambda: not any(alive(child) for child in children))
        parent.kill()
    kept: list[int] = []
    for path, log in zip(paths, logs, strict=True):
        moments = moments_of(log)
        end = moments[-1][0]
        store = Store(path)
        (row,) = store.chats()
        (turn,) = store.turns(row.id)
        assert turn.question == "What will be kept?"
        assert turn.finish == INTERRUPTED
        # A turn of the child's loop may come late on a busy computer, so it is counted too.
        late = max(after - before for (before, _), (after, _) in pairwise(moments))
        said = [length for when, length in moments if when < end - FLUSH_SECONDS - 2 * late]
        assert len(turn.answer) >= max(said, default=0)
        kept.append(len(turn.answer))
        assert turn.answer == " ".join(f"w{n}" for n in range(3_000))[: len(turn.answer)]
        assert store.search("kept")
        store.close()
    assert any(kept)


def test_a_store_that_breaks_while_opening_a_chat(open_session: Callable[..., Session]) -> None:
    session = open_session("one")
    answered(session, session.send("q"))
    assert session.keeper.store is not None
    with pytest.raises(StoreError, match="gone"):
        session.keeper.store.chat(12345)
