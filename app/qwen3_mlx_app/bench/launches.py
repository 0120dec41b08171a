"""Launches per layer in a decode step, by one rule for both sides.

The graph of a step is exported before it is evaluated. Each of its nodes is a launch unless
it is a pure view; RMSNorm, RoPE, attention and a compiled chain are one each. A layer's
count is the difference between a model of two layers and a model of one.

On a CPU the fast operations are decomposed when they are called, so while the graph is
built a single node takes their place, on a Mac too.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.model.compiled import CompiledStep
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["Launches", "count", "ours", "theirs"]

_VIEWS = frozenset({
    "AsStrided", "Broadcast", "BroadcastAxes", "ExpandDims", "Flatten", "Reshape", "Slice",
    "Split", "Squeeze", "StopGradient", "Transpose", "Unflatten", "View",
})  # fmt: skip
_FAST = "Depends"  # the node that stands in for a fast operation
_NODE = re.compile(r'label ?= ?"([^"]+)", shape=rectangle')
_PROMPT = 8


@dataclass(frozen=True, slots=True)
class Launches:
    """How many launches a layer takes, and of what."""

    total: int
    kinds: dict[str, int]

    @classmethod
    def of_layer(cls, one: Counter[str], two: Counter[str]) -> Launches:
        kinds = {kind: two[kind] - one[kind] for kind in sorted(two) if two[kind] > one[kind]}
        return cls(sum(kinds.values()), kinds)


def count(build: Callable[[], mx.array]) -> Counter[str]:
    """The launches of a graph by kind; `build` makes it and must not evaluate it."""
    with _single_nodes():
        out = build()
    text = io.StringIO()
    mx.export_to_dot(text, out)
    kinds = Counter(kind for kind in _NODE.findall(text.getvalue()) if kind not in _VIEWS)
    kinds["norm, rope, attention"] = kinds.pop(_FAST, 0)
    return kinds


def ours(model: Qwen3Model, *, compiled: bool = True, layer: int = 0) -> Launches:
    """Launches of a layer of ours. To be called on the thread that owns the model."""
    return Launches.of_layer(*(_our_step(model, layer, layers, compiled) for layers in (1, 2)))


def _our_step(model: Qwen3Model, start: int, layers: int, compiled: bool) -> Counter[str]:
    cut = Qwen3Model(
        replace(model.config, layers=layers),
        model.embedding,
        model.blocks[start : start + layers],
        model.final_norm,
        model.head,
    )
    cache = KVCache(cut.config)
    cut.hidden(mx.array([[1] * _PROMPT]), cache)
    mx.eval(cache.arrays())
    ids = mx.array([[1]])

    def build() -> mx.array:
        if compiled:
            return CompiledStep(cut)(ids, cache)
        return cut.logits(cut.hidden(ids, cache)[:, -1])

    return count(build)


def theirs(model: Any) -> Launches:
    """Launches of a layer of an mlx-lm model."""
    return Launches.of_layer(*(_their_step(model, layers) for layers in (1, 2)))


def _their_step(model: Any, layers: int) -> Counter[str]:
    from mlx_lm.models.cache import make_prompt_cache

    whole = model.model.layers
    model.model.layers = whole[:layers]
    try:
        cache = make_prompt_cache(model)
        model(mx.array([[1] * _PROMPT]), cache=cache)
        mx.eval([each.state for each in cache])
        return count(lambda: model(mx.array([[1]]), cache=cache))
    finally:
        model.model.layers = whole


@contextmanager
def _single_nodes() -> Iterator[None]:
    """Let each fast operation be one node that no compiler fuses with its neighbours."""
    names = ("rms_norm", "rope", "scaled_dot_product_attention")
    kept = {name: getattr(mx.fast, name) for name in names}
    try:
        for name in names:
            setattr(mx.fast, name, _one_node)
        yield
    finally:
        for name, function in kept.items():
            setattr(mx.fast, name, function)


def _one_node(x: mx.array, *more: Any, **named: Any) -> mx.array:
    """`x`, as the result of a node with all the array arguments as inputs."""
    arrays = [each for each in (*more, *named.values()) if isinstance(each, mx.array)]
    nodes: list[mx.array] = mx.depends([x], arrays or [x])
    return nodes[0]
