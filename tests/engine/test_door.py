"""Whoever hands something to an engine hears of it, however the engine's thread ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from engine.recorder import VOCAB, Recorder
from model.running import load

from qwen3_mlx.engine.door import Task
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request, RequestStats
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import FinishReason


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(partial(load, write_checkpoint(tmp_path / "m", dtype="F32")), VOCAB)
    yield engine
    engine.close()


def asked(listener: Recorder, max_tokens: int = 10**6) -> Request:
    return Request([1], DrawRule(), listener, max_tokens)


class Fails(Recorder):
    """Cannot hear that its text is over."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        raise self.error


def test_a_call_runs_under_no_request_s_deadline(engine: Engine) -> None:
    """Experts that it reads from disk would else be given up, as soon as that is over."""
    listener = Recorder()
    engine.submit(Request([1], DrawRule(), listener, 2, deadline=time.monotonic() + 300))
    assert listener.end() == "length"
    assert engine.call(lambda: engine.model.patience.deadline) is None

    seen: list[float | None] = []
    look = partial(engine.call, lambda: seen.append(engine.model.patience.deadline))
    listener = Recorder({1: look})
    engine.submit(Request([1], DrawRule(), listener, 2, deadline=time.monotonic() + 300))
    assert listener.end() == "length"
    assert seen == [None]


def test_a_call_from_the_engine_s_own_thread_waits_for_nobody(engine: Engine) -> None:
    names: list[str] = []
    look = partial(engine.call, lambda: names.append(threading.current_thread().name))
    listener = Recorder({1: look})
    engine.submit(asked(listener, 2))
    assert listener.end() == "length"
    assert names == ["qwen3-mlx engine"]


def test_who_cannot_hear_of_the_end_hears_of_the_fault(engine: Engine) -> None:
    listener, other = Fails(ValueError("no ear")), Recorder()
    engine.submit(asked(listener, 2))
    assert str(listener.end()) == "no ear"
    engine.submit(asked(other, 2))
    assert other.end() == "length"


@pytest.mark.parametrize("place", ["token", "end", "end of one that waits"])
def test_a_callback_that_ends_the_thread_leaves_nobody_waiting(engine: Engine, place: str) -> None:
    others, waits = [Recorder(), Recorder()], asked(Fails(SystemExit(2)))
    task: Task[None] = Task(lambda: None)

    def leave() -> None:
        """Something is under way, and something more comes in."""
        engine.submit(asked(others[1]))
        engine._door.put(task)
        waits.cancelled = place == "end of one that waits"
        if place == "token":
            sys.exit(2)

    first = Fails(SystemExit(2)) if place == "end" else Recorder()
    first.at = {3: leave}
    engine.submit(asked(others[0]))
    engine.submit(asked(first, 3 if place == "end" else 10**6))
    if place == "end of one that waits":
        engine._bound._rows = 2
        engine.submit(waits)

    heard = [others[0].end(), others[1].end(), first.end()]
    if place == "end of one that waits":
        heard.append(waits.listener.end())  # type: ignore[attr-defined]
    assert all(isinstance(each, EngineError) and "SystemExit(2)" in str(each) for each in heard)
    if place == "end of one that waits":  # a turn later
        assert task.result() is None
    else:
        with pytest.raises(EngineError, match=r"SystemExit\(2\).*load the model again"):
            task.result()
    for use in (lambda: engine.call(lambda: 1), lambda: engine.submit(asked(Recorder()))):
        with pytest.raises(EngineError, match="closed"):
            use()
