"""Log-probabilities of drawn tokens equal a log-softmax over a pass from scratch."""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from engine.recorder import SENTENCE, VOCAB, Recorder, request_for, wishing
from model.running import load

import qwen3_mlx
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.request import Force, Request
from qwen3_mlx.errors import OptionError


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_checkpoint(tmp_path_factory.mktemp("odds") / "model", moe=True, dtype="F32")
    engine = Engine(partial(load, folder), VOCAB, prefill_chunk=16, max_rows=8)
    yield engine
    engine.close()


def from_scratch(engine: Engine, text: list[int]) -> np.ndarray:
    """Log-probabilities (L, V) after each id."""

    def compute() -> np.ndarray:
        model = engine.model
        logits = model.logits(model.hidden(mx.array([text]), KVCache(model.config)))[0, :, :VOCAB]
        return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))

    return engine.call(compute)


def check(engine: Engine, request: Request) -> None:
    expected = from_scratch(engine, [*request.prompt, *request.said])
    assert len(request.odds) == len(request.said)
    for place, (token, odds) in enumerate(zip(request.said, request.odds, strict=True)):
        if odds is None:
            continue
        row = expected[len(request.prompt) + place - 1]
        assert odds.token == token
        assert odds.logprob == pytest.approx(row[token], abs=1e-4)
        assert len(odds.top) == request.logprobs
        for (id, value), best in zip(odds.top, np.sort(row)[::-1], strict=False):
            assert value == pytest.approx(row[id], abs=1e-4)
            assert value == pytest.approx(best, abs=1e-4)


def test_equal_to_a_pass_from_scratch_in_a_batch_of_all_rules(engine: Engine) -> None:
    requests = [request_for(number, Recorder()) for number in range(6)]
    for number, request in enumerate(requests):
        request.logprobs = None if number == 2 else number
        engine.submit(request)
    for request in requests:
        assert request.listener.end() == "length"
        if request.logprobs is None:
            assert not request.odds
        else:
            check(engine, request)


@pytest.mark.parametrize("cut", [0, 2])
def test_forced_ids_have_none(engine: Engine, cut: int) -> None:
    request = request_for(1, wishing({5: Force(SENTENCE, cut)}))
    request.logprobs = 2
    engine.submit(request)
    assert request.listener.end() == "length"
    kept = 5 - cut
    assert [odds is None for odds in request.odds[kept : kept + len(SENTENCE)]] == [True] * 10
    assert request.odds.count(None) == len(SENTENCE)
    check(engine, request)


def test_asking_changes_no_token(engine: Engine) -> None:
    texts = []
    for asked in (None, 5):
        request = request_for(3, Recorder())
        request.logprobs = asked
        engine.submit(request)
        assert request.listener.end() == "length"
        texts.append(request.said)
    assert texts[0] == texts[1]


def test_who_does_not_ask_does_not_pay(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: object) -> None:
        raise AssertionError("nobody asked for log-probabilities")

    monkeypatch.setattr("qwen3_mlx.engine.batch.odds_of", computed)
    request = request_for(1, Recorder())
    engine.submit(request)
    assert request.listener.end() == "length"


def test_a_reply_tells_them_with_their_text() -> None:
    with qwen3_mlx.load("tiny") as model:
        greedy = qwen3_mlx.Sampling(temperature=0)
        reply = model.ask("2 + 3", thinking=False, sampling=greedy, logprobs=2)
        assert reply.logprobs is not None
        assert "".join(each.text for each in reply.logprobs) == reply.text
        for each in reply.logprobs:
            assert each.top[0] == (each.token, each.text, each.logprob)
        assert model.ask("2 + 3", max_tokens=1).logprobs is None
        with pytest.raises(OptionError, match="from 0 to 20"):
            model.ask("2 + 3", logprobs=21)
