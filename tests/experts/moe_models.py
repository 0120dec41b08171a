"""Small MoE models for tests of streaming, and the logits of a model as the tests compare them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from checkpoints import write_checkpoint

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.pool import ExpertPool
from qwen3_mlx.loading import open_pool, open_weights, read_weights, sizes_of
from qwen3_mlx.memory import make_plan
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.streaming import Keeper

__all__ = ["SHAPE", "decode_logits", "make_model", "streamed"]

#: 24 experts of which 6 run, so that below top-k, top-k, 9, 16 and half are all different.
SHAPE = {"num_experts": 24, "num_experts_per_tok": 6, "num_hidden_layers": 3}


def make_model(path: Path, *, dtype: str = "F32", **changes: Any) -> Path:
    """A random Hugging Face checkpoint with experts."""
    return write_checkpoint(path, moe=True, dtype=dtype, **(SHAPE | changes))


@contextmanager
def streamed(
    folder: Path, slots: int, *, dtype: str | None = None, scratch: int = 6, **options: Any
) -> Iterator[tuple[Qwen3Model, ExpertPool]]:
    """A model with this many slots in each layer."""
    parts = open_weights(folder)
    plan = make_plan(parts.config, sizes_of(parts, dtype), None, 512, slots=slots)
    pool = open_pool(parts, replace(plan, scratch=scratch), PoolOptions(**options), dtype)
    try:
        yield read_weights(parts, dtype, pool=pool), pool
    finally:
        pool.close()


def resident(folder: Path, dtype: str | None = None) -> Qwen3Model:
    """The same model with all its experts in memory."""
    keeper = Keeper(open_weights(folder), dtype)  # of records, all of them
    return keeper.read(lambda nbytes: None)


def decode_logits(
    model: Qwen3Model, prompt: list[int], steps: int, chunk: int = 512
) -> np.ndarray[Any, Any]:
    """Logits (1 + steps, V) after the prompt and after each greedily decoded token."""
    cache = KVCache(model.config)
    for start in range(0, len(prompt), chunk):
        hidden = model.hidden(mx.array([prompt[start : start + chunk]]), cache)
        mx.eval(cache.arrays())
    rows = [model.logits(hidden[:, -1])]
    for _ in range(steps):
        ids = mx.argmax(rows[-1], axis=-1)[:, None]
        rows.append(model.logits(model.hidden(ids, cache)[:, -1]))
        mx.eval(rows[-1])
    return np.array(mx.concatenate(rows).astype(mx.float32))
