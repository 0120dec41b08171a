"""Compiled and plain steps, joined and separate projections: the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from model.running import load

from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.model import weights as weights_module
from qwen3_mlx.model.compiled import CompiledStep
from qwen3_mlx.model.config import Quantization
from qwen3_mlx.model.linear import Linear, QuantizedLinear, SeparateLinears

PROMPT = [(7 * n) % 300 for n in range(20)]


def step_logits(folder: Path, compiled: bool, dtype: mx.Dtype | None = None) -> np.ndarray:
    """Logits of eight decode steps after a prompt."""
    model = load(folder, dtype)
    cache = KVCache(model.config)
    model.hidden(mx.array([PROMPT]), cache)
    step = CompiledStep(model)
    rows = []
    for token in range(8):
        ids = mx.array([[token]])
        row = step(ids, cache) if compiled else model.logits(model.hidden(ids, cache)[:, -1])
        rows.append(row.astype(mx.float32))
    return np.array(mx.concatenate(rows))


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("moe", [False, True])
def test_compiled_steps_are_bit_equal(moe: bool, dtype: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", moe=moe, dtype=dtype)
    assert (step_logits(folder, True) == step_logits(folder, False)).all()


def test_without_a_compiler_the_results_are_the_same(tmp_path: Path) -> None:
    """On a PATH without g++ MLX falls back to unfused kernels."""
    folder = write_checkpoint(tmp_path / "model", moe=True, dtype="F32")
    np.save(tmp_path / "here.npy", step_logits(folder, True))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import numpy as np; from pathlib import Path;"
        "from model.test_compiled import step_logits; folder = Path(sys.argv[2]);"
        "there = step_logits(folder / 'model', True);"
        "assert (there == np.load(folder / 'here.npy')).all()"
    )
    environment = os.environ | {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, tests, str(tmp_path)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("moe", [False, True])
def test_joined_projections_are_bit_equal_to_separate_ones(
    moe: bool, quantised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "model", moe=moe, dtype="F32")
    if quantised:
        from qwen3_mlx_convert import convert

        convert(folder, tmp_path / "q4", bits=4)
        folder = tmp_path / "q4"
    joined = step_logits(folder, False, mx.float32)
    monkeypatch.setattr(weights_module, "join", SeparateLinears)
    monkeypatch.setattr(weights_module, "join_experts", lambda gate, up: None)

    # Rows of a quantised product are computed one by one; a plain product may be blocked
    # differently for another number of rows.
    difference = np.abs(joined - step_logits(folder, False, mx.float32)).max()
    assert difference == 0 if quantised else difference <= 1e-5


def test_loading_holds_no_layer_twice(tmp_path: Path) -> None:
    """Peak memory of loading: the weights and at most the largest layer once more."""
    folder = write_checkpoint(tmp_path / "model", moe=True, dtype="F32", num_hidden_layers=12)
    total = open_checkpoint(folder).weight_bytes
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    model = load(folder)
    peak = mx.get_peak_memory() - before

    assert sum(array.nbytes for array in model.arrays()) >= total
    assert peak <= total * (1 + 3 / 12)


@pytest.mark.parametrize("first", [0, 5, 8, 12])
def test_the_tail_of_a_matrix_makes_the_tail_of_its_outputs(first: int) -> None:
    mx.random.seed(3)
    x, parts = mx.random.normal((3, 64)), [mx.random.normal((8, 64)) for _ in range(2)]
    how = Quantization(group_size=32, bits=4)
    packed = [QuantizedLinear(*mx.quantize(part, 32, 4), how) for part in parts]
    for matrix in (Linear(parts[0]), packed[0], SeparateLinears(packed)):
        whole = matrix(x)
        at = first % whole.shape[1]
        assert mx.array_equal(matrix.tail(at)(x), whole[:, at:])


@pytest.mark.parametrize("moe", [False, True])
def test_the_last_position_alone_is_what_it_is_among_all(moe: bool, tmp_path: Path) -> None:
    """Reading a prompt asks for its last row only; what goes into the cache is the same."""
    model = load(write_checkpoint(tmp_path / "model", moe=moe, dtype="F32"))
    whole, short = KVCache(model.config), KVCache(model.config)
    for chunk in (PROMPT, PROMPT[:7]):
        ids = mx.array([chunk])
        every, last = model.hidden(ids, whole), model.hidden(ids, short, last_only=True)
        assert last.shape == (1, 1, model.config.hidden_size)
        assert np.abs(np.array(every[:, -1:] - last)).max() <= 1e-5
    for there, here in zip(whole.arrays(), short.arrays(), strict=True):
        assert (np.array(there) == np.array(here)).all()
