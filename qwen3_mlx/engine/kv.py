"""The keys and values of one text or of a batch of texts, for all layers.

Rows of a batch end at the same buffer position, so that one write appends to all of them.
A shorter text starts later: its first `pad` positions are filler that the mask hides.

    row 0   . . . a b c d
    row 1   e f g h i j k      pads = [3, 0], length = 7
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import mlx.core as mx

from qwen3_mlx.model.attention import Held
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.packed import PackedKV, pack

__all__ = ["STEP", "KVCache", "Layers", "cut"]

#: Positions by which a cache grows.
STEP = 256

#: The arrays of each layer, all of them (B, K, S, …): keys and values, or packed three of each.
Layers: TypeAlias = list[tuple[mx.array, ...]]


class KVCache:
    """Keys and values, growing in steps so that appending rarely copies.

    Each layer holds two buffers (B, K, capacity, C), or six of packed numbers where the config
    says so. New tokens are written in place; only every `step` tokens larger buffers are made
    and the old ones copied. `room` is for how many positions there is to be place at first.
    """

    def __init__(self, config: ModelConfig, step: int = STEP, room: int = 0) -> None:
        self._config, self._step, self._first_room = config, step, room
        self._buffers: list[tuple[mx.array, ...] | None] = [None] * config.layers
        self.length = 0
        self.pads = [0]
        self._starts: mx.array | None = None  # pads on the device, where there are any

    @classmethod
    def of(
        cls, config: ModelConfig, pieces: Sequence[Layers], length: int, room: int, step: int = STEP
    ) -> KVCache:
        """A cache of one row put together from consecutive pieces, with `room` positions."""
        made = cls(config, step)
        capacity = -(-max(room, length) // step) * step
        for layer in range(config.layers):
            arrays = zip(*(piece[layer] for piece in pieces), strict=True)
            made._buffers[layer] = tuple(
                mx.concatenate([*parts, _empty(parts[0], capacity - length)], axis=2)
                if len(parts) > 1 or capacity > length
                else parts[0]
                for parts in arrays
            )
        made.length = length
        return made

    def piece(self, start: int, end: int) -> Layers:
        """The positions from start to end of one row, copied."""
        return cut(self._filled(), start, end)

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

    def update(self, layer: int, keys: mx.array, values: mx.array) -> Held:
        """Append (B, K, L, C) to a layer; all of it so far, (B, K, S, C). Layers go in order."""
        start, end = self.length, self.length + keys.shape[2]
        bits, group = self._config.kv_bits, self._config.kv_group
        new: tuple[mx.array, ...] = keys, values
        if bits is not None:
            new = (*pack(keys, bits, group), *pack(values, bits, group))
        held = self._room(layer, end, new)
        for buffer, part in zip(held, new, strict=True):
            buffer[:, :, start:end] = part
        if layer == self._config.layers - 1:
            self.length = end
        filled = [buffer[:, :, :end] for buffer in held]
        if bits is None:
            return filled[0], filled[1]
        return PackedKV((filled[0], filled[1], filled[2]), (filled[3], filled[4], filled[5]),
                        bits, group)  # fmt: skip

    def trim(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        self.length = min(self.length, length)

    def arrays(self) -> list[mx.array]:
        """The buffers, for evaluation and for counting bytes."""
        return [array for held in self._buffers if held is not None for array in held]

    def keep(self, rows: Sequence[int]) -> KVCache:
        """A cache of these rows only, without the fillers that none of them needs."""
        skip = min(self.pads[row] for row in rows)
        index = mx.array(list(rows))
        kept = self._like([self.pads[row] - skip for row in rows], self.length - skip)
        kept._buffers = [
            tuple(array[index, :, skip:] for array in arrays) for arrays in self._filled()
        ]
        return kept

    def join(self, other: KVCache) -> KVCache:
        """A cache of this one's rows followed by the other's, the shorter ones padded."""
        length = max(self.length, other.length)
        pads = [pad + length - one.length for one in (self, other) for pad in one.pads]
        joined = self._like(pads, length)
        joined._buffers = [
            tuple(_stack(*pair, length) for pair in zip(mine, others, strict=True))
            for mine, others in zip(self._filled(), other._filled(), strict=True)
        ]
        return joined

    def _like(self, pads: list[int], length: int) -> KVCache:
        made = KVCache(self._config, self._step)
        made.length, made.pads = length, pads
        made._starts = mx.array(pads) if any(pads) else None
        return made

    def _filled(self) -> Layers:
        """Each layer's buffers up to the present length."""
        held = (arrays for arrays in self._buffers if arrays is not None)
        return [tuple(array[:, :, : self.length] for array in arrays) for arrays in held]

    def _room(self, layer: int, end: int, like: Iterable[mx.array]) -> tuple[mx.array, ...]:
        """The layer's buffers, with room for `end` positions."""
        held = self._buffers[layer]
        if held is not None and held[0].shape[2] >= end:
            return held
        capacity = -(-max(end, self._first_room) // self._step) * self._step
        grown = tuple(_empty(array, capacity) for array in like)
        if held is not None:
            for new, old in zip(grown, held, strict=True):
                new[:, :, : self.length] = old[:, :, : self.length]
        self._buffers[layer] = grown
        return grown


def cut(layers: Layers, start: int, end: int) -> Layers:
    """The positions from start to end, copied."""
    return [tuple(mx.contiguous(array[:, :, start:end]) for array in arrays) for arrays in layers]


def _empty(like: mx.array, length: int) -> mx.array:
    """Zeros (B, K, length, …) like an array (B, K, S, …)."""
    B, K, _, C = like.shape
    return mx.zeros((B, K, length, C), like.dtype)


def _stack(first: mx.array, second: mx.array, length: int) -> mx.array:
    """Two batches (B, K, S, C) as one of `length` positions, padded at the front."""
    padded = [
        mx.pad(array, [(0, 0), (0, 0), (length - array.shape[2], 0), (0, 0)])
        for array in (first, second)
    ]
    return mx.concatenate(padded)
