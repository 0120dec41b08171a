"""Decode steps with everything between two cache writes compiled as one unit.

A decode step of a small matrix-vector model is bound by the host: by the number of calls
that Python makes and of kernels that are launched. Attention looks at a cache that grows, so
it cannot be compiled once for all; what lies between the attention of one layer and that of
the next has the same shapes at every step, and is:

    o_proj, residual, norm, MLP, residual  |  next layer: norm, qkv, QK-norm, RoPE

Compiling fuses elementwise chains and replays the rest without Python. The arithmetic stays
the same. On Linux the fused chains go through a C++ compiler, about 0.7 s for each new one
(cached on disk); without a compiler MLX runs them unfused and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx

from qwen3_mlx.model.attention import KVStore
from qwen3_mlx.model.qwen3 import Block, Qwen3Model

__all__ = ["CompiledStep"]

Arrays = Sequence[mx.array]


class CompiledStep:
    """The same as `model.logits(model.hidden(ids, cache)[:, -1])` for one token a row."""

    def __init__(self, model: Qwen3Model) -> None:
        self._blocks = model.blocks
        pairs = zip(model.blocks, model.blocks[1:], strict=False)
        self._enter: Callable[..., Arrays] = mx.compile(partial(_enter, model))
        self._bridges: list[Callable[..., Arrays]] = [
            _unless_streamed(block, partial(_bridge, block, following))
            for block, following in pairs
        ]
        self._leave: Callable[..., mx.array] = _unless_streamed(
            model.blocks[-1], partial(_leave, model)
        )

    def __call__(self, ids: mx.array, cache: KVStore) -> mx.array:
        """Token ids (B, 1) -> logits (B, V); the cache grows by one position."""
        offset, mask = cache.offset, cache.mask(1)
        if isinstance(offset, int):
            offset = mx.array(offset)  # as a number it would be compiled in
        x, q, k, v = self._enter(ids, offset)
        last = len(self._blocks) - 1
        for layer, block in enumerate(self._blocks):
            keys, values = cache.update(layer, k, v)
            mixed = block.attention.attend(q, keys, values, mask)
            if layer < last:
                x, q, k, v = self._bridges[layer](x, mixed, offset)
        return self._leave(x, mixed)


def _unless_streamed(block: Block, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled, or as it is: a streamed layer looks at values on the way."""
    return function if block.streamed else mx.compile(function)


def _enter(model: Qwen3Model, ids: mx.array, offset: mx.array) -> Arrays:
    x = model.embedding.rows(ids)
    return (x, *model.blocks[0].before(x, offset))


def _bridge(
    block: Block, following: Block, x: mx.array, mixed: mx.array, offset: mx.array
) -> Arrays:
    x = block.after(x, mixed)
    return (x, *following.before(x, offset))


def _leave(model: Qwen3Model, x: mx.array, mixed: mx.array) -> mx.array:
    return model.logits(model.blocks[-1].after(x, mixed)[:, -1])
