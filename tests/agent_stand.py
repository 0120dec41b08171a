"""A warm agent on a thread of the test, with a scripted model.

with agent(lambda call: call.prompt.upper()) as server: …     # server.model is the FakeModel
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.agent.holder import Holder
from qwen3_mlx_app.agent.identity import Identity
from qwen3_mlx_app.agent.server import Server

__all__ = ["Stand", "agent", "descriptors", "until", "where_signal_is"]

#: What never happens is given up after so long; a slow machine takes part of it.
_PATIENCE = 120.0


class Stand(Server):
    """A server that knows its model, and when it has ended how."""

    model: FakeModel
    outcome: str = ""


@contextmanager
def agent(tape: Any = lambda call: call.prompt.upper(), **options: Any) -> Iterator[Stand]:
    """A running agent that claims to hold tiny; it has ended when the block is left."""
    model = tape if isinstance(tape, FakeModel) else FakeModel(tape)
    load = options.pop("load", lambda tell: model)
    idle = {name: options.pop(name) for name in ("idle_seconds", "clock") if name in options}
    identity = Identity("tiny", options.pop("flags", {}))
    server = Stand(identity, Holder(load, **idle), options.pop("log", lambda line: None), **options)
    server.model = model

    def run() -> None:
        server.outcome = server.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(timeout=_PATIENCE)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread or process."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def where_signal_is(how: signal.Handlers, number: signal.Signals) -> list[str]:
    """Words before a command that begin it with a signal ignored, or heard.

    Jobs in the background of a script ignore interrupts, and so do their children; `preexec_fn`
    would do this too, and is not safe beside threads.
    """
    code = "import os, signal, sys; a = sys.argv; signal.signal(int(a[2]), int(a[1])); "
    code += "os.execv(a[3], a[3:])"
    return [sys.executable, "-c", code, str(int(how)), str(int(number))]


def descriptors() -> int:
    """Open file descriptors of this process."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return len(os.listdir(folder))
