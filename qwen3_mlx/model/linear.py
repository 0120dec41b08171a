"""Matrices as the checkpoint stores them, plain or quantised, behind one call.

These are plain classes and not `mlx.nn` modules: a decode step makes several hundred of
these calls, and `nn.Module` resolves each attribute through a dictionary subclass, which
on a small model costs more host time than the work itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import mlx.core as mx

from qwen3_mlx.model.config import Quantization

__all__ = [
    "Embedding",
    "ExpertMatrix",
    "Linear",
    "Matrix",
    "PlainExperts",
    "QuantizedEmbedding",
    "QuantizedExperts",
    "QuantizedLinear",
    "SeparateLinears",
    "join",
    "join_experts",
]


class Matrix(Protocol):
    """Applied to the last axis: (..., in) -> (..., out)."""

    def __call__(self, x: mx.array) -> mx.array: ...

    def arrays(self) -> list[mx.array]:
        """The arrays held, for evaluation and for counting bytes."""

    def tail(self, first: int) -> Matrix:
        """The matrix that makes the outputs from `first` on; its arrays are views of these."""


class ExpertMatrix(Protocol):
    """One matrix for each expert, applied to rows by the index of their expert."""

    def __call__(self, x: mx.array, experts: mx.array, *, is_sorted: bool) -> mx.array:
        """(N, 1, in) or (N, T, 1, in) and indices (N,) or (N, T) -> the same with `out`."""

    def arrays(self) -> list[mx.array]: ...


class Linear:
    """A plain matrix, weight (out, in)."""

    __slots__ = ("weight",)

    def __init__(self, weight: mx.array) -> None:
        self.weight = weight

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.weight.T

    def arrays(self) -> list[mx.array]:
        return [self.weight]

    def tail(self, first: int) -> Matrix:
        return Linear(self.weight[first:])


class QuantizedLinear:
    """A quantised matrix: packed weight (out, in * bits / 32), scales and biases by group."""

    __slots__ = ("biases", "how", "scales", "weight")

    def __init__(
        self, weight: mx.array, scales: mx.array, biases: mx.array | None, how: Quantization
    ) -> None:
        self.weight, self.scales, self.biases, self.how = weight, scales, biases, how

    def __call__(self, x: mx.array) -> mx.array:
        how = self.how
        return mx.quantized_matmul(
            x, self.weight, self.scales, self.biases,
            transpose=True, group_size=how.group_size, bits=how.bits, mode=how.mode,
        )  # fmt: skip

    def arrays(self) -> list[mx.array]:
        return [a for a in (self.weight, self.scales, self.biases) if a is not None]

    def tail(self, first: int) -> Matrix:
        biases = None if self.biases is None else self.biases[first:]
        return QuantizedLinear(self.weight[first:], self.scales[first:], biases, self.how)


class SeparateLinears:
    """Matrices that cannot be joined (different bits or groups), answering as if they were."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Matrix]) -> None:
        self.parts = tuple(parts)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.concatenate([part(x) for part in self.parts], axis=-1)

    def arrays(self) -> list[mx.array]:
        return [a for part in self.parts for a in part.arrays()]

    def tail(self, first: int) -> Matrix:
        parts, left = list(self.parts), first
        while left >= (outputs := parts[0].arrays()[0].shape[0]):
            left -= outputs
            del parts[0]
        return SeparateLinears([parts[0].tail(left), *parts[1:]])


class Embedding(Linear):
    """A plain table (V, D): `rows` looks tokens up, calling it gives logits (tied head)."""

    __slots__ = ()

    def rows(self, ids: mx.array) -> mx.array:
        return self.weight[ids]


class QuantizedEmbedding(QuantizedLinear):
    """A quantised table (V, D); only the rows that are looked up are dequantised."""

    __slots__ = ()

    def rows(self, ids: mx.array) -> mx.array:
        how = self.how
        biases = None if self.biases is None else self.biases[ids]
        return mx.dequantize(
            self.weight[ids], self.scales[ids], biases,
            group_size=how.group_size, bits=how.bits, mode=how.mode,
        )  # fmt: skip


class PlainExperts:
    """Unquantised experts, weight (E, out, in)."""

    __slots__ = ("weight",)

    def __init__(self, weight: mx.array) -> None:
        self.weight = weight

    def __call__(self, x: mx.array, experts: mx.array, *, is_sorted: bool) -> mx.array:
        if x.dtype != mx.float32 and mx.default_device().type == mx.DeviceType.cpu:
            # The CPU's gather_mm knows float32 only: gather the matrices instead.
            return x @ self.weight[experts].swapaxes(-1, -2)
        return mx.gather_mm(
            x, self.weight.swapaxes(-1, -2), lhs_indices=_row_numbers(x, is_sorted),
            rhs_indices=experts, sorted_indices=is_sorted,
        )  # fmt: skip

    def arrays(self) -> list[mx.array]:
        return [self.weight]


class QuantizedExperts(QuantizedLinear):
    """Quantised experts: weight (E, out, in * bits / 32), scales and biases by group."""

    __slots__ = ()

    def __call__(  # type: ignore[override]
        self, x: mx.array, experts: mx.array, *, is_sorted: bool
    ) -> mx.array:
        how = self.how
        return mx.gather_qmm(
            x, self.weight, self.scales, self.biases,
            lhs_indices=_row_numbers(x, is_sorted), rhs_indices=experts,
            transpose=True, group_size=how.group_size, bits=how.bits, mode=how.mode,
            sorted_indices=is_sorted,
        )  # fmt: skip


def _row_numbers(x: mx.array, is_sorted: bool) -> mx.array | None:
    """Indices of all the rows of a decode step, which MLX would otherwise make at each call.

    MLX has a faster product for sorted experts, and takes it only where these are left out.
    """
    batch = x.shape[:-2]
    return None if is_sorted or math.prod(batch) > 1024 else _numbers(batch)


@lru_cache(maxsize=64)
def _numbers(shape: tuple[int, ...]) -> mx.array:
    numbers = mx.array(list(range(math.prod(shape))), mx.uint32).reshape(shape)
    mx.eval(numbers)
    return numbers


def join(parts: Sequence[Matrix]) -> Matrix:
    """One matrix whose output is the outputs of `parts` side by side.

    Rows quantise independently of each other, so stacking rows of equal format changes no
    number; matrices of different formats stay apart behind the same call.
    """
    if all(isinstance(part, Linear) for part in parts):
        return Linear(mx.concatenate([part.arrays()[0] for part in parts], axis=0))
    quantized = [part for part in parts if isinstance(part, QuantizedLinear)]
    if len(quantized) == len(parts) and len({part.how for part in quantized}) == 1:
        return QuantizedLinear(*_joined_arrays(quantized, axis=0), quantized[0].how)
    return SeparateLinears(parts)


def join_experts(first: ExpertMatrix, second: ExpertMatrix) -> ExpertMatrix | None:
    """The two matrices of every expert stacked on their output axis; None if formats differ."""
    if isinstance(first, PlainExperts) and isinstance(second, PlainExperts):
        return PlainExperts(mx.concatenate([first.weight, second.weight], axis=1))
    if (
        isinstance(first, QuantizedExperts)
        and isinstance(second, QuantizedExperts)
        and first.how == second.how
    ):
        return QuantizedExperts(*_joined_arrays([first, second], axis=1), first.how)
    return None


def _joined_arrays(
    parts: Sequence[QuantizedLinear], axis: int
) -> tuple[mx.array, mx.array, mx.array | None]:
    biases = [part.biases for part in parts if part.biases is not None]
    return (
        mx.concatenate([part.weight for part in parts], axis=axis),
        mx.concatenate([part.scales for part in parts], axis=axis),
        mx.concatenate(biases, axis=axis) if biases else None,
    )
