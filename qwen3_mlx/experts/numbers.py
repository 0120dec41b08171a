"""Number formats: what safetensors calls them, what MLX computes in, and how to change them.

Slots hold numbers in the type that the model computes in. Where the file has another one,
the reader converts after it has read; the results are the bits that `mx.array.astype` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

__all__ = ["BUFFER", "MLX", "converter", "run_type"]

Numbers: TypeAlias = NDArray[Any]

#: safetensors name -> the type in MLX
MLX: dict[str, mx.Dtype] = {
    "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "U32": mx.uint32, "U8": mx.uint8,
}  # fmt: skip

#: safetensors name -> the type of a buffer that holds its bits (bf16 cannot be exported)
BUFFER: dict[str, tuple[mx.Dtype, Any]] = {
    "F32": (mx.float32, np.float32),
    "F16": (mx.float16, np.float16),
    "BF16": (mx.uint16, np.uint16),
    "U32": (mx.uint32, np.uint32),
    "U8": (mx.uint8, np.uint8),
}

_NAMES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}


def run_type(stored: str, dtype: mx.Dtype | None) -> str:
    """The type that a part has in memory: `dtype` for floats, as stored for codes."""
    return stored if dtype is None or stored not in _NAMES.values() else _NAMES[dtype]


def converter(stored: str, wanted: str) -> Callable[[Numbers, Numbers], None] | None:
    """A function that fills its second argument from its first; None where nothing changes."""
    if stored == wanted:
        return None

    def convert(source: Numbers, target: Numbers) -> None:
        values = _widen(source) if stored == "BF16" else source
        target[...] = _narrow(values.astype(np.float32)) if wanted == "BF16" else values

    return convert


def _widen(bits: Numbers) -> Numbers:
    """bfloat16, as its bits, to float32: the upper half of the word."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrow(values: Numbers) -> Numbers:
    """float32 to the bits of bfloat16, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
