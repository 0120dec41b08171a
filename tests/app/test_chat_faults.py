"""Every fault that the screen knows: what it was, what was kept, and the one next step."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from driving import (
    Clock,
    ask,
    closed,
    drawn,
    make_app,
    opened,
    press,
    ready,
    say,
    told,
    wait_until,
)
from textual.widgets import Static, TextArea

from qwen3_mlx.errors import (
    CheckpointError,
    EngineError,
    HubError,
    MemoryPlanError,
    PromptError,
)
from qwen3_mlx.interface import ModelInfo
from qwen3_mlx.statistics import ExpertStats
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.screens.block import BlockScreen
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.state import ChatState, Phase, Turn
from qwen3_mlx_app.tui.stderr import log_path
from qwen3_mlx_app.tui.store import Store
from qwen3_mlx_app.tui.widgets.note import ErrorNote
from qwen3_mlx_app.tui.widgets.status import StatusLine, _experts, _memory

PLAN = MemoryPlanError("a limit of 2.0 GB is too small: the plan needs 2.5 GB", 2_500_000_000)
TOO_LONG = PromptError("the prompt has 40,000 tokens and the context 32,768")


def card(app: ChatApp) -> str:
    """The last error on the screen; it has one next step, whatever it is."""
    text = str(app.chat.query(ErrorNote).last(Static).render())
    assert text.count("→") == 1
    assert "Kept: " in text
    return text


@pytest.mark.parametrize(
    ("error", "title", "step"),
    [
        (PLAN, "The model does not fit", "^e: set the memory limit to 2.5G or more"),
        (HubError("the hub answered 503"), "The download broke off", "^l: ⏎ goes on"),
        (CheckpointError("model-00002 is missing"), "could not be loaded", "^l: choose another"),
        (MemoryError("no room"), "could not be loaded", "^l: choose another"),
    ],
)
async def test_a_model_that_does_not_come(error: Exception, title: str, step: str) -> None:
    app = make_app(error)
    async with app.run_test(size=(110, 30)) as pilot:
        await wait_until(pilot, lambda: bool(app.chat.query(ErrorNote)))
        text = card(app)
        assert title in text
        assert step in text
        assert str(error) in text


@pytest.mark.parametrize(
    ("error", "title", "step"),
    [
        (EngineError("Metal gave up"), "The engine met a fault", "/restart"),
        (RuntimeError("[metal] out of memory"), "The engine met a fault", "/restart"),
        (TOO_LONG, "The context is full", "^n starts a new chat"),
        (PromptError("the message is odd"), "not understood", "↑ edits it"),
        (HubError("gone"), "The answer broke off", "^g continues, ^r asks again"),
    ],
)
async def test_an_answer_that_breaks_off(error: Exception, title: str, step: str) -> None:
    app = make_app(FakeModel([Answer("one two three", error=error, error_after=2)]))
    async with app.run_test(size=(110, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        text = card(app)
        assert title in text
        assert step in text
        assert "the answer so far, 2 tokens" in text
    written = log_path().read_text() if log_path().exists() else ""
    assert (str(error) in written) == ("Details: " in text)


async def test_restart_loads_the_model_anew_and_asks_again() -> None:
    models = [FakeModel([Answer("a b", error=EngineError("dead"), error_after=1)])]
    models.append(FakeModel(["alive"]))
    loads = iter(models)
    app = ChatApp(Session(lambda progress: next(loads), clock=Clock()), "x", still=True)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        await say(app, "/restart")
        await wait_until(pilot, lambda: app.session.state.last_answer == "alive")
        await drawn(pilot, app)
        assert models[0].closed
        assert [turn.answer for turn in app.session.state.tree.all] == ["a", "alive"]
        assert not app.chat.query(ErrorNote)


async def test_a_database_that_is_locked_then_free(tmp_path: Path) -> None:
    path, clock = tmp_path / "chats.db", Clock()
    store = Store(path)
    session = Session(lambda progress: FakeModel(["one", "two"]), clock=clock, store=store)
    app = ChatApp(session, "x", still=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await ask(pilot, app, "hi")
        await wait_until(pilot, lambda: bool(app.chat.query(ErrorNote)))
        assert "another program holds it locked" in card(app)
        assert "/export FILE keeps it" in card(app)
        other.execute("ROLLBACK")
        other.close()
        clock.now += 60
        await ask(pilot, app, "more")
        await wait_until(pilot, lambda: not app.chat.query(ErrorNote))
        assert session.keeper.saved


async def test_a_terminal_that_is_too_small() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(40, 10)) as pilot:
        await ready(pilot, app)
        small = app.chat.query_one("#small", Static)
        await wait_until(pilot, lambda: "40×10" in str(small.render()))
        assert re.search(r"Kept: .*\n→ Make the window larger", str(small.render()))


async def test_the_prompt_is_shown_to_the_letter() -> None:
    app = make_app(FakeModel(["Four."]))
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await say(app, "/prompt")
        await wait_until(pilot, lambda: "Nothing was asked yet" in told(app))
        await say(app, "/system Be kind.")
        await ask(pilot, app, "2 + 2?")
        for command, end in [("/prompt", "2 + 2?"), ("/prompt and 3?", "and 3?")]:
            await say(app, command)
            await opened(pilot, app, BlockScreen)
            area = app.screen.query_one(TextArea)
            assert area.text.startswith("<|im_start|>system\nBe kind.<|im_end|>")
            assert area.text.endswith(f"{end}<|im_end|>\n<|im_start|>assistant\n")
            assert ("Four." in area.text) == (end == "and 3?")
            assert "tokens" in str(area.border_title)
            await press(app, "escape")
            await closed(pilot, app)


def test_the_gauges() -> None:
    info = ModelInfo("Q", "4-bit", 100, 2 * 10**9, True, True, planned_bytes=8 * 10**9)
    state = ChatState(info=info)
    assert "2.0G/8.0G" in str(_memory(state))
    assert _experts(state) is None
    turn = Turn(1, "q", False, Phase.DONE)
    state.tree.add(turn)
    model = FakeModel(["a"])
    reply = model.stream("q").result()
    turn.reply = type(reply)("a", experts=ExpertStats(resident_fraction=0.3, hit_rate=0.92))
    assert "92%" in str(_experts(state))
    turn.reply = type(reply)("a", experts=ExpertStats(resident_fraction=1.0))
    assert _experts(state) is None
    assert StatusLine
