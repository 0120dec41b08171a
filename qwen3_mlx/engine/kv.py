"""The keys and values of one text or of a batch of texts, for all layers.

Rows of a batch end at the same buffer position, so that one write appends to all of them.
A shorter text starts later: its first `pad` positions are filler that the mask hides.

    row 0   . . . a b c d
    row 1   e f g h i j k      pads = [3, 0], length = 7
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import mlx.core as mx

from qwen3_mlx.model.config import ModelConfig

__all__ = ["KVCache", "Layers"]

#: Keys and values (B, K, S, C) of each layer.
Layers: TypeAlias = list[tuple[mx.array, mx.array]]


class KVCache:
    """Keys and values, growing in steps so that appending rarely copies.

    Each layer holds two buffers (B, K, capacity, C). New tokens are written in place; only
    every `step` tokens larger buffers are made and the old ones copied.
    """

    def __init__(self, config: ModelConfig, step: int = 256) -> None:
        self._config, self._step = config, step
        self._buffers: list[tuple[mx.array, mx.array] | None] = [None] * config.layers
        self.length = 0
        self.pads = [0]
        self._starts: mx.array | None = None  # pads on the device, where there are any

    @classmethod
    def of(
        cls, config: ModelConfig, pieces: Sequence[Layers], length: int, room: int, step: int = 256
    ) -> KVCache:
        """A cache of one row put together from consecutive pieces, with `room` positions."""
        made = cls(config, step)
        capacity = -(-max(room, length) // step) * step
        for layer in range(config.layers):
            joined = []
            for side in (0, 1):
                parts = [piece[layer][side] for piece in pieces]
                B, K, _, C = parts[0].shape
                joined.append(
                    mx.concatenate(
                        [*parts, mx.zeros((B, K, capacity - length, C), parts[0].dtype)], axis=2
                    )
                )
            made._buffers[layer] = (joined[0], joined[1])
        made.length = length
        return made

    def piece(self, start: int, end: int) -> Layers:
        """The positions from start to end of one row, copied."""
        return [
            (mx.contiguous(k[:, :, start:end]), mx.contiguous(v[:, :, start:end]))
            for k, v in self._filled()
        ]

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one position of one row, all layers together."""
        return sum(array[0, :, :1].nbytes for array in self.arrays())

    @property
    def offset(self) -> int | mx.array:
        """The position of the next token, by row (B,) where rows differ."""
        return self.length if self._starts is None else self.length - self._starts

    def mask(self, length: int) -> mx.array | str | None:
        """What `length` new tokens may see: all before themselves, fillers excepted."""
        if self._starts is None:
            return None if length == 1 else "causal"
        if length != 1:
            raise ValueError("a padded batch decodes one token at a time")
        return (mx.arange(self.length + 1) >= self._starts[:, None])[:, None, None]

    def update(self, layer: int, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append (B, K, L, C) to a layer; all of it so far, (B, K, S, C). Layers go in order."""
        start, end = self.length, self.length + keys.shape[2]
        held_keys, held_values = self._room(layer, end, keys)
        held_keys[:, :, start:end] = keys
        held_values[:, :, start:end] = values
        if layer == self._config.layers - 1:
            self.length = end
        return held_keys[:, :, :end], held_values[:, :, :end]

    def trim(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        self.length = min(self.length, length)

    def arrays(self) -> list[mx.array]:
        """The buffers, for evaluation and for counting bytes."""
        return [array for pair in self._buffers if pair is not None for array in pair]

    def keep(self, rows: Sequence[int]) -> KVCache:
        """A cache of these rows only, without the fillers that none of them needs."""
        skip = min(self.pads[row] for row in rows)
        index = mx.array(list(rows))
        kept = self._like([self.pads[row] - skip for row in rows], self.length - skip)
        kept._buffers = [
            (k[index, :, skip : self.length], v[index, :, skip : self.length])
            for k, v in self._filled()
        ]
        return kept

    def join(self, other: KVCache) -> KVCache:
        """A cache of this one's rows followed by the other's, the shorter ones padded."""
        length = max(self.length, other.length)
        pads = [pad + length - one.length for one in (self, other) for pad in one.pads]
        joined = self._like(pads, length)
        joined._buffers = [
            (_stack(k, other_k, length), _stack(v, other_v, length))
            for (k, v), (other_k, other_v) in zip(self._filled(), other._filled(), strict=True)
        ]
        return joined

    def _like(self, pads: list[int], length: int) -> KVCache:
        made = KVCache(self._config, self._step)
        made.length, made.pads = length, pads
        made._starts = mx.array(pads) if any(pads) else None
        return made

    def _filled(self) -> list[tuple[mx.array, mx.array]]:
        """Each layer's buffers up to the present length."""
        return [
            (pair[0][:, :, : self.length], pair[1][:, :, : self.length])
            for pair in self._buffers
            if pair is not None
        ]

    def _room(self, layer: int, end: int, like: mx.array) -> tuple[mx.array, mx.array]:
        """The layer's buffers, with room for `end` positions."""
        held = self._buffers[layer]
        if held is not None and held[0].shape[2] >= end:
            return held
        capacity = -(-end // self._step) * self._step
        B, K, _, C = like.shape
        grown = mx.zeros((B, K, capacity, C), like.dtype), mx.zeros((B, K, capacity, C), like.dtype)
        if held is not None:
            for new, old in zip(grown, held, strict=True):
                new[:, :, : self.length] = old[:, :, : self.length]
        self._buffers[layer] = grown
        return grown


def _stack(first: mx.array, second: mx.array, length: int) -> mx.array:
    """Two batches (B, K, S, C) as one of `length` positions, padded at the front."""
    padded = [
        mx.pad(array, [(0, 0), (0, 0), (length - array.shape[2], 0), (0, 0)])
        for array in (first, second)
    ]
    return mx.concatenate(padded)
