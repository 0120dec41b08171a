"""Conversion: equal to mlx-lm's bit for bit, whole or not at all, within a block of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from qwen3_mlx.catalogue import quantized_bytes
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import (
    CheckpointError,
    ModelNotFoundError,
    OptionError,
    OutputExistsError,
    Qwen3Error,
    UnsupportedModelError,
)
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import mlx_shapes
from qwen3_mlx_convert import ConvertProgress, convert
from tests.checkpoints import write_checkpoint, write_safetensors


def _config(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return value


def _tensors(folder: Path) -> dict[str, mx.array]:
    tensors: dict[str, mx.array] = {}
    for file in sorted(folder.glob("*.safetensors")):
        loaded = mx.load(str(file))
        assert isinstance(loaded, dict)
        tensors |= loaded
    return tensors


def _assert_equal(ours: dict[str, mx.array], theirs: dict[str, mx.array]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert mx.array_equal(ours[name], value), name


def _assert_shapes(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    found = {name: info.shape for name, info in checkpoint.tensors.items()}
    assert found == mlx_shapes(ModelConfig.from_dict(checkpoint.config))


# Against mlx-lm. One process converts all the cases, since its import takes over a second.

CASES: dict[str, tuple[dict[str, Any], int | None, int]] = {
    "dense q4": ({"tied": True}, 4, 64),
    "dense q8 in groups of 32": ({}, 8, 32),
    "moe q4 of three shards": ({"moe": True, "shards": 3}, 4, 64),
    "moe q8, some layers dense": ({"moe": True, "mlp_only_layers": [1]}, 8, 64),
    "moe bf16": ({"moe": True, "decoder_sparse_step": 2}, None, 64),
    "f32": ({"moe": True, "dtype": "F32"}, 4, 64),
    "f16": ({"dtype": "F16"}, 4, 64),
    "groups of 128": ({"hidden_size": 128, "moe": True}, 4, 128),
    "rows that do not divide": ({"head_dim": 24, "moe": True, "moe_intermediate_size": 96}, 4, 64),
}


@pytest.fixture(scope="module")
def mlx_lm_convert() -> Any:
    with _quiet():
        return pytest.importorskip("mlx_lm").convert


def _quiet() -> Any:
    """mlx-lm and transformers warn of things that are theirs."""
    return warnings.catch_warnings(action="ignore")


@pytest.mark.parametrize("case", CASES)
def test_bits_equal_those_of_mlx_lm(case: str, tmp_path: Path, mlx_lm_convert: Any) -> None:
    options, bits, group_size = CASES[case]
    source = write_checkpoint(tmp_path / "source", tokenizer=True, **options)
    with _quiet():
        mlx_lm_convert(
            str(source), str(tmp_path / "theirs"), quantize=bits is not None, q_bits=bits,
            q_group_size=group_size, dtype=None if bits else "bfloat16",
        )  # fmt: skip
    convert(source, tmp_path / "ours", bits=bits, group_size=group_size)
    _assert_equal(_tensors(tmp_path / "ours"), _tensors(tmp_path / "theirs"))
    _assert_shapes(tmp_path / "theirs")  # and so their folders can be read by ours
    ours, theirs = _config(tmp_path / "ours"), _config(tmp_path / "theirs")
    if bits is None:
        assert "quantization" not in ours
        return
    block = ours["quantization"]
    assert block == ours["quantization_config"]
    assert {k: v for k, v in block.items() if v is not False} == theirs["quantization"]


@pytest.mark.parametrize(
    "options",
    [{"dialect": 5}, {"dialect": 5, "moe": True}, {"moe": True, "hidden_size": 96}, {"tied": True}],
)
def test_mlx_lm_loads_it(options: dict[str, Any], tmp_path: Path, mlx_lm_convert: Any) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True, **options)
    convert(source, tmp_path / "ours", bits=4, group_size=32)
    import mlx_lm

    with _quiet():
        model, _ = mlx_lm.load(str(tmp_path / "ours"))
    logits = model(mx.array([[1, 2, 3]]))
    assert logits.shape == (1, 3, 320)
    assert mx.isfinite(logits).all()


# What is in the folder.


@pytest.mark.parametrize("bits", [4, 8, None])
@pytest.mark.parametrize("moe", [False, True])
def test_the_folder_agrees_with_its_config(tmp_path: Path, bits: int | None, moe: bool) -> None:
    source = write_checkpoint(tmp_path / "source", moe=moe, tokenizer=True)
    report = convert(source, tmp_path / "target", bits=bits)
    _assert_shapes(tmp_path / "target")
    checkpoint = open_checkpoint(tmp_path / "target")
    config = ModelConfig.from_dict(checkpoint.config)
    assert checkpoint.weight_bytes == report.target_bytes == quantized_bytes(config, bits)
    assert report.source_bytes == open_checkpoint(source).weight_bytes
    assert {path.name for path in (tmp_path / "target").iterdir()} == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json",
        "model.safetensors", "model.safetensors.index.json", "sha256.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()


def test_the_config_keeps_its_keys_and_drops_code(tmp_path: Path) -> None:
    source = write_checkpoint(
        tmp_path / "source", auto_map={"AutoModel": "evil.Model"}, custom_key=[1, "é"],
        _name_or_path="/home/somebody",
    )  # fmt: skip
    (source / "evil.py").write_text("raise SystemExit")
    convert(source, tmp_path / "target", bits=4)
    written = _config(tmp_path / "target")
    assert "auto_map" not in written
    assert "_name_or_path" not in written
    assert written["custom_key"] == [1, "é"]
    assert not (tmp_path / "target" / "evil.py").exists()


def test_the_newer_dialect_gains_the_flat_keys(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    source = write_checkpoint(tmp_path / "source", moe=True, dialect=5, rope_scaling=yarn)
    convert(source, tmp_path / "target", bits=4)
    written = _config(tmp_path / "target")
    assert written["num_experts"] == written["num_local_experts"] == 8
    assert written["rope_theta"] == 1e6
    assert written["rope_scaling"] == yarn
    assert written["torch_dtype"] == written["dtype"] == "bfloat16"
    before, after = ModelConfig.from_dict(_config(source)), ModelConfig.from_dict(written)
    plain = replace(after, quantization=None, quantization_overrides=())
    assert plain == before


def test_a_tied_copy_of_the_head_is_dropped(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", tied=True)
    head = np.zeros((320, 64), dtype=np.float32)
    write_safetensors(source / "model-head.safetensors", {"lm_head.weight": head})
    (source / "model.safetensors").rename(source / "model-body.safetensors")
    convert(source, tmp_path / "target", bits=4)
    assert not any("lm_head" in name for name in open_checkpoint(tmp_path / "target").tensors)


def test_shards_and_blocks_do_not_change_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, shards=2)
    convert(source, tmp_path / "whole", bits=4)
    monkeypatch.setattr("qwen3_mlx_convert.write.SHARD_BYTES", 60_000)
    monkeypatch.setattr("qwen3_mlx_convert.read.BLOCK_BYTES", 1000)
    report = convert(source, tmp_path / "parts", bits=4)
    assert report.files > 3
    files = sorted(path.name for path in (tmp_path / "parts").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{report.files:05d}.safetensors"
    assert len(files) == report.files
    assert all((tmp_path / "parts" / name).stat().st_size < 75_000 for name in files)
    _assert_equal(_tensors(tmp_path / "parts"), _tensors(tmp_path / "whole"))
    assert open_checkpoint(tmp_path / "parts").weight_bytes == report.target_bytes


def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, tokenizer=True)
    for name in ("a", "b"):
        convert(source, tmp_path / name, bits=4)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True)
    seen: list[ConvertProgress] = []
    report = convert(source, tmp_path / "target", bits=4, progress=seen.append)
    assert [state.done_bytes for state in seen] == sorted(state.done_bytes for state in seen)
    assert seen[-1].done_bytes == seen[-1].total_bytes == report.source_bytes
    assert seen[-1].seconds_left == 0
    assert seen[0].bytes_per_second > 0


def test_memory_is_bounded_by_a_block(tmp_path: Path) -> None:
    """23 MB of weights pass through blocks of 1 MB; mlx's peak stays at a few of them."""
    source = write_checkpoint(tmp_path / "source", vocab_size=40_000, hidden_size=256, tied=True)
    code = (
        "import mlx.core as mx, pathlib, qwen3_mlx_convert.read as read\n"
        "from qwen3_mlx_convert import convert\n"
        "read.BLOCK_BYTES = 1 << 20\n"
        f"convert(pathlib.Path({str(source)!r}), pathlib.Path({str(tmp_path / 'out')!r}), bits=4)\n"
        "print(mx.get_peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 << 20


# Refusals: nothing is written.


def _refused(
    source: Path, target: Path, error: type[Exception], match: str, **options: Any
) -> None:
    before = sorted(os.listdir(target.parent))
    with pytest.raises(error, match=match):
        convert(source, target, **({"bits": 4} | options))
    assert sorted(os.listdir(target.parent)) == before


def test_an_existing_target_is_not_touched(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    (tmp_path / "target").mkdir()
    _refused(source, tmp_path / "target", OutputExistsError, "exists already and was not touched")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    _refused(source, tmp_path / "link", OutputExistsError, "exists already")


def test_sources_that_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _refused(tmp_path / "none", out, ModelNotFoundError, "no folder")
    source = write_checkpoint(tmp_path / "source", moe=True)
    convert(source, tmp_path / "q4", bits=4)
    convert(source, tmp_path / "bf16", bits=None)
    _refused(tmp_path / "q4", out, UnsupportedModelError, r"quantised already \(4 bits, group 64\)")
    _refused(source, out, OptionError, "7 bits: mlx packs", bits=7)
    _refused(source, out, OptionError, "choose 32, 64 or 128", group_size=48)
    other = write_checkpoint(tmp_path / "other", model_type="qwen3")
    for model_type, words in (
        ("qwen3_vl", "Qwen3-VL.*not supported yet"),
        ("qwen3_next", "Qwen3-Next.*not supported yet"),
        ("qwen3_omni_moe", "Qwen3-Omni.*not supported yet"),
        ("llama", "'llama'; supported are"),
    ):
        (other / "config.json").write_text(json.dumps(_config(other) | {"model_type": model_type}))
        _refused(other, out, UnsupportedModelError, words)


def test_tensors_that_do_not_fit_the_config(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    plain = _config(source)
    for change, words in (
        ({"num_hidden_layers": 4}, "11 of 47 tensors are missing.*layers.3"),
        ({"num_hidden_layers": 2}, "11 tensors are not part of a qwen3 model with 2 layers"),
        ({"vocab_size": 321}, r"embed_tokens.weight has the shape \[320, 64\].*\[321, 64\]"),
    ):
        (source / "config.json").write_text(json.dumps(plain | change))
        _refused(source, tmp_path / "out", CheckpointError, words)


def test_packed_dtypes_are_named(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    data = (source / "model.safetensors").read_bytes()
    text = data.replace(b'"BF16"', b'"U16" ')  # as many bytes of weights, of another dtype
    (source / "model.safetensors").write_bytes(text)
    _refused(source, tmp_path / "out", UnsupportedModelError, "is stored as U16; this version")


def test_too_little_room_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    source = write_checkpoint(tmp_path / "source")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    _refused(source, tmp_path / "out", Qwen3Error, r"needs 34 MB and .* has 1\.0 MB free")


def test_a_shard_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")

    def shrink(_: ConvertProgress) -> None:
        os.truncate(source / "model.safetensors", 10_000)

    _refused(source, tmp_path / "out", CheckpointError, "changed meanwhile", progress=shrink)
