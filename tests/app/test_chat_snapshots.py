"""How the chat looks, in dark, light and 72 columns.

After a wanted change: `pytest tests/app/test_chat_snapshots.py --snapshot-update`, and look
at the pictures in __snapshots__.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias

import pytest
from driving import (
    TIMING,
    Clock,
    ask,
    drawn,
    full_answer,
    opened,
    press,
    ready,
    say,
    settled,
    wait_until,
)
from offers import offer
from textual.pilot import Pilot
from textual.widgets import OptionList, Static
from textual.widgets._toast import Toast

from qwen3_mlx.errors import DownloadPaused, EngineError, HubError, MemoryPlanError, PromptError
from qwen3_mlx.pulling import Download, FileState, Listener
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx.tools.functions import Tool
from qwen3_mlx_app.tui import language
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.downloads import Downloads
from qwen3_mlx_app.tui.screens.block import BlockScreen
from qwen3_mlx_app.tui.screens.chats import ChatsScreen
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.screens.help import HelpScreen
from qwen3_mlx_app.tui.screens.keys import KeysScreen
from qwen3_mlx_app.tui.screens.models import ModelsScreen
from qwen3_mlx_app.tui.screens.settings import SettingsScreen
from qwen3_mlx_app.tui.session import ChatOptions, Session
from qwen3_mlx_app.tui.settings import Settings
from qwen3_mlx_app.tui.store import SavedTurn, Store, StoreError
from qwen3_mlx_app.tui.widgets.approval import Approval
from qwen3_mlx_app.tui.widgets.note import ErrorNote
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
    model: FakeModel | Exception,
    steps: Steps,
    store: Store | None = None,
    downloads: Downloads | None = None,
    options: ChatOptions | None = None,
) -> bool:
    """Run the app through some steps and compare its picture with the stored one."""
    theme, size = look

    def load(progress: object) -> FakeModel:
        if isinstance(model, Exception):
            raise model
        return model

    session = Session(load, options, clock=Clock(), store=store)
    app = ChatApp(
        session,
        "small",
        theme=theme,
        hint="This is tiny, a demonstration model.",
        still=True,
        world=Environment(lambda name, memory: load, Settings(theme=theme), downloads=downloads),
    )

    async def run_before(pilot: Pilot[Any]) -> None:
        if not isinstance(model, Exception):
            await ready(pilot, app)
        await steps(pilot, app)
        await wait_until(pilot, lambda: not app.chat._stale)
        for screen in app.screen_stack:  # what is drawn again and again never comes to rest
            if (timer := getattr(screen, "_ticking", None)) is not None:
                timer.pause()
        await settled(pilot, app)

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
        await wait_until(pilot, lambda: app.session.state.queued is not None)
        await press(app, "a", "n", "d")
        await wait_until(pilot, lambda: app.chat.composer.text == "and")

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


class Full(Store):
    """A database on a disk that is full."""

    def new_chat(self, title: str = "", system: str | None = None) -> int:
        raise StoreError("the disk is full")


PLAN = MemoryPlanError("a limit of 2.0 GB is too small: the plan needs 2.5 GB", 2_500_000_000)
CARDS: dict[str, Callable[[], FakeModel | Exception]] = {
    "too-big": lambda: PLAN,
    "download": lambda: HubError("the hub answered 503: try again later"),
    "context": lambda: FakeModel(
        [Answer(error=PromptError("the prompt has 40,000 tokens and the context 32,768"))]
    ),
    "not-saved": lambda: FakeModel([full_answer()]),
}


@pytest.mark.parametrize("card", CARDS)
def test_error_cards(snap_compare: Compare, look: tuple[str, tuple[int, int]], card: str) -> None:
    model = CARDS[card]()

    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        if not isinstance(model, Exception):
            await asked(pilot, app)
        await wait_until(pilot, lambda: bool(app.chat.query(ErrorNote)))

    store = Full(":memory:") if card == "not-saved" else None
    assert compare(snap_compare, look, model, steps, store)


def test_help(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "f1")
        await opened(pilot, app, HelpScreen)

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
        await opened(pilot, app, ChatsScreen)
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
        offer("tiny", 16, 20 * 10**9),
        offer("4b", 4, 20 * 10**9, name="Qwen3-4B-q4"),
        offer("8b", 16, 20 * 10**9, here=False),
        offer("32b", 16, 20 * 10**9, here=False),
        offer("30b-a3b", 16, 20 * 10**9, here=False),
    ]
    monkeypatch.setattr(
        "qwen3_mlx_app.tui.fitting.candidates", lambda local, unfinished, limit: models
    )

    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+l")
        await opened(pilot, app, ModelsScreen)
        await press(app, "down")

    assert compare(snap_compare, look, FakeModel([]), steps)


def test_a_running_download(
    snap_compare: Compare, look: tuple[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [
        offer("tiny", 16, 36 * 10**9),
        offer("8b", 16, 36 * 10**9, here=False),
        offer("30b-a3b", 16, 36 * 10**9, here=False, partial=0.6),
    ]
    monkeypatch.setattr(
        "qwen3_mlx_app.tui.fitting.candidates", lambda local, unfinished, limit: models
    )
    files = (
        FileState("model-00001-of-00003.safetensors", 4_000_000_000, 4_000_000_000, "there"),
        FileState("model-00002-of-00003.safetensors", 1_600_000_000, 8_000_000_000, "reading"),
        FileState("model-00003-of-00003.safetensors", 0, 4_400_000_000, "queued"),
    )

    def fetch(name: str, tell: Listener, stop: Event) -> Path:
        tell(Download(name, files, 5_600_000_000, 50.0))
        stop.wait()
        raise DownloadPaused(name)

    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+l")
        await opened(pilot, app, ModelsScreen)
        await press(app, "down", "enter", "enter")
        names = app.screen.query_one("#files", Static)
        await wait_until(pilot, lambda: "00002" in str(names.render()))

    downloads = Downloads(fetch)
    assert compare(snap_compare, look, FakeModel([]), steps, downloads=downloads)


def test_the_prompt(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await asked(pilot, app)
        await say(app, "/prompt And in C?")
        await opened(pilot, app, BlockScreen)

    assert compare(snap_compare, look, FakeModel([full_answer()]), steps)


def test_the_keys(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+e")
        await opened(pilot, app, SettingsScreen)
        await press(app, "end", "enter")
        await opened(pilot, app, KeysScreen)

    assert compare(snap_compare, look, FakeModel([]), steps)


def test_settings(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "ctrl+e")
        await opened(pilot, app, SettingsScreen)

    assert compare(snap_compare, look, FakeModel([]), steps)


def test_versions_and_the_block_cursor(
    snap_compare: Compare, look: tuple[str, tuple[int, int]]
) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await asked(pilot, app)
        await press(app, "ctrl+r")
        await wait_until(pilot, lambda: len(app.session.state.tree.all) == 2)
        await drawn(pilot, app)
        await press(app, "alt+up")

    assert compare(snap_compare, look, FakeModel([full_answer(), full_answer()]), steps)


def test_thinking_in_chinese_with_a_budget(
    snap_compare: Compare, look: tuple[str, tuple[int, int]]
) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, *["ctrl+down"] * 5)
        await wait_until(pilot, lambda: len(app.screen.query(Toast)) == 5)
        app.clear_notifications()
        await wait_until(pilot, lambda: not app.screen.query(Toast))
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


def test_a_tool_waits_for_a_yes(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    """One call ran, the next is asked about, and the composer is free beside it."""

    def list_files() -> str:
        return json.dumps([f"Screenshot {n}.png" for n in range(1, 9)])

    def move_file(name: str, into: str) -> str:
        return f"{name} → {into}"

    call = ("move_file", {"name": "Screenshot 1.png", "into": "Screenshots"})
    model = FakeModel(
        [
            Answer("I look first.", calls=[("list_files", {})], timing=TIMING, prompt_tokens=36),
            Answer(calls=[call], timing=TIMING, prompt_tokens=90),
            "Moved.",
        ]
    )
    options = ChatOptions(tools=(Tool.of(list_files), Tool.of(move_file)))

    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        clock, approval = app.session.clock, app.chat.query_one(Approval)
        assert isinstance(clock, Clock)
        await say(app, "Move the screenshots into Screenshots.")
        await wait_until(pilot, lambda: app.focused is approval)
        clock.now += 1
        await press(app, "y")
        await wait_until(pilot, lambda: approval.use is not None and approval.use.name == call[0])
        await wait_until(pilot, lambda: "?" in str(app.chat.query(".tool-title").last().render()))
        handled = Event()
        approval.call_later(handled.set)  # after the focus that is on its way
        await wait_until(pilot, handled.is_set)
        await wait_until(pilot, lambda: "y once" in str(approval.border_subtitle))
        await pilot.pause()

    assert compare(snap_compare, look, model, steps, options=options)
