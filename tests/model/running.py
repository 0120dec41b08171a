"""Small models loaded and run without an engine, as tests of the model compare them."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.model.weights import build_model

__all__ = ["TOLERANCE", "greedy", "load", "prefill", "weights"]

TOLERANCE = 2e-5


def weights(folder: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(folder / "model.safetensors"))
    assert isinstance(arrays, dict)
    return arrays


def load(folder: Path, dtype: mx.Dtype | None = None) -> Qwen3Model:
    config = ModelConfig.from_dict(open_checkpoint(folder).config)
    return build_model(config, weights(folder), dtype)


def prefill(model: Qwen3Model, ids: list[int]) -> np.ndarray:
    """Logits (L, V) of a text that is read in one go."""
    hidden = model.hidden(mx.array([ids]), KVCache(model.config))
    return np.array(model.logits(hidden)[0].astype(mx.float32))


def greedy(model: Qwen3Model, ids: list[int], count: int) -> list[int]:
    """The likeliest tokens that follow a text."""
    cache, said, chunk = KVCache(model.config), [], ids
    for _ in range(count):
        logits = model.logits(model.hidden(mx.array([chunk]), cache)[:, -1])
        said.append(int(logits.argmax().item()))
        chunk = said[-1:]
    return said
