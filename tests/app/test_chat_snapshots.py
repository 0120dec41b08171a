"""How the chat looks, in dark, light and 72 columns.

After a wanted change: `pytest tests/app/test_chat_snapshots.py --snapshot-update`, and look
at the pictures in __snapshots__.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from driving import Clock, ask, full_answer, make_app, press, ready, say, wait_until
from textual.pilot import Pilot

from qwen3_mlx.errors import EngineError
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
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
    snap_compare: Compare, look: tuple[str, tuple[int, int]], model: FakeModel, steps: Steps
) -> bool:
    """Run the app through some steps and compare its picture with the stored one."""
    theme, size = look
    clock = Clock()
    app = make_app(model, theme=theme, clock=clock, hint="This is tiny, a demonstration model.")

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


def test_error(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    fault = EngineError("the plan needs 18.2 GB and 12.0 GB are free: choose 4b")
    broken = Answer("Here is a **stable** merge", error=fault, error_after=5)
    assert compare(snap_compare, look, FakeModel([broken]), asked)


def test_help(snap_compare: Compare, look: tuple[str, tuple[int, int]]) -> None:
    async def steps(pilot: Pilot[None], app: ChatApp) -> None:
        await press(app, "f1")
        await wait_until(pilot, lambda: app.screen is not app.chat)

    assert compare(snap_compare, look, FakeModel([]), steps)
