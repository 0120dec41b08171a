"""Every kind of checkpoint, seen as the plain one: one floating matrix for each name.

    plain    bf16, f16, f32
    fp8      weight F8_E4M3 (out, in), weight_scale_inv by blocks of 128 x 128
    gptq     qweight (in * bits / 32, out), qzeros, scales (groups, out), g_idx (in)
    awq      qweight (in, out * bits / 32), qzeros, scales (groups, out), in a mixed order
    fused    experts of a layer in one tensor, (E, out, in) or (E, in, out)
    mlx      packed words with scales and biases; experts stacked, (E, out, in)

Each `Rows` gives blocks of rows in a floating type, so what reads them need not know the kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx.checkpoint import ITEM_BYTES, TensorInfo
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.model.config import Quantization

if TYPE_CHECKING:
    import mlx.core as mx

    from qwen3_mlx_convert.read import Reader

__all__ = [
    "Awq",
    "Fp8",
    "Gptq",
    "Packed",
    "Plain",
    "Rows",
    "Transposed",
    "blocks",
    "dtype_of",
    "nbytes_of",
    "part_of",
    "place_of",
    "shape_of",
    "sliced",
    "weights_in",
]

FP8_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Plain:
    """A tensor as it stands."""

    info: TensorInfo


@dataclass(frozen=True, slots=True)
class Transposed:
    """Rows that stand in the file as columns, `columns` of each row of `info` from `first` on."""

    info: TensorInfo
    first: int
    columns: int


@dataclass(frozen=True, slots=True)
class Fp8:
    """8-bit floats and the factor of each block of 128 x 128."""

    info: TensorInfo
    scales: TensorInfo


@dataclass(frozen=True, slots=True)
class Gptq:
    """Words that hold 32 / bits inputs of one output; `v2` stores zeros as they are, not less 1."""

    info: TensorInfo
    zeros: TensorInfo
    scales: TensorInfo
    groups: TensorInfo | None
    bits: int
    group_size: int
    v2: bool = False


@dataclass(frozen=True, slots=True)
class Awq:
    """Words that hold 8 outputs of one input, in the order 0 2 4 6 1 3 5 7."""

    info: TensorInfo
    zeros: TensorInfo
    scales: TensorInfo
    group_size: int


@dataclass(frozen=True, slots=True)
class Packed:
    """What `mx.quantize` wrote."""

    info: TensorInfo
    scales: TensorInfo
    biases: TensorInfo | None
    how: Quantization


Rows = Plain | Transposed | Fp8 | Gptq | Awq | Packed

#: Bits of a word from the lowest to the highest hold these of the eight outputs.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def shape_of(source: Rows) -> tuple[int, ...]:
    """The shape of the plain tensor."""
    stored = source.info.shape
    if isinstance(source, Transposed):
        return (source.columns, stored[0])
    if isinstance(source, Gptq):
        return (stored[1], stored[0] * 32 // source.bits)
    if isinstance(source, Awq):
        return (stored[1] * 8, stored[0])
    if isinstance(source, Packed):
        return (*stored[:-1], stored[-1] * 32 // source.how.bits)
    return stored


def dtype_of(source: Rows) -> str:
    """The floating type that the values come in."""
    if isinstance(source, Plain | Transposed):
        return source.info.dtype
    if isinstance(source, Fp8):
        return "BF16"
    return source.scales.dtype


def nbytes_of(source: Rows) -> int:
    """Bytes that reading it takes, without its small companions."""
    if isinstance(source, Transposed):
        return source.info.shape[0] * source.columns * ITEM_BYTES[source.info.dtype]
    return source.info.nbytes


def sliced(info: TensorInfo, index: int) -> TensorInfo:
    """Item `index` of a stack."""
    each = info.nbytes // info.shape[0]
    return replace(info, shape=info.shape[1:], offset=info.offset + index * each, nbytes=each)


def part_of(info: TensorInfo, first: int, rows: int) -> TensorInfo:
    """Some rows of a matrix."""
    each = info.nbytes // info.shape[0]
    shape = (rows, *info.shape[1:])
    return replace(info, shape=shape, offset=info.offset + first * each, nbytes=rows * each)


def place_of(source: Rows) -> tuple[Path, int]:
    """Where reading begins, so that a disk is read from front to back."""
    return source.info.file, source.info.offset


def blocks(source: Rows, dtype: str, reader: Reader) -> Iterator[tuple[int, int, mx.array]]:
    """The plain tensor from its first row to its last, as (first row, bytes read, rows)."""
    if isinstance(source, Plain):
        yield from reader.blocks(source.info, dtype)
    elif isinstance(source, Fp8):
        yield from _fp8(source, dtype, reader)
    elif isinstance(source, Packed):
        yield from _packed(source, dtype, reader)
    else:
        yield from _columns(source, dtype, reader)


def _fp8(source: Fp8, dtype: str, reader: Reader) -> Iterator[tuple[int, int, mx.array]]:
    """w = float8 * factor of its block, in float32, then `dtype`."""
    import mlx.core as mx

    factors = reader.whole(source.scales).astype(mx.float32)
    columns = source.info.shape[1]
    wide = mx.repeat(factors, FP8_BLOCK, axis=1)[:, :columns]
    for first, nbytes, raw in reader.raw_blocks(source.info, FP8_BLOCK):
        count = raw.shape[0]
        begin = first // FP8_BLOCK
        factor = wide[begin : begin + -(-count // FP8_BLOCK)]
        factor = mx.repeat(factor, FP8_BLOCK, axis=0)[:count]
        yield first, nbytes, reader.cast(mx.from_fp8(raw, dtype=mx.float32) * factor, dtype)


def _packed(source: Packed, dtype: str, reader: Reader) -> Iterator[tuple[int, int, mx.array]]:
    import mlx.core as mx

    how = source.how
    scales = reader.whole(source.scales)
    biases = None if source.biases is None else reader.whole(source.biases)
    for first, nbytes, words in reader.raw_blocks(source.info):
        rows = slice(first, first + words.shape[0])
        values = mx.dequantize(
            words, scales[rows], None if biases is None else biases[rows],
            group_size=how.group_size, bits=how.bits, mode=how.mode,
        )  # fmt: skip
        yield first, nbytes, reader.cast(values, dtype)


def _columns(
    source: Transposed | Gptq | Awq, dtype: str, reader: Reader
) -> Iterator[tuple[int, int, mx.array]]:
    """Kinds whose files hold inputs as rows: one strip of outputs after another, transposed."""
    import mlx.core as mx

    per_column = {Gptq: 1, Awq: 8, Transposed: 1}[type(source)]
    start = source.first if isinstance(source, Transposed) else 0
    end = start + source.columns if isinstance(source, Transposed) else source.info.shape[1]
    rows, item = source.info.shape[0], ITEM_BYTES[source.info.dtype]
    for first, strip in reader.strips(source.info, start, end):
        if isinstance(source, Transposed):
            values = strip.T
        elif isinstance(source, Gptq):
            values = _gptq(source, strip, first, reader)
        else:
            values = _awq(source, strip, first, reader)
        nbytes = rows * strip.shape[1] * item
        yield (first - start) * per_column, nbytes, mx.contiguous(reader.cast(values, dtype))


def _gptq(source: Gptq, strip: mx.array, first: int, reader: Reader) -> mx.array:
    """w[o, i] = (q[i, o] - zero[group(i), o]) * scale[group(i), o], (outputs, inputs)."""
    import mlx.core as mx

    bits, outputs = source.bits, strip.shape[1]
    codes = _unpack(strip.T, bits)  # (outputs, inputs)
    zeros = _unpack(reader.whole(source.zeros), bits)[:, first : first + outputs]
    if not source.v2:
        zeros = (zeros + 1) & (2**bits - 1)
    scales = reader.whole(source.scales).astype(mx.float32)[:, first : first + outputs]
    inputs = codes.shape[1]
    if source.groups is not None:
        group = _groups(source.groups, zeros.shape[0], reader)
    else:
        group = mx.arange(inputs) // source.group_size
    centre = mx.take(zeros, group, axis=0).T.astype(mx.float32)
    values: mx.array = (codes.astype(mx.float32) - centre) * mx.take(scales, group, axis=0).T
    return values


def _groups(info: TensorInfo, count: int, reader: Reader) -> mx.array:
    """The group of each input; a number that is no group would be read from beyond the table."""
    import mlx.core as mx

    group = reader.whole(info).astype(mx.int64)
    low, high = int(group.min()), int(group.max())
    if low < 0 or high >= count:
        raise CheckpointError(
            f"a g_idx in {info.file} names group {low if low < 0 else high} of {count}: "
            "download the folder again"
        )
    return group.astype(mx.int32)


def _awq(source: Awq, strip: mx.array, first: int, reader: Reader) -> mx.array:
    import mlx.core as mx

    words = strip.shape[1]
    codes = _unmixed(strip)  # (inputs, outputs)
    zeros = _unmixed(reader.whole(source.zeros)[:, first : first + words])
    scales = reader.whole(source.scales).astype(mx.float32)[:, 8 * first : 8 * (first + words)]
    group = mx.arange(codes.shape[0]) // source.group_size
    centre = mx.take(zeros, group, axis=0).astype(mx.float32)
    values: mx.array = ((codes.astype(mx.float32) - centre) * mx.take(scales, group, axis=0)).T
    return values


def _unpack(words: mx.array, bits: int) -> mx.array:
    """(n, words) of 32 bits to (n, words * 32 / bits) numbers, lowest bits first."""
    import mlx.core as mx

    shifts = mx.arange(0, 32, bits, dtype=mx.uint32)
    parts: mx.array = (words[:, :, None].astype(mx.uint32) >> shifts) & (2**bits - 1)
    return parts.reshape(words.shape[0], -1)


def _unmixed(words: mx.array) -> mx.array:
    import mlx.core as mx

    mixed = _unpack(words, 4).reshape(words.shape[0], -1, 8)
    order = mx.array([_AWQ_ORDER.index(place) for place in range(8)])
    return mx.take(mixed, order, axis=2).reshape(words.shape[0], -1)


def weights_in(source: Rows) -> int:
    """How many weights the plain tensor has."""
    return prod(shape_of(source))
