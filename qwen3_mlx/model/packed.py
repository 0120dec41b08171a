"""Attention over keys and values that are kept in 4 or 8 bits.

What is kept small must not be made large to be read: a copy of the whole cache in full
precision would cost more than the packing saves. So a step multiplies with the packed numbers
as they are, and a prompt is read against one tile of positions after the other (online
softmax, Milakov and Gimelshein 2018, arXiv 1805.02867):

    m' = max(m, max s)      s are the scores of this tile, p = exp(s - m')
    l' = l exp(m - m') + sum p
    o' = o exp(m - m') + p v            and at the end o / l

A tile is unpacked only when the one before is done: it depends on it. The CPU back end queues
a hundred operations ahead and takes their memory as it queues them, so there each tile is also
waited for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import mlx.core as mx

from qwen3_mlx.model.tiles import tile_length

__all__ = ["PackedKV", "attend_packed", "pack"]

#: Words of packed numbers (…, S, C bits / 32), scales and biases (…, S, C / group).
Packed: TypeAlias = tuple[mx.array, mx.array, mx.array]


@dataclass(frozen=True, slots=True)
class PackedKV:
    """Keys and values of one layer (B, K, S, C), packed along the channels."""

    keys: Packed
    values: Packed
    bits: int
    group: int

    @property
    def length(self) -> int:
        """S, the positions that are held."""
        return self.keys[0].shape[2]

    def tile(
        self, start: int, end: int, dtype: mx.Dtype, after: list[mx.array]
    ) -> tuple[mx.array, mx.array]:
        """Some positions of keys and values, unpacked when the arrays `after` are computed."""
        packed = [part[:, :, start:end] for part in (*self.keys, *self.values)]
        k0, k1, k2, v0, v1, v2 = mx.depends(packed, after)
        return self._unpacked((k0, k1, k2), dtype), self._unpacked((v0, v1, v2), dtype)

    def _unpacked(self, part: Packed, dtype: mx.Dtype) -> mx.array:
        return mx.dequantize(*_typed(part, dtype), group_size=self.group, bits=self.bits)


def pack(x: mx.array, bits: int, group: int) -> Packed:
    """Pack (…, C). Scales and biases take two bytes each, whatever the type of x is."""
    words, scales, biases = mx.quantize(x, group_size=group, bits=bits)
    half = mx.float16 if x.dtype == mx.float32 else x.dtype
    return words, scales.astype(half), biases.astype(half)


def attend_packed(
    q: mx.array, held: PackedKV, scale: float, mask: mx.array | str | None
) -> mx.array:
    """Queries (B, H, L, C) over packed keys and values -> (B, H, L, C).

    The mask is "causal", or for one token a row (L = 1) also None or booleans (B, 1, 1, S).
    """
    B, H, L, C = q.shape
    rows = (q * scale).reshape(B, held.keys[0].shape[1], -1, C)  # (B, K, G L, C)
    if L == 1:
        mixed = _step(rows, held, mask)
    elif isinstance(mask, str):
        mixed = _tiles(rows, held, L)
    else:
        raise ValueError("packed keys are read by one token a row, or causally")
    return mixed.reshape(B, H, L, C)


def _step(q: mx.array, held: PackedKV, mask: mx.array | str | None) -> mx.array:
    """One token a row: (B, K, G, C), with the packed numbers as they are."""
    bits, group = held.bits, held.group
    keys, values = _typed(held.keys, q.dtype), _typed(held.values, q.dtype)
    scores = mx.quantized_matmul(q, *keys, transpose=True, group_size=group, bits=bits)
    if isinstance(mask, mx.array):
        scores = mx.where(mask, scores, -mx.inf)
    p = mx.softmax(scores, axis=-1, precise=True)
    return mx.quantized_matmul(p, *values, transpose=False, group_size=group, bits=bits)


def _tiles(q: mx.array, held: PackedKV, L: int) -> mx.array:
    """The last L positions look back: (B, K, G L, C), tile by tile."""
    B, K, rows, _ = q.shape
    S, length = held.length, tile_length(B * K * rows)
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    most = mx.full((B, K, rows, 1), -mx.inf)
    total, mixed = mx.zeros_like(most), mx.zeros(q.shape)
    for start in range(0, S, length):
        end = min(start + length, S)
        k, v = held.tile(start, end, q.dtype, [mixed, total])
        scores = (q @ k.swapaxes(-1, -2)).astype(mx.float32)  # (B, K, G L, T)
        if end > S - L + 1:
            seen = mx.arange(start, end) <= mx.arange(S - L, S)[:, None]  # (L, T)
            by_token = scores.reshape(B, K, -1, L, end - start)
            scores = mx.where(seen, by_token, -mx.inf).reshape(scores.shape)
        higher = mx.maximum(most, scores.max(axis=-1, keepdims=True))
        p, fade, most = mx.exp(scores - higher), mx.exp(most - higher), higher
        total = total * fade + p.sum(axis=-1, keepdims=True)
        mixed = mixed * fade + p.astype(q.dtype) @ v
        if on_cpu:
            mx.eval(most, total, mixed)
    return (mixed / total).astype(q.dtype)


def _typed(part: Packed, dtype: mx.Dtype) -> Packed:
    words, scales, biases = part
    return words, scales.astype(dtype), biases.astype(dtype)
