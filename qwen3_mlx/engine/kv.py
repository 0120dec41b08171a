"""The keys and values of one text or of a batch of texts, for all layers.

Rows of a batch end at the same buffer position, so that one write appends to all of them.
A shorter text starts later: its first `pad` positions are filler that the mask hides.

    row 0   . . . a b c d
    row 1   e f g h i j k      pads = [3, 0], length = 7
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from qwen3_mlx.model.config import ModelConfig

__all__ = ["KVCache"]


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
