"""Leaving at any moment: no widget is drawn into an app that is being taken down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from driving import make_app, ready, say, wait_until

from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp

TALK = Answer(
    "# Head\n\nsome **words**\n\n```python\nx = 1\n```\n\n- item\n" * 4,
    thinking="well now " * 10,
    notices=("a note",),
    tokens_per_second=400,
)


def quit_with_the_key(app: ChatApp) -> None:
    app.simulate_key("ctrl+q")


def quit_with_the_command(app: ChatApp) -> None:
    app.chat.composer.put("/quit")
    app.simulate_key("enter")


def end_by_itself(app: ChatApp) -> None:
    """As a program does that runs the app."""
    app.exit()


def leave_it_to_the_test(app: ChatApp) -> None:
    """The app is taken down without having been asked to end."""


@pytest.mark.parametrize(
    "leave", [quit_with_the_key, quit_with_the_command, end_by_itself, leave_it_to_the_test]
)
async def test_leaving_in_the_middle_of_a_picture(leave: Callable[[ChatApp], None]) -> None:
    """The event loop is stepped a random number of times, so the end falls between any awaits."""
    chance = random.Random(leave.__name__)
    for _ in range(6):
        model = FakeModel([TALK, TALK])
        app = make_app(model)
        async with app.run_test(size=(80, 24)) as pilot:
            await ready(pilot, app)
            await say(app, "go")
            await asyncio.sleep(chance.uniform(0, 0.12))
            app.chat.call_later(app.chat.sync)
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            leave(app)
            if leave is not leave_it_to_the_test:
                await wait_until(pilot, lambda app=app: not app.is_running)
        assert model.closed
