"""Threads of engines: the garbage collector may be anywhere, and a fork leaves them behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections import deque

import pytest

from qwen3_mlx.engine import threads
from qwen3_mlx.engine.threads import EngineThread


def test_an_engine_may_end_while_a_thread_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the garbage collector closes a model just then, and waits for its thread."""
    gate, made = threading.Event(), threading.Event()

    class Collects(threads._Worker):
        def __init__(self) -> None:
            gate.set()
            other.join()
            super().__init__()

    monkeypatch.setattr(threads, "_idle", deque())
    other = EngineThread(lambda: gate.wait() and None)
    monkeypatch.setattr(threads, "_Worker", Collects)
    threads._idle.clear()
    threading.Thread(target=lambda: EngineThread(made.set), daemon=True).start()
    assert made.wait(20)


FORKS = """
    import os, sys, time
    import qwen3_mlx
    from qwen3_mlx import EngineError

    def child(what):
        "What a child does, and how it ends; a child that hangs is seen by the test's time limit."
        sys.stdout.flush()
        if not os.fork():
            try:
                what()
            except EngineError as error:
                print("start method" in str(error), flush=True)
            else:
                print("nothing", flush=True)
            sys.exit(0)  # with all that is done at a normal end
        print(os.wait()[1], flush=True)

    def load_and_ask():
        with qwen3_mlx.load("tiny") as model:
            assert model.ask("2 + 2?", thinking=False, max_tokens=2).text

    def close():
        model.close()

    def ask():
        model.ask("2 + 2?", max_tokens=2)

    {}
"""


def _forks(then: str) -> list[str]:
    script = textwrap.dedent(FORKS).format(then)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_a_child_of_a_process_with_a_model_is_told_to_spawn() -> None:
    then = (
        "model = qwen3_mlx.load('tiny'); child(ask); child(load_and_ask); child(close); "
        "ask(); close(); child(load_and_ask); child(lambda: 1); load_and_ask()"
    )
    assert _forks(then) == [
        "True", "0", "True", "0", "nothing", "0", "True", "0", "nothing", "0",
    ]  # fmt: skip


def test_models_may_be_loaded_in_children_only() -> None:
    assert _forks("child(load_and_ask); child(load_and_ask)") == ["nothing", "0"] * 2
