"""Looking inside keeps to what a prompt keeps to: chunks, the memory limit and the context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from model.running import TOLERANCE, load, prefill

import qwen3_mlx
from qwen3_mlx import PromptError, Qwen3
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.experts.routing import routed

IDS = [(7 * n + n // 9) % 300 for n in range(75)]
LOOKS: list[Callable[[Qwen3, list[int]], np.ndarray[Any, Any]]] = [Qwen3.logits, Qwen3.routing]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("looking") / "model"
    return write_checkpoint(place, moe=True, dtype="F32", tokenizer=True)


def test_chunks_change_nothing(folder: Path) -> None:
    whole = load(folder)
    chosen = routed(whole, [IDS], KVCache(whole.config))
    with qwen3_mlx.load(str(folder), slots=3, experts={"chunk": 16}) as model:
        logits, served = model.logits(IDS), model.routing(IDS)

    assert (logits.shape, logits.dtype) == ((len(IDS), 320), np.float32)
    assert np.abs(logits - prefill(whole, IDS)).max() <= TOLERANCE
    assert served.shape == (3, len(IDS), 8)
    assert (served == chosen).all()


@pytest.mark.parametrize("look", LOOKS)
def test_a_long_text_stays_below_the_limit(
    folder: Path, look: Callable[[Qwen3, list[int]], np.ndarray[Any, Any]]
) -> None:
    with qwen3_mlx.load(str(folder), memory_limit="12MB", context=768) as model:
        assert model.plan is not None
        engine = model._engine
        engine.call(mx.clear_cache)
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        look(model, [5] * 768)
        grown, work = mx.get_peak_memory() - before, model.plan
    assert grown <= work.kv_bytes + work.workspace_bytes + work.scratch_bytes + work.slots_bytes


@pytest.mark.parametrize("look", LOOKS)
def test_more_than_the_context_is_refused(
    folder: Path, look: Callable[[Qwen3, list[int]], np.ndarray[Any, Any]]
) -> None:
    with qwen3_mlx.load(str(folder), context=64) as model:
        assert look(model, [5] * 64).shape[-2] == 64
        with pytest.raises(PromptError, match=r"there are 65 token ids .* holds 64: look at fewer"):
            look(model, [5] * 65)
