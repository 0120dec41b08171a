"""A chat that waits to be killed: run by the tests, once for each try, from one process.

For each path on standard input a child is forked, which streams an answer into that database
and notes beside it, in a log, how long the answer was when. Its process id is printed once the
question is stored.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.store import Store


def chat(path: str) -> None:
    """Stream until somebody ends it, or for a minute if nobody does."""
    words = " ".join(f"w{number}" for number in range(3_000))
    model = FakeModel([Answer(words, tokens_per_second=50)])
    session = Session(lambda progress: model, store=Store(path))
    session.start()
    turn = session.send("What will be kept?")
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: twenty write at once
    with open(f"{path}.log", "w", buffering=1) as log:
        began = time.monotonic()
        while time.monotonic() - began < 60:
            session.drain()
            log.write(f"{time.monotonic()} {len(turn.answer) if turn else 0}\n")
            time.sleep(0.1)
    os._exit(0)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # or the dead would still have a process id
for line in sys.stdin:
    if os.fork() == 0:
        chat(line.strip())
time.sleep(90)  # who is gone must be reaped
