"""Packing with error feedback: what one column loses to rounding, the columns after it make good.

The method is GPTQ (Frantar et al. 2022, arXiv 2210.17323). With inputs X of a matrix W, the
packed Ŵ shall keep W X, so the error is weighed by H = X Xᵀ. Columns are rounded one after
another, those with the largest inputs first, and each one's error is spread over the columns
that are still to come in the proportions that H gives. Scales and biases of a group are fitted
before by least squares and stay, so the order of the columns is free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.model.config import Quantization

__all__ = ["Coded", "Moments", "code", "fit", "unpacked", "words_of"]

Floats = NDArray[np.float32]
#: Codes (out, in), scales and biases (out, in / group_size).
Coded = tuple[NDArray[np.uint8], Floats, Floats]

#: H is taken in blocks of so many columns along its diagonal, to bound memory and time.
_BLOCK = 4096
#: Columns whose errors are spread one by one; those beyond are reached by one product.
_STRIPE = 64
#: Rows at once, so that a head of 150,000 rows takes no more memory than a matrix.
_ROWS = 16_384
#: Shares of a group's range that are tried for its scale, and the share of H's mean diagonal
#: that is added to the diagonal, so that a matrix with few inputs has an inverse.
_SHRINK = (1.0, 0.9, 0.8)
_DAMPING = 0.01


class Moments:
    """The second moments of a matrix's inputs, block by block along the diagonal."""

    def __init__(self, columns: int, inputs: Iterable[Floats]) -> None:
        starts = range(0, columns, _BLOCK)
        self.places = [slice(a, min(columns, a + _BLOCK)) for a in starts]
        self.blocks = [np.zeros((p.stop - p.start,) * 2) for p in self.places]
        for rows in inputs:
            for place, block in zip(self.places, self.blocks, strict=True):
                part = rows[:, place]
                block += part.T @ part

    def diagonal(self) -> Floats:
        """How much each input matters on its own; at least a little."""
        parts = []
        for block in self.blocks:
            diagonal = np.diag(block)
            mean = float(diagonal.mean())
            parts.append(np.maximum(diagonal, 1e-6 * mean) if mean else np.ones(len(block)))
        return np.concatenate(parts).astype(np.float32)


def code(matrix: Floats, how: Quantization, moments: Moments, scale_type: Any) -> Coded:
    """Pack a matrix (out, in) for the inputs that `moments` describe.

    `scale_type` rounds scales and biases to the type that they are stored in, before any code
    is chosen.
    """
    codes = np.empty(matrix.shape, np.uint8)
    scales, biases = (
        np.concatenate(parts) for parts in zip(*(
            fit(matrix[a : a + _ROWS], how, moments.diagonal())
            for a in range(0, len(matrix), _ROWS)
        ), strict=True)
    )  # fmt: skip
    scales, biases = scale_type(scales), scale_type(biases)
    for place, block in zip(moments.places, moments.blocks, strict=True):
        order, spread = _spread(block)
        groups = slice(place.start // how.group_size, -(-place.stop // how.group_size))
        for a in range(0, len(matrix), _ROWS):
            rows = slice(a, a + _ROWS)
            codes[rows, place] = _round(
                matrix[rows, place], scales[rows, groups], biases[rows, groups], how, order, spread
            )
    return codes, scales, biases


def fit(matrix: Floats, how: Quantization, weights: Floats) -> tuple[Floats, Floats]:
    """Scale and bias of each group by weighted least squares: two arrays (out, in / group_size).

    A few shares of the range are tried as a start; each is coded, and the line through the codes
    is fitted; the best of all by weighted squared error stays.
    """
    top = np.float32(2**how.bits - 1)
    values = matrix.reshape(len(matrix), -1, how.group_size)
    w = weights.reshape(1, -1, how.group_size)
    total = w.sum(-1, keepdims=True)
    mean = (w * values).sum(-1, keepdims=True) / total
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    middle = (low + high) / 2
    best_scale = best_bias = best_error = np.zeros(0, np.float32)
    for share in _SHRINK:
        start = middle + (low - middle) * np.float32(share)
        width = np.maximum((high - low) * np.float32(share) / top, np.float32(1e-8))
        for scale, bias in ((width, start), _line(values, w, total, mean, width, start, top)):
            off = np.square(values - _coded(values, scale, bias, top))
            error = (w * off).sum(-1, keepdims=True)
            if not best_error.size:
                best_scale, best_bias, best_error = scale, bias, error
                continue
            wins = error < best_error
            best_scale = np.where(wins, scale, best_scale)
            best_bias = np.where(wins, bias, best_bias)
            best_error = np.where(wins, error, best_error)
    return best_scale[..., 0], best_bias[..., 0]


def _line(
    values: Floats, w: Floats, total: Floats, mean: Floats, scale: Floats, bias: Floats, top: Any
) -> tuple[Floats, Floats]:
    """The scale and bias that suit the codes of (scale, bias) best."""
    codes = np.clip(np.rint((values - bias) / scale), 0, top)
    middle = (w * codes).sum(-1, keepdims=True) / total
    spread = (w * np.square(codes - middle)).sum(-1, keepdims=True)
    both = (w * (codes - middle) * (values - mean)).sum(-1, keepdims=True)
    slope = np.where(spread > 0, both / np.maximum(spread, np.float32(1e-20)), scale)
    slope = np.where(slope > np.float32(1e-8), slope, scale)
    return slope, mean - slope * middle


def _coded(values: Floats, scale: Floats, bias: Floats, top: Any) -> Floats:
    result: Floats = np.clip(np.rint((values - bias) / scale), 0, top) * scale + bias
    return result


def _spread(moments: NDArray[np.float64]) -> tuple[NDArray[np.int64], Floats]:
    """The order of the columns, and the upper factor of H's inverse in that order."""
    diagonal = np.diag(moments)
    mean = float(diagonal.mean())
    order = np.argsort(-diagonal, kind="stable")
    if mean == 0:  # nothing is known of the inputs: every column for itself
        return order, np.eye(len(moments), dtype=np.float32)
    damped = moments[order][:, order]
    damped[np.diag_indices(len(damped))] += _DAMPING * mean
    inverse = np.linalg.inv(damped)
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
    return order, factor.astype(np.float32)


def _round(
    matrix: Floats, scales: Floats, biases: Floats, how: Quantization,
    order: NDArray[np.int64], spread: Floats,
) -> NDArray[np.uint8]:  # fmt: skip
    """Codes of (rows, columns), each column's error spread over those that come after it."""
    top = np.float32(2**how.bits - 1)
    group = order // how.group_size
    left = matrix[:, order]  # a copy: what is still to be coded
    codes = np.empty(matrix.shape, np.uint8)
    for start in range(0, len(order), _STRIPE):
        end = min(start + _STRIPE, len(order))
        errors = np.empty((len(left), end - start), np.float32)
        for place in range(start, end):
            column, scale, bias = left[:, place], scales[:, group[place]], biases[:, group[place]]
            found = np.clip(np.rint((column - bias) / scale), 0, top)
            codes[:, order[place]] = found
            error = (column - (found * scale + bias)) / spread[place, place]
            errors[:, place - start] = error
            left[:, place + 1 : end] -= error[:, None] * spread[place, place + 1 : end]
        left[:, end:] -= errors @ spread[start:end, end:]
    return codes


def unpacked(coded: Coded, how: Quantization) -> Floats:
    """The matrix that the codes mean."""
    codes, scales, biases = coded
    wide = codes.reshape(*scales.shape, how.group_size).astype(np.float32)
    result: Floats = wide * scales[..., None] + biases[..., None]
    return result.reshape(codes.shape)


def words_of(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint32]:
    """Codes (out, in) as mlx packs them: a row of little-endian bits, (out, in * bits / 32)."""
    rows, columns = codes.shape
    out = np.empty((rows, columns * bits // 8), np.uint8)
    step = max(1, (1 << 22) // columns)
    for a in range(0, rows, step):
        parts = np.unpackbits(codes[a : a + step, :, None], axis=2, count=bits, bitorder="little")
        out[a : a + step] = np.packbits(parts.reshape(len(parts), -1), axis=1, bitorder="little")
    assert math.prod(out.shape) % 4 == 0
    return out.view("<u4")
