"""FP8, GPTQ, AWQ, fused experts and MLX folders give the weights that their formats mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from qwen3_mlx.errors import CheckpointError, UnsupportedModelError
from qwen3_mlx_convert import convert, read
from tests.checkpoints import base_config, to_bf16, write_checkpoint, write_safetensors

Array = NDArray[Any]
Stored = dict[str, tuple[Array, str]]

#: in, out and groups of 128 where the formats want that; a config with no tiny rows.
SIZES: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_hidden_layers": 1,
    "moe_intermediate_size": 128, "num_experts": 2,
}  # fmt: skip


def _plain(folder: Path) -> dict[str, Array]:
    loaded = mx.load(str(folder / "model.safetensors"))
    assert isinstance(loaded, dict)
    return {name: np.array(value.astype(mx.float32)) for name, value in loaded.items()}


def _write(folder: Path, stored: Stored, settings: Any = None, **overrides: Any) -> Path:
    folder.mkdir()
    config = base_config(**(SIZES | overrides))
    if settings:
        config["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(
        folder / "model.safetensors",
        {name: values for name, (values, _) in stored.items()},
        {name: dtype for name, (_, dtype) in stored.items()},
    )
    return folder


def _quantised(
    folder: Path, make: Callable[[str, Array], tuple[Stored, Array]], settings: Any, moe: bool
) -> dict[str, Array]:
    """Write `folder` with every matrix of the layers made by `make`; what it should mean."""
    plain = _plain(write_checkpoint(folder.with_name("plain"), moe=moe, dtype="F32", **SIZES))
    stored: Stored = {}
    meant: dict[str, Array] = {}
    for name, values in plain.items():
        if values.ndim == 2 and "layers" in name and not name.endswith("mlp.gate.weight"):
            parts, meant[name] = make(name.removesuffix(".weight"), values)
            stored |= parts
        else:
            stored[name] = (to_bf16(values), "BF16")
            meant[name] = (to_bf16(values).astype(np.uint32) << 16).view(np.float32)
    _write(folder, stored, settings, moe=moe)
    return meant


def _check(folder: Path, meant: dict[str, Array], tolerance: float) -> None:
    """The bf16 conversion holds what is meant, experts stacked."""
    convert(folder, folder.with_name("out"), bits=None)
    found = _plain(folder.with_name("out"))
    for name, values in meant.items():
        if ".experts." in name:
            path, _, rest = name.partition(".experts.")
            expert, _, part = rest.partition(".")
            got = found[f"{path}.switch_mlp.{part}"][int(expert)]
        else:
            got = found[name]
        np.testing.assert_allclose(got, values, rtol=2**-8, atol=tolerance, err_msg=name)
    convert(folder, folder.with_name("q4"), bits=4)


@pytest.fixture(params=[64 << 20, 5000], ids=["whole", "blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("moe", [False, True])
def test_block_fp8(tmp_path: Path, moe: bool) -> None:
    torch = pytest.importorskip("torch")

    def make(path: str, values: Array) -> tuple[Stored, Array]:
        rows, columns = values.shape
        padded = np.zeros((-(-rows // 128) * 128, -(-columns // 128) * 128), np.float32)
        padded[:rows, :columns] = values
        tiles = padded.reshape(padded.shape[0] // 128, 128, -1, 128)
        factor = np.abs(tiles).max(axis=(1, 3)) / 448
        scaled = (tiles / factor[:, None, :, None]).reshape(padded.shape)[:rows, :columns]
        eight = torch.tensor(scaled).to(torch.float8_e4m3fn)
        back = eight.float().numpy()
        wide = np.repeat(np.repeat(factor, 128, 0), 128, 1)[:rows, :columns]
        bits = eight.view(torch.uint8).numpy()
        stored: Stored = {
            f"{path}.weight": (bits, "F8_E4M3"),
            f"{path}.weight_scale_inv": (factor.astype(np.float32), "F32"),
        }
        return stored, back * wide

    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    meant = _quantised(tmp_path / "fp8", make, settings, moe)
    _check(tmp_path / "fp8", meant, 1e-6)


def _words(codes: Array, bits: int) -> Array:
    """Numbers along the last axis into words of 32 bits, lowest first."""
    each = 32 // bits
    parts = codes.astype(np.uint32).reshape(*codes.shape[:-1], -1, each)
    shifts = np.arange(each, dtype=np.uint32) * bits
    result: Array = np.bitwise_or.reduce(parts << shifts, axis=-1).astype(np.uint32)
    return result


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("order", ["sorted", "act", "absent"])
def test_gptq(tmp_path: Path, bits: int, order: str) -> None:
    random = np.random.default_rng(1)

    def make(path: str, values: Array) -> tuple[Stored, Array]:
        outputs, inputs = values.shape
        groups = inputs // 32
        which = np.arange(inputs) // 32
        if order == "act":
            which = random.permutation(which)
        codes = random.integers(0, 2**bits, (inputs, outputs))
        zeros = random.integers(1, 2**bits, (groups, outputs))
        scales = (random.random((groups, outputs)) * 0.01 + 0.001).astype(np.float16)
        stored: Stored = {
            f"{path}.qweight": (_words(codes.T, bits).T, "I32"),
            f"{path}.qzeros": (_words(zeros - 1, bits), "I32"),
            f"{path}.scales": (scales, "F16"),
        }
        if order != "absent":
            stored[f"{path}.g_idx"] = (which.astype(np.uint32), "I32")
        meant = (codes - zeros[which]) * scales[which].astype(np.float32)
        return stored, meant.T

    settings = {"quant_method": "gptq", "bits": bits, "group_size": 32, "desc_act": order == "act"}
    meant = _quantised(tmp_path / "gptq", make, settings, moe=bits == 4)
    _check(tmp_path / "gptq", meant, 1e-6)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("moe", [False, True])
def test_awq(tmp_path: Path, moe: bool) -> None:
    random = np.random.default_rng(2)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word holds output order[i]

    def mixed(codes: Array) -> Array:
        return _words(codes.reshape(codes.shape[0], -1, 8)[:, :, order].reshape(codes.shape), 4)

    def make(path: str, values: Array) -> tuple[Stored, Array]:
        outputs, inputs = values.shape
        which = np.arange(inputs) // 64
        codes = random.integers(0, 16, (inputs, outputs))
        zeros = random.integers(0, 16, (inputs // 64, outputs))
        scales = (random.random((inputs // 64, outputs)) * 0.01 + 0.001).astype(np.float16)
        stored: Stored = {
            f"{path}.qweight": (mixed(codes), "I32"),
            f"{path}.qzeros": (mixed(zeros), "I32"),
            f"{path}.scales": (scales, "F16"),
        }
        meant = (codes - zeros[which]) * scales[which].astype(np.float32)
        return stored, meant.T

    settings = {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"}
    _check(tmp_path / "awq", _quantised(tmp_path / "awq", make, settings, moe), 1e-6)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("width", [64, 128, 256])
def test_fused_experts(tmp_path: Path, turned: bool, width: int) -> None:
    """Width 64 and 128 make one of the two matrices square at hidden 128."""
    sizes = SIZES | {"moe_intermediate_size": width}
    plain = _plain(write_checkpoint(tmp_path / "plain", moe=True, dtype="F32", **sizes))
    stored: Stored = {}
    for name, values in plain.items():
        if ".experts." not in name:
            stored[name] = (values, "F32")
    path = "model.layers.0.mlp.experts"
    for key, parts in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",))):
        experts = [
            np.concatenate([plain[f"{path}.{e}.{part}.weight"] for part in parts]) for e in range(2)
        ]
        stack = np.stack([each.T if turned else each for each in experts])
        stored[f"{path}.{key}"] = (np.ascontiguousarray(stack), "F32")
    _write(tmp_path / "fused", stored, moe=True, moe_intermediate_size=width)
    convert(tmp_path / "plain", tmp_path / "one", bits=4)
    convert(tmp_path / "fused", tmp_path / "two", bits=4)
    one, two = _plain(tmp_path / "one"), _plain(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("moe", [False, True])
def test_mlx_folders_go_upwards(tmp_path: Path, moe: bool) -> None:
    source = write_checkpoint(tmp_path / "source", moe=moe, **SIZES)
    convert(source, tmp_path / "q4", bits=4)
    with pytest.raises(UnsupportedModelError, match=r"quantised already.*--force"):
        convert(tmp_path / "q4", tmp_path / "q3", bits=3)
    convert(tmp_path / "q4", tmp_path / "q8", bits=8)
    convert(tmp_path / "q4", tmp_path / "q3", bits=3, force=True)
    convert(tmp_path / "q4", tmp_path / "bf16", bits=None)
    packed = mx.load(str(tmp_path / "q4" / "model.safetensors"))
    assert isinstance(packed, dict)
    for name, values in _plain(tmp_path / "bf16").items():
        path = name.removesuffix(".weight")
        if f"{path}.scales" not in packed:
            continue
        bits = 8 if path.endswith("mlp.gate") else 4
        meant = mx.dequantize(
            packed[name], packed[f"{path}.scales"], packed[f"{path}.biases"],
            group_size=64, bits=bits,
        )  # fmt: skip
        np.testing.assert_array_equal(values, np.array(meant.astype(mx.float32)), err_msg=name)
    assert "quantization" not in json.loads((tmp_path / "bf16" / "config.json").read_text())


def test_stacked_bf16_is_read(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True)
    convert(source, tmp_path / "bf16", bits=None)
    convert(tmp_path / "bf16", tmp_path / "two", bits=4)
    convert(source, tmp_path / "one", bits=4)
    one, two = (tmp_path / name / "model.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_companions_must_be_there_and_fit(tmp_path: Path) -> None:
    plain = _plain(write_checkpoint(tmp_path / "plain", dtype="F32", **SIZES))
    stored: Stored = {name: (values, "F32") for name, values in plain.items()}
    name = "model.layers.0.mlp.up_proj.weight"
    stored[name] = (np.zeros((256, 128), np.uint8), "F8_E4M3")
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    _write(tmp_path / "alone", stored, settings)
    with pytest.raises(CheckpointError, match=r"up_proj.weight has no .*scale_inv beside it"):
        convert(tmp_path / "alone", tmp_path / "out", bits=4)
    stored[f"{name}_scale_inv"] = (np.ones((1, 1), np.float32), "F32")
    _write(tmp_path / "misfit", stored, settings)
    with pytest.raises(
        CheckpointError, match=r"scale_inv has the shape \[1, 1\] instead of \[2, 1"
    ):
        convert(tmp_path / "misfit", tmp_path / "out", bits=4)
    _write(tmp_path / "other", stored, {"quant_method": "bitsandbytes"})
    with pytest.raises(UnsupportedModelError, match="'bitsandbytes'; converted are bf16"):
        convert(tmp_path / "other", tmp_path / "out", bits=4)
