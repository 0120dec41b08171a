"""The bound of keys and values: rows times length is counted, and nobody says anything else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from engine.recorder import VOCAB, Recorder, request_for
from model.running import load

from qwen3_mlx import hub
from qwen3_mlx.engine.bound import Bound
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request
from qwen3_mlx.loading import read_parts
from qwen3_mlx.streaming import Keeper

STEP = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bound") / "model", dtype="F32")


def engine_of(folder: Path, positions: int | None, prefix_bytes: int = 0) -> Engine:
    token_bytes = load(folder).config.kv_bytes_per_token(4)
    return Engine(
        partial(load, folder), VOCAB, prefill_chunk=64, prefix_bytes=prefix_bytes,
        kv_bytes=None if positions is None else positions * token_bytes,
    )  # fmt: skip


class Watch:
    """Looks at the batch at every step."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most_bytes = self.most_rows = self.backs = 0
        self._batch = engine._batch
        self._step, self._back = self._batch.step, self._batch.step_back
        monkeypatch.setattr(self._batch, "step", self.step)
        monkeypatch.setattr(self._batch, "step_back", self.step_back)

    def step(self) -> list[int]:
        tokens = self._step()
        assert self._batch._kv is not None
        held = sum(array.nbytes for array in self._batch._kv.arrays())
        self.most_bytes = max(self.most_bytes, held)
        self.most_rows = max(self.most_rows, len(self._batch.requests))
        return tokens

    def step_back(self, row: int, chunk: int) -> object:
        self.backs += 1
        return self._back(row, chunk)


def texts(engine: Engine, requests: list[Request]) -> list[list[int]]:
    """All at once, so that they meet in the batch."""
    engine.call(lambda: [engine.submit(each) for each in requests])
    assert [each.listener.end() for each in requests] == ["length"] * len(requests)  # type: ignore[attr-defined]
    return [each.said for each in requests]


def long_one() -> Request:
    return Request([n % VOCAB for n in range(900)], DrawRule(), Recorder(), 40, seed=9)


def test_short_texts_wait_for_a_long_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """900 tokens and 15 short ones would be sixteen times as long as the long one."""
    engine = engine_of(folder, 4 * STEP)
    watch = Watch(engine, monkeypatch)
    texts(engine, [long_one(), *(request_for(n, Recorder()) for n in range(15))])
    assert watch.most_bytes <= 4 * STEP * engine.model.config.kv_bytes_per_token(4)
    assert 1 < watch.most_rows <= 4
    assert not watch.backs
    engine.close()


def test_a_long_text_waits_and_is_not_overtaken(folder: Path) -> None:
    engine, order = engine_of(folder, 4 * STEP), list[str]()
    early = [request_for(n, Recorder({1: lambda: order.append("early")})) for n in range(3)]
    late = [request_for(n, Recorder({1: lambda: order.append("late")})) for n in range(3)]
    long = long_one()
    long.listener = Recorder({1: lambda: order.append("long")})
    texts(engine, [*early, long, *late])
    assert order == ["early"] * 3 + ["long"] + ["late"] * 3
    engine.close()


def growing() -> list[Request]:
    """Four of all kinds, who have room for 262 tokens, and say 280."""
    made = [request_for(n, Recorder(), 280) for n in range(4)]
    for request in made:
        request.prompt = [*range(250 - len(request.prompt)), *request.prompt]
        request.logprobs = 1
    return made


@pytest.fixture(scope="module")
def unbound(folder: Path) -> list[Request]:
    engine, asked = engine_of(folder, None), growing()
    texts(engine, asked)
    engine.close()
    return asked


@pytest.mark.parametrize("prefix_bytes", [0, 1 << 26])
def test_a_batch_that_outgrows_its_bound_says_the_same(
    folder: Path, unbound: list[Request], monkeypatch: pytest.MonkeyPatch, prefix_bytes: int
) -> None:
    """The newest are read again later."""
    engine, asked = engine_of(folder, 4 * STEP, prefix_bytes), growing()
    watch = Watch(engine, monkeypatch)
    assert texts(engine, asked) == [each.said for each in unbound]
    assert watch.backs == 2
    assert watch.most_bytes <= 4 * STEP * engine.model.config.kv_bytes_per_token(4)
    for one, other in zip(unbound, asked, strict=True):
        assert logprobs(one) == pytest.approx(logprobs(other), abs=1e-4)
        assert other.listener.prefills[-1] == (250, 250)  # type: ignore[attr-defined]
    engine.close()


def logprobs(request: Request) -> list[float]:
    assert [each.token for each in request.odds if each] == request.said
    return [each.logprob for each in request.odds if each]


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_who_stepped_back_can_be_cancelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    engine = engine_of(folder, 4 * STEP)
    watch, heard = Watch(engine, monkeypatch), Recorder()
    first = Request([1], DrawRule(), Recorder(), 10**6)
    second = Request([1] * 256, DrawRule(), heard, 10**6)

    def end_it() -> None:
        if watch.backs and how == "cancel":
            second.cancelled = True
        elif watch.backs:
            engine.close()

    first.listener = Recorder({300: end_it})
    engine.call(lambda: (engine.submit(first), engine.submit(second)))
    assert heard.end() == "cancelled"
    assert len(heard.tokens) == 512 - 256
    engine.close()


def test_a_loaded_model_has_a_bound() -> None:
    keeper = Keeper(read_parts(hub.resolve("tiny")))
    whole = keeper.full_plan().kv_bytes
    assert keeper.engine_options["kv_bytes"] >= whole
    assert Bound(16, keeper.engine_options["kv_bytes"], 1).positions


def test_the_rectangle_is_counted() -> None:
    bound = Bound(16, kv_bytes=2048 * 8, token_bytes=8)
    short, long = (Request([1] * n, DrawRule(), Recorder(), 10**6) for n in (1, 700))
    brief = Request([1] * 700, DrawRule(), Recorder(), 8)
    assert bound.admits([], Request([1] * 5000, DrawRule(), Recorder(), 1))
    assert bound.admits([short] * 3, short)  # 4 x 512, with a step of growth
    assert not bound.admits([short] * 4, short)
    assert bound.admits([short], long)  # 2 x 1,024
    assert not bound.admits([short] * 2, long)
    assert bound.admits([brief], brief)
    assert not bound.outgrown([long] * 2, [])
    assert bound.outgrown([long] * 3, [])
    assert bound.outgrown([long] * 2, [long])
    assert not bound.outgrown([Request([1] * 5000, DrawRule(), Recorder(), 1)], [])
    assert Bound(2, None, 8).admits([long], long)
    assert not Bound(2, None, 8).admits([long] * 2, long)
    assert not Bound(2, None, 8).outgrown([long] * 9, [long])
