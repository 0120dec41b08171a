"""What the tests of the app share: a clock that stands still, and waiting without guessing.

Nothing here is a pause. A slow computer takes its time, and every step waits for its cause: a key
for all that it sets off (`press`), a picture for the last layout (`settled`), the rest for what
the test names (`wait_until`).
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from textual.app import ScreenStackError
from textual.css.query import QueryError
from textual.dom import DOMNode
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets.option_list import OptionDoesNotExist

from qwen3_mlx.events import Timing
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.session import ChatOptions, Session

#: After so many seconds a test is stuck; no computer that works is so slow.
PATIENCE = 180.0

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


@contextmanager
def another_writer(database: Path, pid: int = 1) -> Iterator[None]:
    """As if another window, of this process number, had the chats open."""
    file = database.with_name(f"{database.name}-{pid}.writer")
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


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


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads or processes do, where there is no app."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.002)


async def wait_until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Let the app run until something holds. What is not on the screen yet does not hold yet."""
    deadline = time.monotonic() + PATIENCE
    while not _holds(true):
        if pilot.app._exception is not None:
            raise pilot.app._exception
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        await asyncio.sleep(0.005)


def _holds(true: Callable[[], bool]) -> bool:
    try:
        return true()
    except (QueryError, OptionDoesNotExist, ScreenStackError, LookupError):
        return False


async def ready(pilot: Pilot[None], app: ChatApp) -> None:
    """Wait for the model, and for the first picture."""
    await wait_until(pilot, lambda: app.session.state.info is not None and app.chat.is_mounted)
    await settled(pilot, app)


async def opened(pilot: Pilot[None], app: ChatApp, kind: type[Screen[object]]) -> None:
    """Wait until a screen of that kind lies on top, with all that is on it, and takes keys."""
    await wait_until(pilot, lambda: isinstance(app.screen, kind) and app.screen.is_mounted)
    await settled(pilot, app)


async def closed(pilot: Pilot[None], app: ChatApp) -> None:
    """Wait until the chat is on top again, and what the other screen returned is taken."""
    await wait_until(pilot, lambda: app.screen is app.chat)
    await settled(pilot, app)


async def settled(pilot: Pilot[None], app: ChatApp) -> None:
    """Wait until nothing is left to do: no message, no work, no layout, no picture put off.

    A chat that streams comes to rest between two pictures (see pace.py), but not for long.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        for node in _nodes(app):
            await _handled(app, node)
        async with app.chat.drawing():
            pass
        if _is_still(app) and not app.chat._stale:
            return
        assert time.monotonic() < deadline, "the app does not come to rest"
        await asyncio.sleep(0.005)


def _nodes(app: ChatApp) -> list[DOMNode]:
    screens = [node for each in app.screen_stack for node in each.walk_children(with_self=True)]
    return [app, *screens]


def _is_still(app: ChatApp) -> bool:
    nodes, screen = _nodes(app), app.screen
    widgets = [node for node in screen.walk_children(with_self=True) if isinstance(node, Widget)]
    return (
        all(node._message_queue.empty() and not node._next_callbacks for node in nodes)
        and all(worker.is_finished for worker in app.workers)
        and not any(
            widget._layout_required
            or widget._repaint_required
            or widget._scroll_required
            or widget._refresh_styles_required
            for widget in widgets
        )
        and not (screen._dirty_widgets or screen._callbacks)
    )


async def press(app: ChatApp, *keys: str) -> None:
    """Press keys, and after each wait until all that it set off is handled.

    Pilot's own press waits for an idle process, which an app that streams never is. A key goes
    from the app to the focused widget and up again to the app, which runs its action; the
    message of the action goes up once more, and its handler may ask the app for something.
    """
    for key in keys:
        app.simulate_key(key)
        for _ in range(3):
            for node in _path(app):
                await _handled(app, node)


def _path(app: ChatApp) -> list[DOMNode]:
    """The way of a key: the app, the focused widget, all above it, and the app again."""
    try:
        begin = app.focused or app.screen
    except ScreenStackError:  # it is being taken down
        return [app]
    return [app, *begin.ancestors_with_self]


async def _handled(app: ChatApp, node: MessagePump) -> None:
    """Wait until a node has worked off what is in its queue now."""
    done = asyncio.Event()
    if not node.call_later(done.set):
        return  # it is being closed
    deadline = time.monotonic() + PATIENCE
    while not done.is_set() and not node._closed and app.is_running:
        assert time.monotonic() < deadline, f"{node} handles nothing any more"
        await asyncio.sleep(0)


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
            and [view.turn for view in chat.views] == chat.state.turns[chat.transcript.hidden :]
            and all(view.finished for view in chat.views)
        ),
    )
    await settled(pilot, app)


def told(app: ChatApp) -> str:
    """The newest word in the corner; "" if there is none."""
    words = list(app._notifications)
    return words[-1].message if words else ""
