"""Streamed experts give the logits of resident ones, bit for bit, whatever the options."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from experts.moe_models import decode_logits, make_model, resident, streamed

from qwen3_mlx.engine.idle import IdleReader
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.prefix import PrefixTree
from qwen3_mlx.experts.slots import Bank, writes_in_place
from qwen3_mlx.experts.store import Source
from qwen3_mlx.model.compiled import CompiledStep

PROMPT = [(7 * n) % 300 for n in range(150)]
SLOTS = (0, 2, 6, 9, 12, 16, 24)  # nothing, below top-k, top-k, 9, half, 16, all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("experts") / "model")


@cache
def expected(folder: Path, dtype: str, chunk: int, steps: int) -> np.ndarray[Any, Any]:
    return decode_logits(resident(folder, dtype), PROMPT, steps, chunk)


@pytest.mark.parametrize("slots", SLOTS)
@pytest.mark.parametrize("chunk", [1, 64, 512])
def test_logits_are_those_of_resident_experts(folder: Path, slots: int, chunk: int) -> None:
    with streamed(folder, slots, dtype="float32", poison=True) as (model, _):
        found = decode_logits(model, PROMPT, 64, chunk)
    assert (found == expected(folder, "float32", chunk, 64)).all()


@pytest.mark.parametrize("slots", SLOTS)
def test_bfloat16(folder: Path, slots: int) -> None:
    with streamed(folder, slots, dtype="bfloat16", poison=True) as (model, _):
        found = decode_logits(model, PROMPT, 16, 64)
    assert (found == expected(folder, "bfloat16", 64, 16)).all()


@pytest.mark.parametrize("slots", [2, 9])
@pytest.mark.parametrize(
    "options",
    [
        {"governor": "inline"},
        {"governor": "threads"},
        {"governor": "overlap"},
        {"governor": "prefetch"},
        {"governor": "prefetch", "threads": 1},
        {"policy": "lfu"},
        {"in_place": False},
        {"scratch": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_options_change_no_number(folder: Path, slots: int, options: dict[str, Any]) -> None:
    with streamed(folder, slots, dtype="float32", poison=True, **options) as (model, _):
        found = decode_logits(model, PROMPT, 24, 64)
    assert (found == expected(folder, "float32", 64, 24)).all()


def test_each_expert_is_read_at_most_once_for_a_chunk(folder: Path) -> None:
    with streamed(folder, 9) as (model, pool):
        seen: list[tuple[int, int]] = []
        watch(pool._source, seen)
        decode_logits(model, PROMPT, 0, 512)
    assert len(seen) == len(set(seen)) <= 3 * 24


def test_reading_ahead_runs_the_last_layer_for_one_row(folder: Path) -> None:
    """Its experts make nothing that is kept, and each of them would be a read."""
    with streamed(folder, 9) as (model, pool):
        seen: list[tuple[int, int]] = []
        watch(pool._source, seen)
        reader = IdleReader(model, PrefixTree(model.config, 1 << 26), 512)
        reader.add(PROMPT)
        while reader.busy:
            reader.advance()
    wanted = Counter(layer for layer, _ in seen)
    assert (wanted[0] > 6, wanted[1] > 6, wanted[2]) == (True, True, 6)


def watch(source: Source, seen: list[tuple[int, int]]) -> None:
    read = source.read

    def reading(layer: int, expert: int, into: Any) -> int:
        seen.append((layer, expert))
        return read(layer, expert, into)

    source.read = reading  # type: ignore[method-assign]


def test_reading_a_prompt_is_no_decode_step(folder: Path) -> None:
    """Not even where the last layer makes the last row alone."""
    with streamed(folder, 2) as (model, pool):
        model.hidden(mx.array([PROMPT]), KVCache(model.config), last_only=True)
        counts = pool.counts.copy()
        assert (counts.uses, counts.decode_reads, counts.decode_syncs) == (0, 0, 0)
        assert (counts.tokens, counts.prefill_tokens, counts.syncs) == (0, len(PROMPT), 3)
        store = KVCache(model.config)
        for ids in ([[5]], [[6]]):
            model.hidden(mx.array(ids), store)
        step = pool.counts.minus(counts)
    assert (step.tokens, step.decode_syncs, step.uses) == (2, 6, 2 * 3 * 6)


def test_rows_decode_together(folder: Path) -> None:
    """A batch wants more experts than one row; with few slots it goes in waves."""
    results = []
    for slots in (24, 9, 4):
        with streamed(folder, slots, poison=True) as (model, _):
            store = KVCache(model.config)
            rows = []
            for step in range(6):
                ids = mx.array([[step + 31 * row] for row in range(5)])
                rows.append(model.logits(model.hidden(ids, store)))
            results.append(np.array(mx.concatenate(rows)))
    assert all((found == results[0]).all() for found in results)


def test_compiled_steps_around_streamed_layers(folder: Path) -> None:
    found = []
    for compiled in (False, True):
        with streamed(folder, 9, poison=True) as (model, _):
            store, rows = KVCache(model.config), []
            step = CompiledStep(model)
            for token in range(6):
                ids = mx.array([[token]])
                plain = None if compiled else model.logits(model.hidden(ids, store)[:, -1])
                rows.append(step(ids, store) if plain is None else plain)
            found.append(np.array(mx.concatenate(rows)))
    assert (found[0] == found[1]).all()


def test_whole_layers_wait_for_nothing(folder: Path) -> None:
    with streamed(folder, 24) as (model, pool):
        decode_logits(model, PROMPT[:4], 8)
        assert not pool.layers
        assert pool.counts.syncs == 0
    assert not any(block.streamed for block in model.blocks)


def test_counts(folder: Path) -> None:
    with streamed(folder, 9, governor="inline") as (model, pool):
        decode_logits(model, PROMPT[:40], 0)
        before = pool.counts.copy()
        decode_logits(model, PROMPT[:1], 20)
        stats = pool.stats(before)
        counts = pool.counts.minus(before)
        expert = 3 * 64 * 64 * 4
    assert counts.tokens == 21
    assert stats.syncs_per_token == 3
    assert counts.uses == 21 * 3 * 6
    assert stats.hit_rate == counts.hits / counts.uses
    assert counts.misses == counts.decode_reads
    assert stats.read_amplification == 1.0
    assert stats.bytes_per_token == counts.decode_reads * expert / 21
    assert stats.resident_fraction == 9 / 24


def test_the_self_test_passes_here() -> None:
    assert writes_in_place()


def test_a_lazy_reader_is_computed_before_its_slot_is_overwritten(folder: Path) -> None:
    """The hazard rule: what was not evaluated yet must not see the next expert."""
    with streamed(folder, 6, poison=True) as (_, pool):
        experts = pool.layers[0]
        x = mx.random.normal((1, 64))
        first = experts(x, mx.array([[0, 1, 2, 3, 4, 5]]))  # lazy
        experts(x, mx.array([[6, 7, 8, 9, 10, 11]]))  # overwrites every slot
        again = experts(x, mx.array([[0, 1, 2, 3, 4, 5]]))
        assert mx.array_equal(first, again).item()
        assert not mx.isnan(first).any().item()


def test_poison_is_nan(folder: Path) -> None:
    with streamed(folder, 6) as (_, pool):
        bank = Bank(pool.layers[0].bank.format, 2)
        bank.poison([1])
        out = bank.apply(mx.ones((2, 64)), mx.array([0, 1]), is_sorted=False)
        assert mx.isnan(out[1]).all().item()
        assert not mx.isnan(out[0]).any().item()
