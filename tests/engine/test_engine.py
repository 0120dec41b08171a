"""The schedule: company never changes anybody's tokens, and every request ends as it should."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import mlx.core as mx
import pytest
from checkpoints import write_checkpoint
from engine.recorder import VOCAB, Recorder, request_for
from hypothesis import given, settings
from hypothesis import strategies as st
from model.running import load

from qwen3_mlx.engine import batch
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request
from qwen3_mlx.engine.threads import EngineThread
from qwen3_mlx.errors import EngineError
from qwen3_mlx.model.qwen3 import Qwen3Model


@pytest.fixture(scope="module", params=["dense", "moe"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = write_checkpoint(
        tmp_path_factory.mktemp("engine") / "model", moe=request.param == "moe", dtype="F32"
    )
    engine = Engine(partial(load, folder), VOCAB, prefill_chunk=16, max_rows=4)
    yield engine
    engine.close()


def alone(engine: Engine, number: int) -> list[int]:
    listener = Recorder()
    engine.submit(request_for(number, listener))
    assert listener.end() == "length"
    return listener.tokens


@given(
    schedule=st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(["run", "cancel", "stop", "fail"]),
                  st.integers(1, 11)),
        min_size=1, max_size=9,
    )
)  # fmt: skip
@settings(max_examples=12)
def test_company_never_changes_tokens(engine: Engine, schedule: list[tuple[int, str, int]]) -> None:
    """Requests join, leave, are cancelled and fail; each says what it says alone."""
    running = []
    for number, fate, when in schedule:
        listener = Recorder()
        asked = request_for(number, listener)
        listener.at = {when: _fate(fate, asked)}
        running.append((number, fate, when, listener))
        engine.submit(asked)
    ends = [listener.end() for *_, listener in running]

    for (number, fate, when, listener), end in zip(running, ends, strict=True):
        expected = alone(engine, number)
        if fate == "run":
            assert (end, listener.tokens) == ("length", expected)
        elif fate == "cancel":
            assert end == ("cancelled" if when < 12 else "length")
            assert listener.tokens == expected[:when]
        else:
            assert listener.tokens == expected[:when]
            assert end == "stop" if fate == "stop" else isinstance(end, KeyError)


def _fate(fate: str, asked: Request) -> Callable[[], bool]:
    def act() -> bool:
        if fate == "cancel":
            asked.cancelled = True
        if fate == "fail":
            raise KeyError("a listener's own mistake")
        return fate == "stop"

    return act


def test_eos_ends_and_is_not_delivered(engine: Engine) -> None:
    said = alone(engine, 0)
    listener = Recorder()
    asked = request_for(0, listener)
    asked.eos = frozenset({said[5]})
    engine.submit(asked)

    assert listener.end() == "stop"
    assert listener.tokens == said[: said.index(said[5])]


def test_prefill_is_told_chunk_by_chunk(engine: Engine) -> None:
    listener = Recorder()
    engine.submit(Request(list(range(40)), DrawRule(), listener, 1))

    assert listener.end() == "length"
    assert listener.prefills == [(16, 40), (32, 40), (40, 40)]


def interrupt(asked: Request, how: str) -> None:
    if how == "cancelled":
        asked.cancelled = True
    else:
        asked.deadline = time.monotonic()


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
@pytest.mark.parametrize(("when", "read", "said"), [(0, [(16, 200)], 0), (3, None, 3)])
def test_an_interrupted_request_ends_where_it_is(
    engine: Engine, how: str, when: int, read: list[tuple[int, int]] | None, said: int
) -> None:
    listener = Recorder({when: lambda: interrupt(asked, how)})
    asked = Request([1] * 200, DrawRule(), listener, 10**6)
    engine.submit(asked)

    assert listener.end() == how
    assert len(listener.tokens) == said
    assert read is None or listener.prefills == read


def test_who_waits_ends_in_time(tmp_path: Path) -> None:
    """Nobody who waits behind a long answer has to wait for its end."""
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    engine = Engine(partial(load, folder), VOCAB, max_rows=1)
    running, waiting = Recorder(), Recorder()
    engine.submit(Request([1], DrawRule(), running, 10**6))
    engine.submit(Request([1], DrawRule(), waiting, 5, deadline=time.monotonic()))

    assert waiting.end() == "timeout"
    assert not waiting.prefills
    engine.close()
    assert running.end() == "cancelled"


def test_more_requests_than_rows_all_finish(engine: Engine) -> None:
    listeners = [Recorder() for _ in range(11)]
    for number, listener in enumerate(listeners):
        engine.submit(request_for(number % 8, listener, 6))

    assert [listener.end() for listener in listeners] == ["length"] * 11


def test_a_fault_fails_its_requests_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> mx.array:
        raise RuntimeError("no device")

    def break_it() -> None:
        monkeypatch.setattr(batch, "_draw", broken)

    expected, listener = alone(engine, 1), Recorder({3: break_it})
    held = weakref.ref(engine._batch)

    engine.submit(request_for(1, listener))
    end = listener.end()
    monkeypatch.undo()

    assert isinstance(end, EngineError)
    gc.collect()
    assert held() is None  # who keeps the error keeps no weights, keys or values
    assert "no device" in str(end)
    assert alone(engine, 1) == expected


def test_call_runs_on_the_engine_thread_and_raises_here(engine: Engine) -> None:
    assert engine.call(lambda: threading.current_thread().name) == "qwen3-mlx engine"
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda: 1 / 0)


def test_whatever_fails_on_the_way_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is just being begun, or taken into the batch, is not forgotten."""
    for place in ("engine.engine.Prefilling", "engine.batch.Batch.add"):
        with monkeypatch.context() as patch:
            patch.setattr(f"qwen3_mlx.{place}", _broken)
            listener = Recorder()
            engine.submit(request_for(1, listener))
            assert isinstance(listener.end(), EngineError)
    assert alone(engine, 1)


def _broken(*arguments: object) -> None:
    raise RuntimeError("no device")


def test_a_fault_in_what_is_handed_in_does_not_end_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    engine = Engine(partial(load, folder), VOCAB, prefix_bytes=1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr("qwen3_mlx.engine.idle.IdleReader.add", _broken)
        engine.prepare([1, 2, 3])
        assert engine.call(lambda: 1) == 1
    assert len(alone(engine, 1)) == 12
    engine.close()


def test_a_model_that_cannot_be_loaded_leaves_no_thread() -> None:
    def broken() -> Qwen3Model:
        raise ValueError("no such weights")

    for _ in range(3):
        with pytest.raises(ValueError, match="no such weights"):
            Engine(broken, VOCAB)
    before = threading.active_count()
    with pytest.raises(ValueError, match="no such weights"):
        Engine(broken, VOCAB)
    assert threading.active_count() <= before


def test_nobody_is_given_a_thread_whose_work_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise SystemError("out of luck")

    ended, served = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    EngineThread(broken).join()
    assert ended.wait(60)
    EngineThread(served.set)
    assert served.wait(60)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux lists all threads")
def test_engines_in_turn_share_a_thread_and_what_mlx_keeps_for_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", dtype="F32")

    def once() -> int:
        engine = Engine(partial(load, folder), VOCAB)
        alone(engine, 1)
        engine.close()
        return len(os.listdir("/proc/self/task"))

    once()
    assert once() == once() == once()


def test_closing_cancels_what_runs_and_refuses_more(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    engine = Engine(partial(load, folder), VOCAB, max_rows=1)
    listeners = [Recorder(), Recorder()]
    for listener in listeners:
        engine.submit(Request([1], DrawRule(), listener, 10**6))
    engine.close()
    engine.close()

    assert [listener.end() for listener in listeners] == ["cancelled"] * 2
    for use in (
        lambda: engine.submit(Request([1], DrawRule(), Recorder(), 1)),
        lambda: engine.call(lambda: None),
        lambda: engine.model,
    ):
        with pytest.raises(EngineError, match="closed"):
            use()
    engine.prepare([1, 2])  # nobody needs it any more


def test_nothing_is_lost_between_asking_and_closing(tmp_path: Path) -> None:
    """Whatever is handed in while the engine closes is refused or answered."""
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    for _ in range(5):
        engine = Engine(partial(load, folder), VOCAB)
        heard: list[Recorder] = []
        asking = threading.Thread(target=ask_until_refused, args=(engine, heard), daemon=True)
        asking.start()
        while not heard:
            time.sleep(0.001)
        engine.close()
        asking.join(timeout=60)
        assert not asking.is_alive()
        assert {listener.end() for listener in heard} <= {"length", "cancelled"}


def ask_until_refused(engine: Engine, heard: list[Recorder]) -> None:
    with suppress(EngineError):
        while True:
            listener = Recorder()
            engine.submit(Request([1], DrawRule(), listener, 1))
            heard.append(listener)
            engine.call(lambda: None)


def test_a_closed_engine_holds_no_model(tmp_path: Path) -> None:
    """Whatever it was doing: reading a prompt, decoding, reading ahead."""
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    for asked in (0, 1):
        engine = Engine(partial(load, folder), VOCAB, prefill_chunk=16, prefix_bytes=1 << 20)
        held = weakref.ref(engine.model)
        listener = Recorder({asked: engine.close})
        engine.submit(Request([1] * 100, DrawRule(), listener, 10**6))
        engine.prepare([2] * 1000)
        assert listener.end() == "cancelled"
        engine.close()
        gc.collect()
        assert held() is None


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    engine = Engine(partial(load, folder), VOCAB, max_rows=1, max_waiting=2)
    began = threading.Event()
    engine.submit(Request([1], DrawRule(), Recorder({1: began.set}), 10**6))
    began.wait()  # the only row is taken: from here on nobody begins
    for _ in range(2):
        engine.submit(Request([1], DrawRule(), Recorder(), 10**6))
    engine.call(lambda: None)  # both have been taken in
    with pytest.raises(EngineError, match="2 requests wait"):
        engine.submit(Request([1], DrawRule(), Recorder(), 1))
    engine.close()
