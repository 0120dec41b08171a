"""A warm agent on a thread of the test, with a scripted model.

with agent(lambda call: call.prompt.upper()) as server: …     # server.model is the FakeModel
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.agent.holder import Holder
from qwen3_mlx_app.agent.identity import Identity
from qwen3_mlx_app.agent.server import Server

__all__ = ["Stand", "agent", "descriptors"]


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
        thread.join(timeout=10)
        assert not thread.is_alive()


def descriptors() -> int:
    """Open file descriptors of this process."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return len(os.listdir(folder))
