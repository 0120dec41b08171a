"""Which experts a model chooses for each token of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def routed(model: Qwen3Model, ids: Sequence[int], cache: KVStore) -> np.ndarray:
    """True where a token is served by an expert: (layers, L, E), the MoE layers in order.

    On the thread that owns the model; the cache must be empty, and is filled with the text.

    Raises:
        OptionError: the model has no experts.
    """
    seen: list[mx.array] = []
    with _watching(model, seen):
        hidden = model.hidden(mx.array([list(ids)]), cache)
    if not seen:
        raise OptionError("this model is dense: it has no experts to look at")
    mx.eval(hidden, seen)
    chosen = np.stack([np.array(layer) for layer in seen])  # (layers, L, T)
    served = np.zeros((*chosen.shape[:2], model.config.experts), dtype=bool)
    np.put_along_axis(served, chosen.astype(np.int64), True, axis=-1)
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
