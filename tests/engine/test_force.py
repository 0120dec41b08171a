"""Ids that are put into a running text: as if the text had been read with them from the start."""

from __future__ import annotations

import platform
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from engine.recorder import SENTENCE, VOCAB, Recorder, request_for, wishing
from hypothesis import given, settings
from hypothesis import strategies as st
from model.running import load

from qwen3_mlx.engine.batch import Batch, Prefilling
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.mask import Ban, masked
from qwen3_mlx.engine.request import DrawRule, Force, Request, Stop
from qwen3_mlx.model.qwen3 import Qwen3Model

# There MLX's own kernels treat one position and many alike; elsewhere another library may not.
AS_SHIPPED_FOR_LINUX = platform.system() == "Linux" and mx.default_device() == mx.cpu


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Qwen3Model:
    folder = write_checkpoint(tmp_path_factory.mktemp("force") / "model", dtype="F32")
    return load(folder)


@pytest.fixture(scope="module", params=["dense", "moe"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_checkpoint(
        tmp_path_factory.mktemp("force") / "model", moe=request.param == "moe", dtype="F32"
    )
    engine = Engine(partial(load, folder), VOCAB, prefill_chunk=16, max_rows=4)
    yield engine
    engine.close()


def started(model: Qwen3Model, rows: int, rule: DrawRule) -> Batch:
    """A batch of requests with prompts of different lengths."""
    batch = Batch(model, VOCAB)
    for number in range(rows):
        prompt = [(number * 31 + 7 * i) % VOCAB for i in range(5 + 9 * number)]
        reading = Prefilling(model, VOCAB, Request(prompt, rule, Recorder(), 100, seed=number), 64)
        first = reading.advance()
        assert first is not None
        batch.add(reading, first)
    return batch


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_the_cache_equals_a_prefill_of_the_same_ids(model: Qwen3Model, rows: int, cut: int) -> None:
    batch = started(model, rows, DrawRule(temperature=1.0))
    for _ in range(7):
        for request, [token] in zip(batch.requests, batch.step(), strict=True):
            request.add(token)
    row = rows // 2
    request, before = batch.requests[row], list(batch.requests[row].said)
    reading = batch.reread(row, Force(SENTENCE, cut), 64)
    assert reading.advance() is not None  # one chunk: one prefill

    text = [*request.prompt, *request.said]
    assert request.said == [*before[: len(before) - cut], *SENTENCE]
    assert (request.stats.tokens, request.stats.forced) == (7 - cut, len(SENTENCE))
    assert reading.kv.length == len(text)
    scratch = KVCache(model.config)
    expected = model.logits(model.hidden(mx.array([text]), scratch)[:, -1])
    for held, made in zip(reading.kv.arrays(), scratch.arrays(), strict=True):
        difference = mx.abs(held[:, :, : len(text)] - made[:, :, : len(text)]).max().item()
        assert difference <= 1e-5
    probe = mx.array([[3]])
    ours, theirs = (np.array(model.logits(model.hidden(probe, kv)[:, -1]))[0]
                    for kv in (reading.kv, scratch))  # fmt: skip
    assert np.abs(ours - theirs).max() <= (0 if AS_SHIPPED_FOR_LINUX else 1e-4)
    assert ours.argmax() == theirs.argmax()
    assert expected.shape == (1, model.config.vocab_size)


def test_the_history_of_penalties_counts_what_is_in_the_text(model: Qwen3Model) -> None:
    batch = started(model, 3, DrawRule(temperature=1.0, presence_penalty=0.5))
    for _ in range(6):
        for request, [token] in zip(batch.requests, batch.step(), strict=True):
            request.add(token)
    reading = batch.reread(1, Force(SENTENCE, 2), 64)
    counts = np.zeros(VOCAB)
    np.add.at(counts, reading.request.said, 1)

    assert reading.penalties is not None
    assert (np.array(reading.penalties.counts)[0] == counts).all()


@given(
    plan=st.lists(
        st.tuples(st.integers(0, 7), st.integers(1, 11), st.integers(0, 3)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
@settings(max_examples=10)
def test_forced_texts_in_company_are_as_alone(
    engine: Engine, plan: list[tuple[int, int, int]]
) -> None:
    def submit(number: int, when: int, cut: int) -> tuple[Request, Recorder]:
        heard = wishing({when: Force(SENTENCE, min(cut, when)), 14: Force([5, 6])})
        request = request_for(number, heard, max_tokens=20)
        engine.submit(request)
        return request, heard

    running = [submit(*each) for each in plan]
    together = [(heard.end(), request.said) for request, heard in running]
    for (end, said), each in zip(together, plan, strict=True):
        request, heard = submit(*each)
        assert (heard.end(), request.said) == (end, said)


def test_greedy_text_goes_on_as_after_a_prompt(engine: Engine) -> None:
    heard = wishing({6: Force(SENTENCE, 1)})
    request = Request([4, 5, 6], DrawRule(), heard, 12)
    engine.submit(request)
    assert heard.end() == "length"
    assert request.stats.tokens == 12
    assert len(request.said) == 12 + len(SENTENCE)

    kept = 5 + len(SENTENCE)
    again = Recorder()
    engine.submit(Request([4, 5, 6, *request.said[:kept]], DrawRule(), again, 7))
    assert again.end() == "length"
    assert again.tokens == request.said[kept:]


@pytest.mark.parametrize(("room", "fits"), [(19, True), (16, True), (15, False)])
def test_ids_that_do_not_fit_are_not_forced(engine: Engine, room: int, fits: bool) -> None:
    heard = wishing({5: Force(SENTENCE)})
    request = Request([1, 2], DrawRule(), heard, 100, room=room)
    engine.submit(request)

    assert heard.end() == "length"
    assert len(request.said) == room
    assert (request.stats.forced > 0) == fits


def test_a_wish_for_more_than_was_drawn_fails_alone(engine: Engine) -> None:
    heard, other = wishing({2: Force([1], cut=3)}), Recorder()
    for listener in (heard, other):
        engine.submit(Request([1, 2], DrawRule(), listener, 10))
    assert isinstance(heard.end(), ValueError)
    assert other.end() == "length"


def test_stop_says_why(engine: Engine) -> None:
    heard = wishing({3: Stop("repetition")})
    engine.submit(Request([1, 2], DrawRule(), heard, 10))
    assert heard.end() == "repetition"
    assert len(heard.tokens) == 3


@pytest.mark.parametrize("rule", [DrawRule(), DrawRule(temperature=2.0, repetition_penalty=1.3)])
def test_a_mask_holds_in_company(engine: Engine, rule: DrawRule) -> None:
    """One row may say only 40 ids; the others do not feel it."""
    free, bound = Recorder(), Recorder()
    plain = Request([9, 8], rule, free, 30, seed=1)
    ban = Ban(VOCAB, range(40, VOCAB))
    engine.submit(plain)
    engine.submit(Request([9, 8], rule, bound, 30, seed=1, mask=ban))
    assert [each.end() for each in (free, bound)] == ["length"] * 2
    alone = Recorder()
    engine.submit(Request([9, 8], rule, alone, 30, seed=1))
    assert alone.end() == "length"

    assert max(bound.tokens) < 40
    assert alone.tokens == free.tokens
    assert max(free.tokens) >= 40


def test_a_ban_may_change_and_end() -> None:
    logits = mx.zeros((2, 5))
    ban = Ban(5)
    assert masked(logits, [ban, None]) is logits
    ban.ids = frozenset({1, 4})
    assert np.isinf(np.array(masked(logits, [ban, None]))).nonzero()[1].tolist() == [1, 4]
    ban.ids = frozenset()
    assert masked(logits, [ban, None]) is logits
