"""The schedule: company never changes anybody's tokens, and every request ends as it should."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from checkpoints import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx.engine import batch
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request, RequestStats
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import FinishReason
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.model.weights import build_model

VOCAB = 300


class Recorder:
    """A listener that keeps what it hears; `at` runs in place of the nth token's silence."""

    def __init__(self, at: dict[int, Callable[[], bool]] | None = None) -> None:
        self.tokens: list[int] = []
        self.prefills: list[tuple[int, int]] = []
        self.ends: queue.SimpleQueue[FinishReason | Exception] = queue.SimpleQueue()
        self.stats = RequestStats()
        self._at = at or {}

    def prefill(self, done: int, total: int) -> None:
        self.prefills.append((done, total))

    def token(self, token: int) -> bool:
        self.tokens.append(token)
        action = self._at.get(len(self.tokens))
        return bool(action and action())

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        self.stats = stats
        self.ends.put(reason)

    def failed(self, error: Exception) -> None:
        self.ends.put(error)

    def end(self) -> FinishReason | Exception:
        return self.ends.get(timeout=300)


def make_loader(folder: Path) -> Callable[[], Qwen3Model]:
    def load() -> Qwen3Model:
        arrays = mx.load(str(folder / "model.safetensors"))
        assert isinstance(arrays, dict)
        import json

        return build_model(
            ModelConfig.from_dict(json.loads((folder / "config.json").read_text())), arrays
        )

    return load


@pytest.fixture(scope="module", params=["dense", "moe"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = write_checkpoint(
        tmp_path_factory.mktemp("engine") / "model", moe=request.param == "moe", dtype="F32"
    )
    engine = Engine(make_loader(folder), VOCAB, prefill_chunk=16, max_rows=4)
    yield engine
    engine.close()


def request_for(number: int, listener: Recorder, max_tokens: int = 12) -> Request:
    """The nth of a set of different requests: lengths, rules and seeds all vary."""
    prompt = [(number * 37 + 11 * i) % VOCAB for i in range(1 + (number * 13) % 40)]
    rule = [
        DrawRule(),
        DrawRule(temperature=1.0, top_k=20, top_p=0.9),
        DrawRule(temperature=1.3, min_p=0.02),
        DrawRule(temperature=0.8, presence_penalty=1.0, repetition_penalty=1.2),
    ][number % 4]
    return Request(prompt, rule, listener, max_tokens, seed=number)


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
@settings(max_examples=12, deadline=None)
def test_company_never_changes_tokens(engine: Engine, schedule: list[tuple[int, str, int]]) -> None:
    """Requests join, leave, are cancelled and fail; each says what it says alone."""
    running = []
    for number, fate, when in schedule:
        listener = Recorder()
        asked = request_for(number, listener)
        listener._at = {when: _fate(fate, asked)}
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


def test_cancel_while_the_prompt_is_read(engine: Engine) -> None:
    listener = Recorder()
    asked = Request([1] * 4000, DrawRule(), listener, 5)
    engine.submit(asked)
    while not listener.prefills:
        time.sleep(0.001)
    asked.cancelled = True

    assert listener.end() == "cancelled"
    assert listener.prefills[-1][0] < 4000


def test_deadline(engine: Engine) -> None:
    listener = Recorder()
    engine.submit(Request([1, 2], DrawRule(), listener, 10**6, deadline=time.monotonic() + 0.2))

    assert listener.end() == "timeout"
    assert listener.tokens


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

    def break_it() -> bool:
        monkeypatch.setattr(batch, "_draw", broken)
        return False

    expected, listener = alone(engine, 1), Recorder({3: break_it})

    engine.submit(request_for(1, listener))
    end = listener.end()
    monkeypatch.undo()

    assert isinstance(end, EngineError)
    assert "no device" in str(end)
    assert alone(engine, 1) == expected


def test_call_runs_on_the_engine_thread_and_raises_here(engine: Engine) -> None:
    assert engine.call(lambda: threading.current_thread().name) == "qwen3-mlx engine"
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda: 1 / 0)


def test_closing_cancels_what_runs_and_refuses_more(tmp_path: Path) -> None:
    engine = Engine(make_loader(write_checkpoint(tmp_path / "m", dtype="F32")), VOCAB, max_rows=1)
    listeners = [Recorder(), Recorder()]
    for listener in listeners:
        engine.submit(Request([1], DrawRule(), listener, 10**6))
    engine.close()
    engine.close()

    assert [listener.end() for listener in listeners] == ["cancelled"] * 2
    with pytest.raises(EngineError, match="closed"):
        engine.submit(Request([1], DrawRule(), Recorder(), 1))


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", dtype="F32")
    engine = Engine(make_loader(folder), VOCAB, max_rows=1, max_waiting=2)
    for waiting in range(3):
        engine.submit(Request([1], DrawRule(), Recorder(), 10**6))
        while len(engine._waiting) < waiting:
            time.sleep(0.001)
    with pytest.raises(EngineError, match="2 requests wait"):
        engine.submit(Request([1], DrawRule(), Recorder(), 1))
    engine.close()
