"""Our logits against Transformers' (golden arrays, live where PyTorch is) and mlx-lm's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from model.make_golden import CASES, GOLDEN, GREEDY_TOKENS, KEPT_ROWS, prompt, reference
from model.running import TOLERANCE, greedy, load, prefill

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.model.qwen3 import Qwen3Model


def stepwise(model: Qwen3Model, ids: list[int], first: int) -> np.ndarray:
    """Read `first` tokens in one go and the others one by one through the cache."""
    cache, rows = KVCache(model.config, step=16), []
    for chunk in [ids[:first], *([token] for token in ids[first:])]:
        rows.append(model.logits(model.hidden(mx.array([chunk]), cache))[0])
    return np.array(mx.concatenate(rows).astype(mx.float32))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN))


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_equal_transformers(
    case: str, golden: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = load(write_checkpoint(tmp_path / "model", dtype="F32", **CASES[case]))
    ids, expected = prompt(), golden[f"{case}.logits"]

    assert np.abs(prefill(model, ids)[-KEPT_ROWS:] - expected).max() <= TOLERANCE
    cached = stepwise(model, ids, len(ids) - KEPT_ROWS)
    assert np.abs(cached[-KEPT_ROWS:] - expected).max() <= TOLERANCE
    assert greedy(model, ids, GREEDY_TOKENS) == golden[f"{case}.greedy"].tolist()


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: golden arrays only"
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case", ["dense-2x", "dense-4x", "moe-2x", "moe-4x", "moe-sparse-step-2", "moe-tied-dialect-5"]
)
def test_golden_arrays_are_what_transformers_says_today(
    case: str, golden: dict[str, np.ndarray], tmp_path: Path
) -> None:
    logits, said = reference(write_checkpoint(tmp_path / "model", dtype="F32", **CASES[case]))

    assert np.abs(logits[-KEPT_ROWS:] - golden[f"{case}.logits"]).max() <= TOLERANCE
    assert said.tolist() == golden[f"{case}.greedy"].tolist()


# mlx-lm ignores YaRN for MoE and cannot read dialect 5 for MoE: there it is no oracle.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case",
    [name for name in CASES if not name.startswith(("moe-yarn", "moe-tied", "moe-2x", "moe-4x"))],
)
def test_logits_equal_mlx_lm(case: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype="F32", **CASES[case])

    assert np.abs(prefill(load(folder), prompt()) - mlx_lm_logits(folder)).max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("moe", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_logits_equal_mlx_lm(moe: bool, bits: int, tmp_path: Path) -> None:
    from qwen3_mlx_convert import convert

    source = write_checkpoint(tmp_path / "source", dtype="F32", moe=moe)
    convert(source, tmp_path / "quantised", bits=bits)
    folder = tmp_path / "quantised"

    ours = prefill(load(folder, mx.float32), prompt())
    assert np.abs(ours - mlx_lm_logits(folder)).max() <= TOLERANCE


def mlx_lm_logits(folder: Path) -> np.ndarray:
    """mlx-lm's logits for the prompt, computed in float32."""
    from mlx_lm.utils import load_model

    model: Any = load_model(folder)[0]
    model.set_dtype(mx.float32)
    return np.array(model(mx.array([prompt()]))[0])


@pytest.mark.parametrize("moe", [False, True])
def test_bfloat16_is_close_to_float32(moe: bool, tmp_path: Path) -> None:
    """The same bf16 weights in both types of arithmetic: the roundings, and nothing else."""
    folder = write_checkpoint(tmp_path / "model", moe=moe, dtype="BF16")
    exact, rounded = (prefill(load(folder, dtype), prompt()) for dtype in (mx.float32, None))

    # Where two experts are nearly tied, rounding may choose the other one: a wider bound.
    assert np.median(np.abs(exact - rounded)) < (0.06 if moe else 0.02) * exact.std()
