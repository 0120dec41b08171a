"""What has been read is not read again, and nobody can tell by the answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import base_config, write_checkpoint
from engine.recorder import VOCAB, Recorder, common, request_for, wait_until_idle
from hypothesis import given, settings
from hypothesis import strategies as st
from model.running import load

from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.prefix import PrefixTree, default_bound
from qwen3_mlx.engine.request import DrawRule, Request
from qwen3_mlx.model.config import ModelConfig

CONFIG = ModelConfig.from_dict(base_config())
TOKEN_BYTES = 3 * 2 * 2 * 32 * 4  # layers, keys and values, heads, channels, float32


def cache_of(ids: Sequence[int]) -> KVCache:
    """A cache in which every number is the token that it stands for, plus the layer."""
    kv = KVCache(CONFIG)
    row = mx.array(list(ids), mx.float32)[None, None, :, None]
    for layer in range(CONFIG.layers):
        held = mx.broadcast_to(row + 1000 * layer, (1, 2, len(ids), 32))
        kv.update(layer, held, -held)
    return kv


def check(kv: KVCache | None, ids: Sequence[int], length: int) -> None:
    if kv is None:
        assert length == 0
        return
    assert kv.length == length
    for layer, (k, v) in enumerate(kv.piece(0, length)):
        expected = np.array(ids[:length], np.float32) + 1000 * layer
        assert (np.array(k)[0, 1, :, 5] == expected).all()
        assert (np.array(v) == -np.array(k)).all()


texts = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.booleans(), texts), min_size=1, max_size=25))
@settings(max_examples=40)
def test_the_tree_knows_every_beginning(steps: list[tuple[bool, list[int]]]) -> None:
    tree, kept = PrefixTree(CONFIG, 1 << 30), [[]]
    for put, ids in steps:
        expected = max(common(ids, each) for each in kept)
        assert tree.length(ids) == expected
        if put:
            tree.put(ids, cache_of(ids))
            kept.append(ids)
        else:
            check(tree.take(ids, len(ids) - 1), ids, min(expected, len(ids) - 1))
    beginnings = {tuple(each[:n]) for each in kept for n in range(1, len(each) + 1)}
    assert tree.tokens == len(beginnings)
    assert tree.nbytes == len(beginnings) * TOKEN_BYTES or not beginnings


@given(st.lists(texts, min_size=1, max_size=25), st.integers(1, 20))
@settings(max_examples=40)
def test_the_tree_stays_within_its_bound(asked: list[list[int]], tokens: int) -> None:
    tree = PrefixTree(CONFIG, tokens * TOKEN_BYTES + 7)
    for ids in asked:
        tree.put(ids, cache_of(ids))
        assert tree.nbytes <= tokens * TOKEN_BYTES
        assert tree.length(ids) == min(len(ids), tokens)  # the newest is what stays
        check(tree.take(ids, len(ids)), ids, min(len(ids), tokens))


def test_the_end_not_used_for_longest_goes_first() -> None:
    tree = PrefixTree(CONFIG, 8 * TOKEN_BYTES)
    for ids in ([1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 3, 4]):  # the last one only used
        tree.put(ids, cache_of(ids))
    tree.put([1, 2, 7, 8, 9], cache_of([1, 2, 7, 8, 9]))

    assert [tree.length(ids) for ids in ([1, 2, 3, 4], [1, 2, 5, 6])] == [4, 2]


def test_nothing_is_kept_without_room() -> None:
    tree = PrefixTree(CONFIG, 0)
    tree.put([1, 2], cache_of([1, 2]))
    assert (tree.length([1, 2]), tree.take([1, 2], 2), tree.nbytes) == (0, None, 0)
    assert default_bound(1000, 50) == 50_000
    assert default_bound(1 << 40, 1 << 40) < 1 << 50


@pytest.fixture(scope="module", params=["dense", "moe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("prefix") / "model", moe=request.param == "moe", dtype="F32"
    )


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    engine = Engine(
        partial(load, folder), VOCAB, prefill_chunk=16, max_rows=4, prefix_bytes=1 << 26
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Engine]:
    engine = Engine(partial(load, folder), VOCAB, prefill_chunk=16, max_rows=4)
    yield engine
    engine.close()


def run(engine: Engine, prompt: Sequence[int], tokens: int = 10, **more: object) -> Request:
    listener = Recorder()
    request = Request(list(prompt), DrawRule(), listener, tokens, **more)  # type: ignore[arg-type]
    engine.submit(request)
    assert listener.end() in ("length", "stop")
    return request


def test_a_conversation_is_read_once(engine: Engine, plain: Engine) -> None:
    history = [7, 8, 9]
    known = 0
    for turn in range(5):
        prompt = [*history, *range(20 + turn, 60 + turn)]
        request = run(engine, prompt)
        assert request.said == run(plain, prompt).said
        assert request.stats.cached == known
        # The last token was drawn and never read.
        history, known = [*prompt, *request.said], len(prompt) + 9


def test_edits_forks_and_repeats_reuse_what_they_share(engine: Engine, plain: Engine) -> None:
    first = [*range(50), 1, 2, 3]
    cases = [(first, 0), (first, 52), ([*range(40), 99, 98], 40), ([*first, 4], 53),
             ([5, *first], 0), (first[:20], 19)]  # fmt: skip
    for prompt, cached in cases:
        request = run(engine, prompt, 6)
        assert (request.stats.cached, request.said) == (cached, run(plain, prompt, 6).said)


def test_the_end_of_a_text_is_kept_too(engine: Engine) -> None:
    said = run(engine, [3, 4, 5], 8).said
    ended = run(engine, [3, 4, 5], 8, eos=frozenset({said[4]}))
    at = said.index(said[4])
    assert ended.said == said[:at]
    follow = run(engine, [3, 4, 5, *said[: at + 1], 6, 7], 2)
    assert follow.stats.cached == 3 + at + 1


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=2, max_size=8))
@settings(max_examples=8)
def test_reuse_in_company_changes_nothing(
    folder: Path, plain: Engine, asked: list[tuple[int, bool]]
) -> None:
    def ask(engine: Engine, number: int, longer: bool) -> tuple[Recorder, Request]:
        heard = Recorder()
        request = request_for(number, heard)
        request.prompt = [*request.prompt, 1, 2, 3] if longer else request.prompt
        engine.submit(request)
        return heard, request

    engine = Engine(
        partial(load, folder), VOCAB, prefill_chunk=16, max_rows=4, prefix_bytes=200_000
    )
    try:
        running = [ask(engine, *each) for each in asked]
        together = [(heard.end(), request.said) for heard, request in running]
        held = engine.call(lambda: engine._prefixes.nbytes)
    finally:
        engine.close()
    alone = []
    for each in asked:
        heard, request = ask(plain, *each)
        alone.append((heard.end(), request.said))
    assert together == alone
    assert 0 < held <= 200_000


def test_a_cancelled_prompt_leaves_what_was_read(engine: Engine) -> None:
    def cancel() -> None:
        request.cancelled = True

    heard = Recorder({0: cancel})
    request = Request([1] * 200, DrawRule(), heard, 5)
    engine.submit(request)
    assert heard.end() == "cancelled"
    assert heard.prefills == [(16, 200)]
    assert run(engine, [1] * 200, 1).stats.cached == 16


def test_a_text_is_read_ahead(engine: Engine, plain: Engine) -> None:
    text = list(range(90))
    engine.prepare(text)
    wait_until_idle(engine)
    request = run(engine, [*text, 5, 6])

    assert request.stats.cached == 90
    assert request.said == run(plain, [*text, 5, 6]).said


def test_a_request_waits_for_one_chunk_of_idle_reading_at_most(engine: Engine) -> None:
    text = [n % VOCAB for n in range(1200)]
    read: list[int] = []
    heard = Recorder({1: lambda: read.append(engine._idle.read_tokens)})

    def ask_in_mid_reading() -> None:
        engine._idle.add(text)
        engine._idle.advance()
        engine.submit(Request([1, 2, 3], DrawRule(), heard, 1))

    engine.call(ask_in_mid_reading)
    assert heard.end() == "length"
    assert read == [16]
    wait_until_idle(engine)
    # What had been read before the interruption was not read again.
    assert engine.call(lambda: engine._idle.read_tokens) == 1200
    assert run(engine, text, 1).stats.cached == 1199


def test_closing_does_not_wait_for_idle_reading(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, advance = 0, engine._idle.advance

    def counted() -> None:
        nonlocal chunks
        chunks += 1
        advance()
        if chunks == 3:
            engine.close()

    monkeypatch.setattr(engine._idle, "advance", counted)
    engine.prepare([n % VOCAB for n in range(1000)])
    engine.close()
    assert chunks <= 3


def test_a_fault_while_reading_ahead_empties_the_tree(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(engine, range(30))

    def broken(*arguments: object) -> None:
        raise RuntimeError("no device")

    monkeypatch.setattr(engine._idle, "advance", broken)
    engine.prepare(list(range(99)))
    while engine.call(lambda: engine._prefixes.tokens):
        time.sleep(0.002)
    monkeypatch.undo()
    assert run(engine, range(30)).stats.cached == 0
