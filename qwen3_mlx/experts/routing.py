"""Which experts a model chooses for each token of a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import mlx.core as mx
import numpy as np

from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.attention import KVStore
from qwen3_mlx.model.moe import Experts, MoE
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["routed"]


class _Watched:
    """Experts that keep what they were asked for; the numbers stay the same."""

    def __init__(self, experts: Experts, seen: list[mx.array]) -> None:
        self._experts, self._seen = experts, seen

    @property
    def streamed(self) -> bool:
        return self._experts.streamed

    def __call__(self, x: mx.array, chosen: mx.array, *, decoding: bool = False) -> mx.array:
        self._seen.append(chosen)
        return self._experts(x, chosen, decoding=decoding)

    def arrays(self) -> list[mx.array]:
        return self._experts.arrays()


def routed(model: Qwen3Model, chunks: Iterable[Sequence[int]], cache: KVStore) -> np.ndarray:
    """True where a token is served by an expert: (layers, L, E), the MoE layers in order.

    On the thread that owns the model; the text comes in chunks that are read one after another.
    The cache must be empty, and is filled with the text.

    Raises:
        OptionError: the model has no experts.
    """
    if not any(isinstance(block.mlp, MoE) for block in model.blocks):
        raise OptionError("this model is dense: it has no experts to look at")
    seen: list[mx.array] = []
    parts = []
    with _watching(model, seen):
        for chunk in chunks:
            mx.eval(model.hidden(mx.array([list(chunk)]), cache), seen)
            parts.append(_served(seen, model.config.experts))
            seen.clear()
    return np.concatenate(parts, axis=1)


def _served(chosen: list[mx.array], experts: int) -> np.ndarray:
    """The choices of each layer, (L, T), as booleans (layers, L, E)."""
    numbers = np.stack([np.array(layer) for layer in chosen]).astype(np.int64)
    served = np.zeros((*numbers.shape[:2], experts), dtype=bool)
    np.put_along_axis(served, numbers, True, axis=-1)
    return served


@contextmanager
def _watching(model: Qwen3Model, seen: list[mx.array]) -> Iterator[None]:
    layers = [block.mlp for block in model.blocks if isinstance(block.mlp, MoE)]
    kept = [layer.experts for layer in layers]
    try:
        for layer in layers:
            layer.experts = _Watched(layer.experts, seen)
        yield
    finally:
        for layer, experts in zip(layers, kept, strict=True):
            layer.experts = experts
