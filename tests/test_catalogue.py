"""Names and sizes of the known models, against the published totals."""

from __future__ import annotations

from math import prod

import pytest

from qwen3_mlx.catalogue import (
    entries,
    find,
    format_bytes,
    quantized_bytes,
    total_params,
    unknown_name,
)
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import expected_shapes
from tests.checkpoints import base_config

# name: (all weights, weights of one token, KV bytes per token in bf16, context)
FACTS = {
    "0.6b": (596_049_920, 596_049_920, 114_688, 40_960),
    "1.7b": (1_720_574_976, 1_720_574_976, 114_688, 40_960),
    "4b": (4_022_468_096, 4_022_468_096, 147_456, 40_960),
    "8b": (8_190_735_360, 8_190_735_360, 147_456, 40_960),
    "14b": (14_768_307_200, 14_768_307_200, 163_840, 40_960),
    "32b": (32_762_123_264, 32_762_123_264, 262_144, 40_960),
    "30b-a3b": (30_532_122_624, 3_353_032_704, 98_304, 40_960),
    "235b-a22b": (235_093_634_560, 22_190_763_520, 192_512, 40_960),
    "4b-instruct-2507": (4_022_468_096, 4_022_468_096, 147_456, 262_144),
    "4b-thinking-2507": (4_022_468_096, 4_022_468_096, 147_456, 262_144),
    "30b-a3b-instruct-2507": (30_532_122_624, 3_353_032_704, 98_304, 262_144),
    "30b-a3b-thinking-2507": (30_532_122_624, 3_353_032_704, 98_304, 262_144),
    "235b-a22b-instruct-2507": (235_093_634_560, 22_190_763_520, 192_512, 262_144),
    "235b-a22b-thinking-2507": (235_093_634_560, 22_190_763_520, 192_512, 262_144),
    "coder-30b-a3b": (30_532_122_624, 3_353_032_704, 98_304, 262_144),
    "coder-480b-a35b": (480_154_875_392, 35_474_765_312, 253_952, 262_144),
}

THETA = {"4b-instruct-2507": 5e6, "30b-a3b-thinking-2507": 1e7, "235b-a22b-instruct-2507": 5e6,
         "coder-480b-a35b": 1e7, "32b": 1e6}  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_sizes(name: str) -> None:
    entry = find(name)
    assert entry is not None
    found = (entry.total_params, entry.active_params, entry.kv_bytes_per_token, entry.context)
    assert found == FACTS[name]
    assert entry.config.rope_theta == THETA.get(name, entry.config.rope_theta)


def test_all_of_them_are_listed() -> None:
    assert {entry.name for entry in entries()} - {"tiny"} == set(FACTS)


@pytest.mark.parametrize("name", ["0.6b", "8b", "30b-a3b"])
def test_the_formula_counts_what_a_checkpoint_holds(name: str) -> None:
    entry = find(name)
    assert entry is not None
    assert total_params(entry.config) == sum(map(prod, expected_shapes(entry.config).values()))


def test_the_formula_knows_dense_layers_in_a_sparse_model() -> None:
    config = ModelConfig.from_dict(base_config(moe=True, mlp_only_layers=[1]))
    assert total_params(config) == sum(map(prod, expected_shapes(config).values()))


def test_bytes_of_other_formats() -> None:
    entry = find("0.6b")
    assert entry is not None
    assert quantized_bytes(entry.config, None) == 2 * entry.total_params
    plain = quantized_bytes(entry.config)
    assert plain < quantized_bytes(entry.config, 4, 32) < quantized_bytes(entry.config, 8)
    assert plain / entry.total_params == pytest.approx(4.5 / 8, rel=1e-3)
    assert 1.05 * plain < entry.q4_bytes <= 1.08 * plain


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("4b", "Qwen/Qwen3-4B"),
        ("4B", "Qwen/Qwen3-4B"),
        ("qwen3-4b", "Qwen/Qwen3-4B"),
        ("Qwen3:4b", "Qwen/Qwen3-4B"),
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B"),
        ("qwen/qwen3-0.6b", "Qwen/Qwen3-0.6B"),
        ("30b-a3b", "Qwen/Qwen3-30B-A3B"),
        ("30b", "Qwen/Qwen3-30B-A3B"),
        ("4b-2507-instruct", "Qwen/Qwen3-4B-Instruct-2507"),
        ("4b-instruct-2507", "Qwen/Qwen3-4B-Instruct-2507"),
        ("qwen3-235b-a22b-thinking-2507", "Qwen/Qwen3-235B-A22B-Thinking-2507"),
        ("coder-30b-a3b", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "Qwen/Qwen3-Coder-480B-A35B-Instruct"),
        ("Qwen/Qwen3-30B-A3B-Base", "Qwen/Qwen3-30B-A3B-Base"),
    ],
)
def test_find(name: str, hub_id: str) -> None:
    entry = find(name)
    assert entry is not None
    assert entry.hub_id == hub_id


@pytest.mark.parametrize(
    "name", ["", " ", "5b", "4b-2507", "mlx-community/Qwen3-4B-4bit", "Qwen/Qwen3-32B-Base", "-"]
)
def test_find_does_not_guess(name: str) -> None:
    assert find(name) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("4b-2507", "'4b-instruct-2507' or '4b-thinking-2507'"), ("30b-a2b", "'30b-a3b'"),
     ("coder", "'coder-30b-a3b'"), ("qwen3-13b", "'14b'")],
)  # fmt: skip
def test_an_unknown_name_suggests_near_ones(name: str, near: str) -> None:
    message = str(unknown_name(name))
    assert near in message
    assert "`qwen3-mlx models`" in message


def test_format_bytes() -> None:
    sizes = [0, 999, 1_000, 1_500_000, 335_372_288, 4_607_731_712, 270_118_718_464]
    assert [format_bytes(size) for size in sizes] == [
        "0 bytes", "999 bytes", "1 KB", "1.5 MB", "335 MB", "4.6 GB", "270.1 GB"
    ]  # fmt: skip
