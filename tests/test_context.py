"""Contexts beyond the native length, caches in few bits: exact where promised, told, refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import base_config, write_checkpoint
from model.make_golden import CASES, GOLDEN, GREEDY_TOKENS, KEPT_ROWS, PROMPT_TOKENS, prompt
from model.running import TOLERANCE, greedy, prefill, weights

import qwen3_mlx
from qwen3_mlx import MemoryPlanError, OptionError, Sampling
from qwen3_mlx.catalogue import find
from qwen3_mlx.context import longest_context, with_context, with_kv_bits
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.memory import Sizes, chunk_at, make_plan
from qwen3_mlx.model.config import ModelConfig, YarnConfig
from qwen3_mlx.model.packed import attend_packed
from qwen3_mlx.model.tiles import tile_length
from qwen3_mlx.model.weights import build_model

NATIVE = ModelConfig.from_dict(base_config())
GREEDY = Sampling(temperature=0)


@pytest.mark.parametrize("case", ["dense-2x", "dense-4x", "moe-2x", "moe-4x"])
def test_a_stretched_model_equals_transformers(case: str, tmp_path: Path) -> None:
    """The plain checkpoint, and a factor that is computed from the context alone."""
    golden = np.load(GOLDEN)
    factor, length = int(case[-2]), PROMPT_TOKENS + GREEDY_TOKENS
    plain = {"moe": "moe" in case, "max_position_embeddings": length // factor}
    folder = write_checkpoint(tmp_path / "model", dtype="F32", **plain)
    native = ModelConfig.from_dict(base_config(**plain))
    config, notice = with_context(native, length)
    model = build_model(config, weights(folder))
    ids = prompt()

    assert config.yarn is not None
    assert config.yarn.factor == CASES[case]["rope_scaling"]["factor"]
    assert f"factor {factor}" in notice
    got = prefill(model, ids)[-KEPT_ROWS:]
    assert np.abs(got - golden[f"{case}.logits"]).max() <= TOLERANCE
    assert greedy(model, ids, GREEDY_TOKENS) == golden[f"{case}.greedy"].tolist()
    # At the native length and below, nothing is touched.
    assert with_context(native, length // factor) == (native, "")


def test_the_factor_follows_from_the_context() -> None:
    small, big = find("4b").config, find("30b-a3b").config  # type: ignore[union-attr]
    later = find("4b-instruct-2507").config  # type: ignore[union-attr]
    for config, context, factor in [
        (small, 40_960, None), (small, 65_536, 2.0), (big, 131_072, 4.0), (big, 8_192, None),
        (later, 262_144, None), (later, 1_048_576, 4.0), (small, 49_152, 1.5),
    ]:  # fmt: skip
        made, notice = with_context(config, context)
        assert (made.yarn and made.yarn.factor) == factor
        assert bool(notice) == (factor is not None)
    with pytest.raises(OptionError, match=re.escape("from 1 to 131,072: the model was trained")):
        with_context(small, 131_073)


def test_a_factor_of_the_file_is_replaced_by_what_is_needed() -> None:
    own = replace(NATIVE, yarn=YarnConfig(4.0, 4096, beta_fast=30.0, attention_factor=1.2))
    off, notice = with_context(own, 4096)
    assert off.yarn is None
    assert "it is off" in notice
    made, notice = with_context(own, 8192)
    assert made.yarn == YarnConfig(2.0, 4096, beta_fast=30.0)
    assert "factor 2" in notice
    assert with_context(own, 16_384) == (own, "")
    assert longest_context(own) == 16_384


def test_the_first_reply_tells_and_logits_below_stay(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "model", dtype="F32", tokenizer=True, max_position_embeddings=128
    )
    with qwen3_mlx.load(str(folder)) as model:
        plain = model.logits(range(60))
        with pytest.raises(qwen3_mlx.PromptError, match="the context 128"):
            model.ask("x" * 200)
    with qwen3_mlx.load(str(folder), context=100) as model:
        assert (model.logits(range(60)) == plain).all()
        assert model.ask("hello", max_tokens=2).notices == ()
    with qwen3_mlx.load(str(folder), context=512) as model:
        told = model.ask("x" * 200, max_tokens=2)
        assert "a context of 512 tokens is beyond the native 128" in told.notices[0]
        assert "factor 4" in told.notices[0]
        assert model.info.context == 512
        assert model.ask("again", max_tokens=2).notices == ()
        assert not (model.logits(range(60)) == plain).all()
    with pytest.raises(OptionError, match="from 1 to 512"):
        qwen3_mlx.load(str(folder), context=513)


def packed_cache(bits: int, length: int) -> tuple[KVCache, mx.array, mx.array]:
    kv = KVCache(replace(NATIVE, kv_bits=bits), room=length)
    mx.random.seed(bits)
    k, v = (mx.random.normal((1, 2, length, 32)) for _ in range(2))
    return kv, k, v


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("length", [3, 64, 700])
def test_tiles_are_attention_over_what_is_stored(bits: int, length: int) -> None:
    kv, k, v = packed_cache(bits, length)
    held = kv.update(0, k, v)
    assert not isinstance(held, tuple)
    stored = held.tile(0, length, mx.float32, [mx.zeros(1)])
    for one, other in zip(stored, (k, v), strict=True):  # half a step of 6 sigma, or less
        assert mx.abs(one - other).max().item() < 7 / (2**bits - 1)
    for L, mask in ((min(50, length), "causal"), (1, None)):
        q = mx.random.normal((1, 4, L, 32))
        exact = mx.fast.scaled_dot_product_attention(q, *stored, scale=0.2, mask=mask)
        assert mx.abs(attend_packed(q, held, 0.2, mask) - exact).max().item() < 2e-5


def test_a_packed_cache_is_cut_joined_and_kept_like_any_other() -> None:
    kv, k, v = packed_cache(4, 20)
    for layer in range(NATIVE.layers):
        kv.update(layer, k, v)
    other = KVCache(replace(NATIVE, kv_bits=4))
    for layer in range(NATIVE.layers):
        other.update(layer, k[:, :, :7], v[:, :, :7])
    joined = kv.join(other)
    assert joined.pads == [0, 13]
    back = joined.keep([1])
    pairs = zip(back.piece(0, 7), other.piece(0, 7), strict=True)
    assert all((a == b).all() for one, two in pairs for a, b in zip(one, two, strict=True))
    assert kv.bytes_per_token == replace(NATIVE, kv_bits=4).kv_bytes_per_token(4)
    assert kv.bytes_per_token < NATIVE.kv_bytes_per_token(4) / 5


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("moe", [False, True])
def test_packed_texts_in_company_and_reused_are_as_alone(
    bits: int, moe: bool, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype="F32", tokenizer=True, moe=moe)
    questions = ["What is 1 + 1?", "What is 1 + 1? And this is a longer one." * 4, "Hi"]
    wishes = {"max_tokens": 12, "thinking": False, "sampling": GREEDY}
    with qwen3_mlx.load(str(folder), kv_bits=bits, prefix_cache=0) as model:
        alone = [model.ask(text, **wishes).text for text in questions]
        running = [model.stream(text, **wishes) for text in questions]
        assert [each.result().text for each in running] == alone
    with qwen3_mlx.load(str(folder), kv_bits=bits) as model:
        for _ in range(2):
            again = [model.ask(text, **wishes) for text in questions]
            assert [each.text for each in again] == alone
        assert all(each.usage.cached_tokens > 0 for each in again)
        budget = model.ask("think", thinking_budget=9, min_thinking=9, max_tokens=20)
        if budget.thinking:
            assert budget.usage.thinking_tokens <= 9


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_answers_are_close_to_plain_ones(bits: int, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype="F32")
    arrays = weights(folder)
    ids = mx.array([prompt()])
    logits = []
    for config in (NATIVE, with_kv_bits(NATIVE, bits)):
        model = build_model(config, dict(arrays))
        logits.append(model.logits(model.hidden(ids, KVCache(config)))[0])
    error = mx.abs(logits[0] - logits[1]).mean() / mx.std(logits[0])
    assert error.item() < {4: 0.3, 8: 0.02}[bits]


def test_packing_that_cannot_be() -> None:
    with pytest.raises(OptionError, match="kv_bits is 3, and must be 8 or 4"):
        with_kv_bits(NATIVE, 3)
    with pytest.raises(OptionError, match="heads have 16 channels"):
        with_kv_bits(replace(NATIVE, head_dim=16), 4)
    assert with_kv_bits(NATIVE, None) is NATIVE


def test_the_plan_counts_packed_caches() -> None:
    big = find("30b-a3b").config  # type: ignore[union-attr]
    sizes = Sizes(890_000_000, 155_000_000, dict.fromkeys(range(48), 2_654_208), itemsize=2)
    plans = [make_plan(with_kv_bits(big, bits), sizes, 8 * 10**9, 32_768) for bits in (None, 8, 4)]
    assert [round(each.kv_bytes / plans[0].kv_bytes, 3) for each in plans] == [1, 0.531, 0.281]
    slots = [sum(each.slots.values()) for each in plans]
    assert slots == sorted(slots)
    with pytest.raises(MemoryPlanError):
        make_plan(big, sizes, 4 * 10**9, 40_960)
    make_plan(with_kv_bits(big, 4), sizes, 4 * 10**9, 40_960)


def test_chunks_shrink_as_the_context_grows() -> None:
    lengths = [chunk_at(start, 512) for start in (0, 10_000, 30_000, 120_000, 1_000_000)]
    assert lengths == [512, 512, 256, 64, 16]
    assert [chunk_at(start, 16) for start in (0, 10**6)] == [16, 16]


@pytest.mark.parametrize("length", [1024, 4096])
def test_the_work_space_of_tiles_does_not_grow_with_the_text(length: int) -> None:
    """What is unpacked at once is a tile: its bytes and its scores, a few times."""
    kv, _, _ = packed_cache(4, 1)
    k = mx.random.normal((1, 2, length, 32))
    held = kv.update(0, k, k)
    assert not isinstance(held, tuple)
    q = mx.random.normal((1, 4, 64, 32))
    mx.eval(q, held.keys, held.values)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(attend_packed(q, held, 0.2, "causal"))
    tile = 4 * 64 * tile_length(4 * 64) * 4
    assert mx.get_peak_memory() - before < 7 * tile
