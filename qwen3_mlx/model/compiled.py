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
            _compiled(block, partial(_bridge, following)) for block, following in pairs
        ]
        self._leave: Callable[..., mx.array] = _compiled(model.blocks[-1], partial(_leave, model))

    def __call__(self, ids: mx.array, cache: KVStore) -> mx.array:
        """Token ids (B, 1) -> logits (B, V); the cache grows by one position."""
        offset, mask = cache.offset, cache.mask(1)
        if isinstance(offset, int):
            offset = mx.array(offset)  # as a number it would be compiled in
        x, q, k, v = self._enter(ids, offset)
        last = len(self._blocks) - 1
        for layer, block in enumerate(self._blocks):
            mixed = block.attention.attend(q, cache.update(layer, k, v), mask)
            if layer < last:
                x, q, k, v = self._bridges[layer](x, mixed, offset)
        return self._leave(x, mixed, offset)


def _compiled(block: Block, then: Callable[..., Any]) -> Callable[..., Any]:
    """(x, mixed, offset) through the rest of a block and what follows it, as one unit.

    A streamed layer looks at its router's choice on the way, to read experts. It becomes two
    units, one on either side of that.
    """
    if not block.streamed:
        return mx.compile(lambda x, mixed, offset: then(block.after(x, mixed), offset))
    begin = mx.compile(block.choose)
    end = mx.compile(lambda h, out, weights, offset: then(block.combine(h, out, weights), offset))

    def run(x: mx.array, mixed: mx.array, offset: mx.array) -> Any:
        h, tokens, chosen, weights = begin(x, mixed)
        return end(h, block.experts(tokens, chosen, decoding=True), weights, offset)

    return run


def _enter(model: Qwen3Model, ids: mx.array, offset: mx.array) -> Arrays:
    x = model.embedding.rows(ids)
    return (x, *model.blocks[0].before(x, offset))


def _bridge(following: Block, x: mx.array, offset: mx.array) -> Arrays:
    return (x, *following.before(x, offset))


def _leave(model: Qwen3Model, x: mx.array, offset: mx.array) -> mx.array:
    return model.logits(x[:, -1])
