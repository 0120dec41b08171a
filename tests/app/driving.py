"""What the tests of the app share: a clock that stands still, and waiting without guessing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from textual.message_pump import MessagePump
from textual.pilot import Pilot

from qwen3_mlx.events import Timing
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.session import ChatOptions, Session

THOUGHT = "Ties must take from the left list, or equal items swap. " * 12
ANSWER = """A **stable** merge takes from the *left* list on ties:

```python
def merge(left, right):
    while left and right:
        yield (left if left[0] <= right[0] else right).pop(0)
    yield from left or right
```

Each item is touched once. <b>HTML</b> stays text.
"""
TIMING = Timing(ttft_seconds=0.31, decode_tokens_per_second=74.0)


@dataclass
class Clock:
    """Reads what a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def full_answer(pause_after: int | None = None) -> Answer:
    """A thought and an answer whose figures never change."""
    return Answer(
        ANSWER,
        thinking=THOUGHT,
        timing=TIMING,
        thinking_seconds=14.0,
        prompt_tokens=36,
        pause_after=pause_after,
    )


def make_app(
    model: FakeModel | Exception,
    *,
    options: ChatOptions | None = None,
    theme: str = "dark",
    clock: Callable[[], float] | None = None,
    hint: str = "",
) -> ChatApp:
    """The app on a scripted model, or on one that fails to load; nothing in it moves."""

    def load(progress: object) -> FakeModel:
        if isinstance(model, Exception):
            raise model
        return model

    session = Session(load, options, clock or Clock())
    return ChatApp(session, "Qwen3-fake", theme=theme, hint=hint, still=True)


async def wait_until(pilot: Pilot[None], true: Callable[[], bool], seconds: float = 20) -> None:
    """Let the app run until something holds; a bare pause would be a guess."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        await pilot.pause(0.01)


async def ready(pilot: Pilot[None], app: ChatApp) -> None:
    """Wait for the model."""
    await wait_until(pilot, lambda: app.session.state.info is not None and app.chat.is_mounted)


async def press(app: ChatApp, *keys: str) -> None:
    """Press keys and wait until all that they set off is handled.

    Pilot's own press waits for an idle process, which an app that streams never is.
    """
    for key in keys:
        app.simulate_key(key)
        for _ in range(2):
            focused = app.focused
            path = [focused, *focused.ancestors] if focused is not None else [app.screen]
            for node in [app, *path]:
                await _handled(app, node)


async def _handled(app: ChatApp, node: MessagePump) -> None:
    """Wait until a node's queue is worked off; a node that is being closed has none."""
    done = asyncio.Event()
    node.call_later(done.set)
    while not done.is_set() and node.is_running and app.is_running:
        await asyncio.sleep(0.001)


async def say(app: ChatApp, text: str) -> None:
    """Type into the composer and press Enter."""
    app.chat.composer.put(text)
    await press(app, "enter")


async def ask(pilot: Pilot[None], app: ChatApp, text: str) -> None:
    """Ask and wait until the answer is drawn to its end."""
    count = app.session.state.numbers
    await say(app, text)
    await wait_until(pilot, lambda: app.session.state.numbers > count)
    await drawn(pilot, app)


async def drawn(pilot: Pilot[None], app: ChatApp) -> None:
    """Wait until every turn is over and on the screen."""
    chat = app.chat
    await wait_until(
        pilot,
        lambda: (
            not chat.state.busy
            and [view.turn for view in chat.views] == chat.state.turns
            and all(view.finished for view in chat.views)
        ),
    )
    await pilot.pause()
