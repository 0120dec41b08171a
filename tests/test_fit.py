"""`fit`: exact sizes, verdicts that agree with the plan, speeds with their arithmetic."""

from __future__ import annotations

import json
import os
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from hypothesis import given
from hypothesis import strategies as st

from qwen3_mlx import disk
from qwen3_mlx.catalogue import entries, find, format_bytes
from qwen3_mlx.checkpoint import Checkpoint, TensorInfo
from qwen3_mlx.disk import READ_BYTES, probe_disk
from qwen3_mlx.fit import OUTSIDE_BYTES, fit, hit_rate, sizes_from_config, verdict
from qwen3_mlx.loading import open_weights, sizes_of
from qwen3_mlx.machines import Machine, named
from qwen3_mlx.memory import Sizes
from qwen3_mlx.model.allocation import SPEND
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import expected_shapes
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert
from qwen3_mlx_convert.plan import forecast_config, make_plan
from qwen3_mlx_convert.quantize import Recipe

# name: all weights, KV bytes per token in bf16, as published.
FACTS = {
    "0.6b": (596_049_920, 114_688),
    "1.7b": (1_720_574_976, 114_688),
    "4b": (4_022_468_096, 147_456),
    "8b": (8_190_735_360, 147_456),
    "14b": (14_768_307_200, 163_840),
    "32b": (32_762_123_264, 262_144),
    "30b-a3b": (30_532_122_624, 98_304),
    "235b-a22b": (235_093_634_560, 192_512),
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))


def _config(name: str) -> ModelConfig:
    entry = find(name)
    assert entry is not None
    return entry.config


@cache
def _sparse() -> tuple[ModelConfig, Sizes]:
    config = forecast_config(_config("30b-a3b"), Recipe(4))
    return config, sizes_from_config(config)


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["fit", *words, "--json"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


# Sizes.


def test_totals_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    models = _json(capsys, "--on", "m4 max 128GB")["models"]
    found = {model["name"]: (model["total_params"], model["kv_bytes_per_token"])
             for model in models}  # fmt: skip
    assert found.items() >= FACTS.items()
    assert set(found) == {entry.name for entry in entries()} - {"tiny"}
    assert main(["fit", "--on", "m4 max 128GB"]) == 0
    out = capsys.readouterr().out
    for name, (params, kv) in FACTS.items():
        (row,) = (line for line in out.splitlines() if line.startswith(f"{name} "))
        assert f"{params:,}" in row
        assert f"{kv:,}" in row


def _headers(config: ModelConfig, folder: Path) -> Checkpoint:
    """A checkpoint of headers without weights, in bf16."""
    tensors = {
        name: TensorInfo(folder / "x", "BF16", shape, 0, 2 * prod(shape))
        for name, shape in expected_shapes(config).items()
    }
    return Checkpoint(folder, {"model_type": config.model_type}, tensors)


@pytest.mark.parametrize(("name", "bits"), [*((name, 4) for name in FACTS), ("0.6b", 8), ("8b", 8)])
def test_sizes_are_what_convert_writes(
    name: str, bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(name)
    recipe = Recipe(bits, spend=SPEND if bits == 4 else 0.0)
    written = make_plan(_headers(config, tmp_path), config, recipe).target_bytes
    found = _json(capsys, name, f"--q{bits}", "--on", "m3 ultra 512GB")
    assert found["weight_bytes"] == written
    assert found["total_params"] == FACTS[name][0]


@pytest.mark.parametrize("moe", [False, True])
def test_a_config_says_what_the_folder_takes(tmp_path: Path, moe: bool) -> None:
    plain = write_checkpoint(tmp_path / "plain", moe=moe, tied=not moe)
    convert(plain, tmp_path / "q4", bits=4)
    weights = open_weights(tmp_path / "q4")
    found = sizes_of(weights)
    expected = sizes_from_config(forecast_config(open_weights(plain).config, Recipe(4)))
    assert sizes_from_config(weights.config) == expected
    assert found.trunk_bytes == expected.trunk_bytes
    assert found.slot_bytes == expected.slot_bytes
    assert found.embedding_bytes == expected.embedding_bytes
    assert found.largest_tensor_bytes == expected.largest_tensor_bytes


# Verdicts.


@pytest.mark.parametrize(
    ("name", "mac", "expected"),
    [
        ("4b", "m1 8GB", "fits"),
        ("8b", "m1 8GB", "too big"),
        ("8b", "m2 16GB", "fits"),
        ("14b", "m2 16GB", "tight"),
        ("32b", "m4 pro 24GB", "too big"),
        ("30b-a3b", "m4 pro 48GB", "fits"),
        ("30b-a3b", "macbook air m2 16GB", "streams experts"),
        ("235b-a22b", "mac studio m3 ultra 256GB", "fits"),
        ("235b-a22b", "m4 max 64GB", "streams experts"),
        ("235b-a22b", "m1 8GB", "too big"),
        ("coder-480b-a35b", "M3 Ultra 512 GB", "fits"),
    ],
)
def test_verdicts(
    capsys: pytest.CaptureFixture[str], name: str, mac: str, expected: str
) -> None:  # fmt: skip
    found = _json(capsys, name, "--on", mac)
    assert found["verdict"] == expected
    assert (found["speed"] is None) == (expected == "too big")
    assert main(["fit", name, "--on", mac]) == 0
    assert f"  {expected}: " in capsys.readouterr().out


sizes_in_gb = st.integers(1, 600)


@given(memory=sizes_in_gb, context=st.integers(1, 40_960), other=st.integers(0, 10**10))
def test_a_verdict_keeps_its_word(memory: int, context: int, other: int) -> None:
    config, sizes = _sparse()
    usable = memory * 10**9
    machine = Machine("m", usable, usable, 1e11)
    judged = fit(config, sizes, machine, context, other_bytes=other)
    held = judged.plan.total_bytes + OUTSIDE_BYTES
    if judged.verdict == "too big":
        assert judged.needed_bytes > judged.usable_bytes
    else:
        assert held <= judged.usable_bytes == usable - other
        assert judged.speed is not None
        assert 0 < judged.speed.at_end <= judged.speed.at_start
    if judged.verdict in ("fits", "tight"):
        assert held == judged.needed_bytes
        assert judged.plan.resident_fraction == 1.0


def test_more_memory_is_never_worse() -> None:
    order = ["too big", "streams experts", "tight", "fits"]
    config, sizes = _sparse()
    judged = [fit(config, sizes, named(f"m4 {size}GB"), 8192) for size in range(1, 48)]
    ranks = [order.index(each.verdict) for each in judged]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3}
    speeds = [each.speed.at_start for each in judged if each.speed]
    assert speeds == sorted(speeds)


def test_verdict_of_sizes() -> None:
    assert [verdict(size, 100) for size in (85, 86, 100, 101)] == [
        "fits", "tight", "tight", "too big",
    ]  # fmt: skip


# Speed.


def test_the_speed_is_the_arithmetic_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    speed = _json(capsys, "8b", "--on", "m4 pro 24GB", "--context", "32k")["speed"]
    seconds = speed["read_bytes"] / (0.75 * 273e9) + 36 * 40e-6
    assert speed["at_start"] == pytest.approx(1 / seconds)
    seconds += 32_768 * 147_456 / (0.75 * 273e9)
    assert speed["at_end"] == pytest.approx(1 / seconds)
    # The embedding of an untied model is not read but for a row.
    q4 = 4_947_470_336 - 151_936 * 4096 * 9 // 16
    assert speed["read_bytes"] == q4


def test_published_speeds_are_met() -> None:
    """Qwen3-30B-A3B at 4 bits: 70.6 tokens/s on an M4 Pro, as published by others."""
    config, sizes = _sparse()
    judged = fit(config, sizes, named("m4 pro 48GB"), 4096)
    assert judged.speed is not None
    assert judged.speed.at_start == pytest.approx(70.6, rel=0.15)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_experts_in_memory_are_found_more_often(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= hit_rate(low) <= hit_rate(high) <= 1


def test_a_disk_is_probed(tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    found = probe_disk(tmp_path, 30, lambda: next(ticks), own_bytes=6_000_000)
    assert found is not None
    assert found > 0
    assert list(tmp_path.iterdir()) == []
    big = tmp_path / "model.safetensors"
    big.write_bytes(bytes(25_000_000))
    assert probe_disk(tmp_path, 30, lambda: next(ticks)) is not None
    assert list(tmp_path.iterdir()) == [big]
    assert probe_disk(Path("/proc/nothing"), 1, lambda: next(ticks)) is None


def test_where_pages_cannot_be_put_aside_the_disk_is_probed_with_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(25_000_000))
    monkeypatch.delattr("os.posix_fadvise", raising=False)
    read: list[tuple[Path, int]] = []
    monkeypatch.setattr(
        "qwen3_mlx.disk._read_for", lambda path, size, *_: read.append((path, size)) or 1
    )

    probe_disk(tmp_path, 1, lambda: 0.0, own_bytes=6_000_000)

    assert {path for path, _ in read} != {weights}
    assert {size for _, size in read} == {2 * READ_BYTES}
    assert list(tmp_path.iterdir()) == [weights]


def test_streaming_here_probes_the_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Machine("Apple M2", 2**34, 11 * 10**9, 1e11, here=True)
    monkeypatch.setattr("qwen3_mlx_app.fit_command.this_machine", lambda: small)
    monkeypatch.setattr("qwen3_mlx.disk.probe_disk", lambda folder: 3e9)
    assert main(["fit", "30b-a3b"]) == 0
    assert "3.0 GB/s of disk (measured, 9" in capsys.readouterr().out


def test_a_disk_is_only_probed_where_its_speed_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = Machine("Xeon", 2**34, 11 * 10**9, None, here=True)
    monkeypatch.setattr("qwen3_mlx_app.fit_command.this_machine", lambda: unknown)
    monkeypatch.setattr("qwen3_mlx.disk.probe_disk", lambda folder: pytest.fail("probed"))
    assert main(["fit", "30b-a3b"]) == 0
    assert "no speed is predicted" in capsys.readouterr().out


def test_what_is_written_for_the_probe_does_not_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F_NOCACHE of macOS: for the writer before its first byte, and for each of four readers."""
    sizes = []
    monkeypatch.setattr(disk, "_NOCACHE", 48)
    monkeypatch.setattr(
        disk.fcntl, "fcntl", lambda number, *_: sizes.append(os.fstat(number).st_size)
    )
    ticks = iter(range(10_000))
    assert probe_disk(tmp_path, 30, lambda: next(ticks), own_bytes=6_000_000) is not None
    assert sizes == [0, *[2 * disk.READ_BYTES] * 4]


def test_the_plan_is_the_one_of_loading(capsys: pytest.CaptureFixture[str]) -> None:
    """Texts read before have their part of the limit, and Python's is in both sums."""
    plan = _json(capsys, "30b-a3b", "--on", "m2 16GB")["plan"]
    assert plan["prefix_bytes"] == plan["kv_bytes"]
    assert main(["fit", "30b-a3b", "--on", "m2 16GB"]) == 0
    out = capsys.readouterr().out
    assert f"limit {format_bytes(plan['limit'] + OUTSIDE_BYTES)}" in out
    assert "limit 11.5 GB" in out


def test_nothing_is_left_where_others_have_planned_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Machine("Apple M2", 2**33, 5 * 10**9, 1e11, here=True)
    monkeypatch.setattr("qwen3_mlx_app.fit_command.this_machine", lambda: small)
    monkeypatch.setattr("qwen3_mlx_app.fit_subjects._claimed", lambda: 7 * 10**9)
    assert main(["fit", "8b"]) == 0
    assert (
        f"wanted, {format_bytes(0)} to use, since other programs plan 7.0 GB"
        in capsys.readouterr().out
    )


# The command.


def test_a_folder_and_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "model", moe=True)
    assert main(["fit", str(folder)]) == 0
    assert "model, bf16, on " in capsys.readouterr().out
    assert main(["fit", "30b-a3b", "--memory-limit", "10GB", "--context", "4k"]) == 0
    out = capsys.readouterr().out
    assert "limit 10.0 GB" in out
    assert "4,096 tokens" in out
    assert _json(capsys, "30b-a3b", "--memory-limit", "10GB")["total_bytes"] <= 10**10
    assert _json(capsys, "4b", "--memory", "16GB")["machine"]["memory_bytes"] == 16 << 30
    found = _json(capsys, "4b", "--on", "m4 pro", "--memory", "24GB")["machine"]
    assert (found["name"], found["memory_bytes"]) == ("Apple M4 Pro", 24 << 30)
    found = _json(capsys, "0.6b", "--on", "m2 16GB", "--memory", "1.5GB")["machine"]
    assert found["memory_bytes"] == 3 << 29


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["5b"], "no model is called '5b'"),
        (["org/model"], "`qwen3-mlx pull org/model` gets it"),
        (["4b", "--context", "200000"], "from 1 to 131,072: the model was trained on 32,768"),
        (["--context", "0"], "the context is 0 tokens, and must be from 1"),
        (["4b", "--on", "ibm"], "no Mac that is known"),
        (["4b", "--memory", "lots"], "no memory of a computer"),
        (["30b-a3b", "--memory-limit", "1GB"], "pass --memory-limit"),
        (["--slots", "3"], "need a MODEL"),
        (["4b", "--memory-limit", ""], "is no size: write it like 10GB"),
        (["30b-a3b", "--slots", "-3"], "slots is -3: must be 0 or more"),
        (["4b", "--slots", "8"], "slots is 8: this model has no experts"),
        (["30b-a3b", "--slots", "8", "--on", "m2 16GB"], "leave out --on and --memory"),
        (["30b-a3b", "--memory-limit", "9GB", "--memory", "16GB"], "leave out --on and --memory"),
        (["tiny", "--q4"], "tiny is 8-bit already"),
    ],
)
def test_bad_input(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:  # fmt: skip
    assert main(["fit", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_context_and_the_cache_that_were_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beyond the native length YaRN goes on, which `chat` and `ask` do too."""
    long = _json(capsys, "4b", "--context", "128k", "--on", "m4 max 128GB")
    assert (long["context"], long["plan"]["context"]) == (131_072, 131_072)
    packed = _json(capsys, "4b", "--context", "128k", "--kv-bits", "4", "--on", "m4 max 128GB")
    assert packed["plan"]["kv_bytes"] * 32 == long["plan"]["kv_bytes"] * 9
    table = _json(capsys, "--context", "200k", "--on", "m4 max 128GB")["models"]
    contexts = {model["name"]: model["context"] for model in table}
    assert (contexts["4b"], contexts["coder-30b-a3b"]) == (131_072, 204_800)


def test_a_context_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "4b", "--context", "many"])
    assert ended.value.code == 2
    assert "'many' is no number of tokens" in capsys.readouterr().err


def test_the_table_of_the_page_is_the_one_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parent.parent
    monkeypatch.syspath_prepend(root / "scripts")
    from fit_table import table

    assert table() in (root / "docs" / "models.md").read_text()
