"""How the chat looks, in dark, light and 72 columns.

After a wanted change: `pytest tests/app/test_chat_snapshots.py --snapshot-update`, and look
at the pictures in __snapshots__.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from driving import Clock, ask, drawn, full_answer, press, ready, say, wait_until
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from qwen3_mlx.errors import EngineError
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui import language
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.fitting import Candidate
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings
from qwen3_mlx_app.tui.store import SavedTurn, Store
from qwen3_mlx_app.tui.widgets.thought import Thought
from qwen3_mlx_app.tui.widgets.welcome import Welcome

Compare: TypeAlias = Callable[..., bool]
Steps: TypeAlias = Callable[[Pilot[None], ChatApp], Awaitable[None]]

LOOKS = {
    "dark": ("dark", (100, 26)),
    "light": ("light", (100, 26)),
    "narrow": ("dark", (72, 20)),
}
QUESTION = "Write a stable merge in Python."


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> tuple[str, tuple[int, int]]:
    """A theme and a size."""
    return LOOKS[request.param]


def compare(
    snap_compare: Compare,
    look: tuple[str, tuple[int, int]],
    model: FakeModel,
    steps: Steps,
    store: Store | None = None,
) -> bool:
    """Run the app through some steps and compare its picture with the stored one."""
    theme, size = look
    session = Session(lambda progress: model, clock=Clock(), store=store)
    app = ChatApp(
        session,
        "small",
        theme=theme,
        hint="This is tiny, a demonstration model.",
        still=True,
        world=Environment(lambda name, memory: lambda progress: model, Settings(theme=theme)),
    )

    async def run_before(pilot: Pilot[Any]) -> None:
        await ready(pilot, app)
        await steps(pilot, app)

    return snap_compare(app, terminal_size=size, run_before=run_before)


async def asked(pilot: Pilot[None], app: ChatApp) -> None:
    await ask(pilot, app, QUESTION)


def test_empty(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await wait_until(
            pilot, lambda: "stays on this" in str(app.chat.query_one(Welcome).render())
        )

    assert compare(snap_compare, look, FakeModel([]), steps)


def test_thinking(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        clock = app.session.clock
        assert isinstance(clock, Clock)
        await say(app, QUESTION)
        await wait_until(pilot, lambda: bool(app.chat.query(Thought)))
        await wait_until(pilot, lambda: app.session.state.turns[0].thought_tokens == 80)
        clock.now = 11.0
        await say(app, "And in C, please.")
        await press(app, "a", "n", "d")

    assert compare(snap_compare, look, FakeModel([full_answer(pause_after=80)]), steps)


def test_finished(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    assert compare(snap_compare, look, FakeModel([full_answer()]), asked)


def test_thought_open(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        app.session.state.view = "open"
        await asked(pilot, app)

    assert compare(snap_compare, look, FakeModel([full_answer()]), steps)


def test_error(
    snap_compare: Compare, look: tuple[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "qwen3_mlx_app.tui.widgets.note.log_path"
    monkeypatch.setattr(note, lambda: Path("/state/qwen3-mlx/chat.log"))
    fault = EngineError("the plan needs 18.2 GB and 12.0 GB are free: choose 4b")
    broken = Answer("Here is a **stable** merge", error=fault, error_after=5)
    assert compare(snap_compare, look, FakeModel([broken]), asked)


def test_help(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "f1")
        await wait_until(pilot, lambda: app.screen is not app.chat)

    assert compare(snap_compare, look, FakeModel([]), steps)


def filled_store() -> Store:
    """Three chats of a day that is long over."""
    moment = [1_700_000_000.0]
    store = Store(":memory:", lambda: moment[0])
    for title, answer in [
        ("Stable merge in Python", "Ties take from the left: a stable merge keeps their order."),
        ("稳定排序是什么？", "稳定排序（stable sort）保持相等元素的先后。"),
        ("Dinner for four", "Pasta with lentils."),
    ]:
        moment[0] += 90_000
        store.add_all(store.new_chat(title), [SavedTurn(title, 1, answer=answer)], 1)
    return store


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list shows dates; they must not depend on the time zone of the computer."""
    monkeypatch.setattr("qwen3_mlx_app.tui.screens.chats._when", lambda moment: "2023-11-16")


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize("search", ["", "排序"], ids=["all", "search"])
def test_chats(snap_compare: Compare, look: tuple[str, tuple[int, int]], search: str) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+o")
        await wait_until(pilot, lambda: app.screen is not app.chat)
        await press(app, *search)
        await wait_until(
            pilot,
            lambda: app.screen.query_one(OptionList).option_count == (1 if search else 3),
        )

    assert compare(snap_compare, look, FakeModel([]), steps, filled_store())


def test_models(
    snap_compare: Compare, look: tuple[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [
        Candidate("tiny", "tiny", 12_000_000, 3_000_000, "built in", here=True),
        Candidate("Qwen3-4B-q4", "small", 2_263_000_000, 1_200_000_000, "4-bit", here=True),
        Candidate("8b", "8b", 16_400_000_000, 1_200_000_000, "bf16", here=False),
        Candidate("30b-a3b", "30b", 61_000_000_000, 800_000_000, "bf16", here=False),
    ]
    monkeypatch.setattr("qwen3_mlx_app.tui.fitting.candidates", lambda local, unfinished: models)
    monkeypatch.setattr("qwen3_mlx_app.tui.fitting.usable_bytes", lambda limit="": 18_000_000_000)

    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+l")
        await wait_until(pilot, lambda: app.screen is not app.chat)
        await press(app, "down")

    assert compare(snap_compare, look, FakeModel([]), steps)


def test_settings(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+e")
        await wait_until(pilot, lambda: app.screen is not app.chat)

    assert compare(snap_compare, look, FakeModel([]), steps)


def test_versions_and_the_block_cursor(
    snap_compare: Compare, look: tuple[str, tuple[int, int]]
) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await asked(pilot, app)
        await press(app, "ctrl+r")
        await drawn(pilot, app)
        await press(app, "alt+up")

    assert compare(snap_compare, look, FakeModel([full_answer(), full_answer()]), steps)


def test_thinking_in_chinese_with_a_budget(
    snap_compare: Compare, look: tuple[str, tuple[int, int]]
) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+down", "ctrl+down", "ctrl+down", "ctrl+down", "ctrl+down")
        app.clear_notifications()
        await say(app, "请写稳定排序。")
        await wait_until(pilot, lambda: bool(app.chat.query(Thought)))
        await wait_until(pilot, lambda: app.session.state.turns[0].thought_tokens == 80)
        await wait_until(
            pilot, lambda: "80" in str(app.chat.query_one(".thought-title", Static).render())
        )

    language.use("zh")
    try:
        assert compare(snap_compare, look, FakeModel([full_answer(pause_after=80)]), steps)
    finally:
        language.use("en")
