"""Which kind of checkpoint a folder is, and its tensors under the names of the plain layout.

The kind follows from config.json (`quantization_config.quant_method`, or MLX's `quantization`)
and from the names of the tensors. Nothing is read but headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen3_mlx.checkpoint import Checkpoint, TensorInfo
from qwen3_mlx.errors import CheckpointError, UnsupportedModelError
from qwen3_mlx.experts.records import MANIFEST
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_convert.sources import (
    FP8_BLOCK,
    Awq,
    Fp8,
    Gptq,
    Packed,
    Plain,
    Rows,
    Transposed,
    part_of,
    sliced,
)

__all__ = ["plain_config", "plain_tensors", "refuse_records", "without_packing"]

_FLOATS = ("BF16", "F16", "F32")
_FUSED = re.compile(r"(model\.layers\.\d+\.mlp\.experts)\.(gate_up_proj|down_proj)(\.weight)?")
_STACKED = re.compile(r"(model\.layers\.\d+\.mlp)\.switch_mlp\.(\w+_proj)\.weight")

Tensors = Mapping[str, TensorInfo]


def plain_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The model of a config.json, without a word on how its weights are stored.

    Raises:
        UnsupportedModelError: the weights are stored in a way that is not read here.
        CheckpointError: the config makes no sense.
    """
    settings = raw.get("quantization_config") or {}
    if not isinstance(settings, Mapping):
        raise CheckpointError(
            "quantization_config in config.json is no block of keys: download the folder again"
        )
    method = settings.get("quant_method")
    if method not in (None, "fp8", "gptq", "awq"):
        raise UnsupportedModelError(
            f"the weights are stored as {method!r}; converted are bf16, f16, f32, block-FP8, "
            "GPTQ, AWQ and MLX folders: give one of these, best the bf16 original"
        )
    hidden = {"quantization_config"} if method else set()
    return ModelConfig.from_dict({key: raw[key] for key in raw if key not in hidden})


def refuse_records(folder: Path) -> None:
    """Raise UnsupportedModelError if experts are records: they are not among the tensors."""
    if (folder / MANIFEST).exists():
        raise UnsupportedModelError(
            f"{folder} has its experts as records: unpack it first, `qwen3-mlx unpack {folder}`"
        )


def plain_tensors(checkpoint: Checkpoint, config: ModelConfig) -> dict[str, Rows]:
    """A source for every tensor, by its name in the plain Hugging Face layout.

    Raises:
        CheckpointError: a tensor lacks its companions, or they do not fit it.
        UnsupportedModelError: a number format that is not read here.
    """
    settings = checkpoint.config.get("quantization_config") or {}
    method = settings.get("quant_method")
    if method in ("gptq", "awq"):
        found = dict(_integers(checkpoint.tensors, settings))
    elif method == "fp8":
        found = dict(_fp8(checkpoint.tensors, settings))
    elif config.quantization is not None:
        found = dict(_mlx(checkpoint.tensors, config))
    else:
        found = {name: Plain(info) for name, info in checkpoint.tensors.items()}
    single = dict(_single_experts(found, config))
    for name, source in single.items():
        if isinstance(source, Plain | Transposed) and source.info.dtype not in _FLOATS:
            raise UnsupportedModelError(
                f"{name} is stored as {source.info.dtype}; this version converts "
                f"{', '.join(_FLOATS)}: give the bf16 checkpoint"
            )
    return single


def _fp8(tensors: Tensors, settings: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    block = settings.get("weight_block_size", [FP8_BLOCK, FP8_BLOCK])
    if list(block) != [FP8_BLOCK, FP8_BLOCK]:
        raise UnsupportedModelError(
            f"FP8 in blocks of {block}; read are blocks of {FP8_BLOCK} x {FP8_BLOCK}: give the "
            "bf16 checkpoint"
        )
    for name, info in tensors.items():
        if name.endswith(".weight_scale_inv"):
            continue
        if info.dtype != "F8_E4M3":
            yield name, Plain(info)
            continue
        scales = _companion(tensors, f"{name}_scale_inv", name)
        wanted = tuple(-(-size // FP8_BLOCK) for size in info.shape)
        _fits(f"{name}_scale_inv", scales, wanted)
        yield name, Fp8(info, scales)


def _integers(tensors: Tensors, settings: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    """GPTQ and AWQ: `.qweight` with its companions is `.weight`."""
    bits, group = settings.get("bits", 4), settings.get("group_size", 128)
    if type(bits) is not int or type(group) is not int or not group:
        raise CheckpointError(
            f"quantization_config has bits {bits!r:.40} and group_size {group!r:.40}, which are "
            "no sizes: download the folder again"
        )
    awq = settings.get("quant_method") == "awq"
    if bits not in ((4,) if awq else (2, 4, 8)):
        raise UnsupportedModelError(
            f"{settings['quant_method']} of {bits} bits is not read here: give the bf16 checkpoint"
        )
    v2 = settings.get("checkpoint_format") == "gptq_v2"
    for name, info in tensors.items():
        path, _, suffix = name.rpartition(".")
        if suffix in ("qzeros", "scales", "g_idx") and f"{path}.qweight" in tensors:
            continue
        if suffix != "qweight":
            yield name, Plain(info)
            continue
        zeros = _companion(tensors, f"{path}.qzeros", name)
        scales = _companion(tensors, f"{path}.scales", name)
        inputs, outputs = _size(info, bits, awq)
        each = inputs if group < 0 else group
        count = -(-inputs // each)
        _fits(f"{path}.scales", scales, (count, outputs))
        _fits(f"{path}.qzeros", zeros, (count, outputs * bits // 32))
        if awq:
            yield f"{path}.weight", Awq(info, zeros, scales, each)
            continue
        groups = tensors.get(f"{path}.g_idx")
        if groups is not None:
            _fits(f"{path}.g_idx", groups, (inputs,))
        yield f"{path}.weight", Gptq(info, zeros, scales, groups, bits, each, v2)


def _size(info: TensorInfo, bits: int, awq: bool) -> tuple[int, int]:
    """(inputs, outputs) of a packed matrix."""
    if len(info.shape) != 2 or info.dtype not in ("I32", "U32"):
        raise CheckpointError(
            f"a packed matrix is stored as {info.dtype} of shape {list(info.shape)}, and should "
            "be a table of 32-bit words: download the folder again"
        )
    rows, columns = info.shape
    return (rows, columns * 32 // bits) if awq else (rows * 32 // bits, columns)


def _mlx(tensors: Tensors, config: ModelConfig) -> Iterator[tuple[str, Rows]]:
    for name, info in tensors.items():
        path, _, suffix = name.rpartition(".")
        if suffix in ("scales", "biases") and f"{path}.weight" in tensors:
            continue
        if f"{path}.scales" not in tensors:
            yield name, Plain(info)
            continue
        how = config.quantization_of(path)
        if how is None:
            raise CheckpointError(
                f"{path} is packed but config.json does not say how: download the folder again"
            )
        scales, biases = tensors[f"{path}.scales"], tensors.get(f"{path}.biases")
        if how.mode == "affine" and biases is None:
            raise CheckpointError(f"{path}.biases is missing: download the folder again")
        columns = info.shape[-1] * 32 // how.bits
        for name_, each in ((f"{path}.scales", scales), (f"{path}.biases", biases)):
            if each is not None:
                _fits(name_, each, (*info.shape[:-1], columns // how.group_size))
        yield name, Packed(info, scales, biases, how)


def _single_experts(found: Mapping[str, Rows], config: ModelConfig) -> Iterator[tuple[str, Rows]]:
    """Experts of one tensor become one source each."""
    for name, source in found.items():
        fused, stacked = _FUSED.fullmatch(name), _STACKED.fullmatch(name)
        if stacked:
            _experts_fit(name, source, config)
            for expert in range(config.experts):
                key = f"{stacked[1]}.experts.{expert}.{stacked[2]}.weight"
                yield key, _expert(source, expert)
        elif fused and isinstance(source, Plain):
            _experts_fit(name, source, config)
            yield from _fused(fused[1], fused[2], source.info, found, config)
        else:
            yield name, source


def _expert(source: Rows, expert: int) -> Rows:
    if isinstance(source, Packed):
        biases = None if source.biases is None else sliced(source.biases, expert)
        info, scales = sliced(source.info, expert), sliced(source.scales, expert)
        return Packed(info, scales, biases, source.how)
    return Plain(sliced(source.info, expert))


def _fused(
    path: str, kind: str, info: TensorInfo, found: Mapping[str, Rows], config: ModelConfig
) -> Iterator[tuple[str, Rows]]:
    """(E, 2F, D) and (E, D, F), as Linear stores them, or both the other way round."""
    hidden, width = config.hidden_size, config.expert_width
    turned = _turned(path, found, config)
    rows, columns = (2 * width, hidden) if kind == "gate_up_proj" else (hidden, width)
    _fits(
        f"{path}.{kind}", info, (config.experts, *((columns, rows) if turned else (rows, columns)))
    )
    for expert in range(config.experts):
        one = sliced(info, expert)
        if kind == "down_proj":
            yield f"{path}.{expert}.down_proj.weight", _half(one, 0, hidden, turned)
            continue
        for number, name in enumerate(("gate_proj", "up_proj")):
            half = _half(one, number * width, width, turned)
            yield f"{path}.{expert}.{name}.weight", half


def _half(info: TensorInfo, first: int, count: int, turned: bool) -> Rows:
    return Transposed(info, first, count) if turned else Plain(part_of(info, first, count))


def _turned(path: str, found: Mapping[str, Rows], config: ModelConfig) -> bool:
    """Whether inputs come before outputs. One of the two matrices is never square."""
    hidden, width = config.hidden_size, config.expert_width
    for name, (rows, columns) in (
        ("gate_up_proj", (2 * width, hidden)), ("down_proj", (hidden, width)),
    ):  # fmt: skip
        source = found.get(f"{path}.{name}") or found.get(f"{path}.{name}.weight")
        if source is not None and rows != columns:
            return source.info.shape[1:] == (columns, rows)
    return False


def _experts_fit(name: str, source: Rows, config: ModelConfig) -> None:
    shape = source.info.shape
    if len(shape) != 3 or shape[0] != config.experts:
        raise CheckpointError(
            f"{name} has the shape {list(shape)}, and config.json speaks of {config.experts} "
            "experts: the files do not belong together, download the folder again"
        )


def _companion(tensors: Tensors, name: str, of: str) -> TensorInfo:
    if name not in tensors:
        raise CheckpointError(f"{of} has no {name} beside it: download the folder again")
    return tensors[name]


def _fits(name: str, info: TensorInfo, shape: tuple[int, ...]) -> None:
    if info.shape != shape:
        raise CheckpointError(
            f"{name} has the shape {list(info.shape)} instead of {list(shape)}: the files do not "
            "belong together, download the folder again"
        )


def without_packing(config: ModelConfig) -> ModelConfig:
    """The same model, plain."""
    return replace(config, quantization=None, quantization_overrides=())
