"""The plan: it adds up, it is refused with a limit that works, and models stay inside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from checkpoints import write_checkpoint

import qwen3_mlx
from qwen3_mlx import MemoryPlanError, OptionError, Sampling
from qwen3_mlx.catalogue import find
from qwen3_mlx.memory import Plan, Sizes, make_plan, parse_bytes

BIG = find("30b-a3b").config  # type: ignore[union-attr]
SIZES = Sizes(
    trunk_bytes=890_000_000,
    largest_tensor_bytes=155_000_000,
    slot_bytes=dict.fromkeys(range(48), 2_654_208),
    itemsize=2,
)


def plan(limit: int | None, context: int = 8192, **options: int) -> Plan:
    return make_plan(BIG, SIZES, limit, context, **options)


@pytest.mark.parametrize("limit", [3 * 10**9, 4 * 10**9, 10**10, 16 * 10**9])
def test_a_plan_fills_the_limit_and_stays_below_it(limit: int) -> None:
    made = plan(limit)
    assert limit - 2_654_208 < made.total_bytes <= limit
    assert max(made.slots.values()) - min(made.slots.values()) <= 1


def test_where_everything_fits_nothing_streams() -> None:
    made = plan(20 * 10**9)
    assert made.resident_fraction == 1.0
    assert made.whole_layers == 48


def test_too_small_is_refused_with_a_limit_that_works() -> None:
    with pytest.raises(MemoryPlanError, match=r"pass --memory-limit [0-9.]+GB or more") as refused:
        plan(10**9)
    smallest = refused.value.smallest
    assert plan(smallest).total_bytes <= smallest
    with pytest.raises(MemoryPlanError):
        plan(smallest - 1)
    said = str(refused.value).split("--memory-limit ")[1].split()[0]
    assert smallest <= parse_bytes(said) < smallest * 1.01


def test_a_shorter_context_leaves_more_slots() -> None:
    few, many = plan(5 * 10**9, 32768), plan(5 * 10**9, 1024)
    assert sum(few.slots.values()) < sum(many.slots.values())


def test_whole_layers_and_fixed_slots() -> None:
    made = plan(6 * 10**9, whole_layers=5)
    assert made.whole_layers == 5
    assert made.total_bytes <= 6 * 10**9
    assert set(plan(None, slots=11).slots.values()) == {11}
    with pytest.raises(MemoryPlanError):
        plan(3 * 10**9, slots=100)


def test_stored_scores_shorten_the_chunk() -> None:
    stored = replace(SIZES, fused_attention=False, itemsize=4)
    assert make_plan(BIG, stored, 5 * 10**9, 8192).chunk < plan(5 * 10**9).chunk


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), (" 1.5 gib ", 3 * 2**29), ("8e9", 8 * 10**9), ("7", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "ten", "10XB", "-1GB", "1.2.3GB", "0", "1e999", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(OptionError) as refused:
        parse_bytes(text)
    assert len(str(refused.value)) < 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("memory") / "model", moe=True, dtype="F32", tokenizer=True,
        num_experts=64, moe_intermediate_size=128, num_hidden_layers=4,
    )  # fmt: skip


def test_a_model_under_a_limit_says_the_same_and_stays_below_it(folder: Path) -> None:
    greedy = Sampling(temperature=0)
    with qwen3_mlx.load(str(folder)) as model:
        assert model.plan is None
        whole = model.ask("hello", sampling=greedy, max_tokens=24, thinking=False)
    assert whole.experts is None
    mx.clear_cache()
    before = mx.get_active_memory()
    with qwen3_mlx.load(str(folder), memory_limit="12MB", context=256) as model:
        reply = model.ask("hello", sampling=greedy, max_tokens=24, thinking=False)
        made = model.plan
    assert made is not None
    assert made.total_bytes <= 12_000_000
    assert reply.text == whole.text
    assert reply.peak_bytes - before <= made.total_bytes
    assert reply.experts is not None
    assert 0 < reply.experts.hit_rate < 1
    # One for each layer, and now and then one more while reading ahead is tried out.
    assert 4 <= reply.experts.syncs_per_token < 5


def test_limits_that_cannot_be(folder: Path) -> None:
    with pytest.raises(MemoryPlanError, match="pass --memory-limit") as refused:
        qwen3_mlx.load(str(folder), memory_limit=10**6)
    qwen3_mlx.load(str(folder), memory_limit=refused.value.smallest).close()
    with pytest.raises(OptionError, match="from 1 to 16,384: the model was trained on 4,096"):
        qwen3_mlx.load(str(folder), context=20_000)
    with pytest.raises(OptionError, match="0 or more"):
        qwen3_mlx.load(str(folder), slots=-1)


@pytest.mark.parametrize("limit", [None, "12MB"])
def test_what_is_freed_is_kept_within_a_bound(
    folder: Path, limit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[int] = []
    monkeypatch.setattr("qwen3_mlx.streaming.mx.set_cache_limit", bounds.append)

    with qwen3_mlx.load(str(folder), memory_limit=limit, context=256) as model:
        work = model.plan.workspace_bytes if model.plan else None

    assert len(bounds) == 1
    assert bounds[0] == work // 2 if work else 0 < bounds[0] < 10**8
