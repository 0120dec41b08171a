"""The keys and values of a text, for all layers."""

from __future__ import annotations

import mlx.core as mx

from qwen3_mlx.model.config import ModelConfig

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of one text, growing in steps so that appending rarely copies.

    Each layer holds (1, K, capacity, C) twice. New tokens are written into the buffers in
    place; only every `step` tokens a larger buffer is made and the old one copied.
    """

    def __init__(self, config: ModelConfig, step: int = 256) -> None:
        self._buffers: list[tuple[mx.array, mx.array] | None] = [None] * config.layers
        self._step, self._last = step, config.layers - 1
        self.length = 0

    @property
    def offset(self) -> int:
        """The position of the next token."""
        return self.length

    def mask(self, length: int) -> str | None:
        """A single new token sees everything; several see everything up to themselves."""
        return None if length == 1 else "causal"

    def update(self, layer: int, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append (1, K, L, C) to a layer; all of it so far, (1, K, S, C). Layers go in order."""
        start, end = self.length, self.length + keys.shape[2]
        held_keys, held_values = self._room(layer, end, keys)
        held_keys[:, :, start:end] = keys
        held_values[:, :, start:end] = values
        if layer == self._last:
            self.length = end
        return held_keys[:, :, :end], held_values[:, :, :end]

    def trim(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.length = min(self.length, length)

    def arrays(self) -> list[mx.array]:
        """The buffers, for evaluation and for counting bytes."""
        return [array for pair in self._buffers if pair is not None for array in pair]

    def _room(self, layer: int, end: int, like: mx.array) -> tuple[mx.array, mx.array]:
        """The layer's buffers, with room for `end` tokens."""
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
