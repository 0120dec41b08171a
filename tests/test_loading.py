"""What the headers of a folder say about its model, before a weight is read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from checkpoints import write_checkpoint

import qwen3_mlx
from qwen3_mlx import loading
from qwen3_mlx.checkpoint import Checkpoint, open_checkpoint
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.loading import open_weights, sizes_of
from qwen3_mlx.memory import make_plan


@pytest.mark.parametrize(
    ("device", "head_dim", "fused"),
    [("gpu", 128, True), ("gpu", 64, True), ("gpu", 80, True), ("gpu", 32, False),
     ("gpu", 96, False), ("cpu", 128, False)],
)  # fmt: skip
def test_scores_are_stored_where_no_kernel_fuses_them(
    device: str, head_dim: int, fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metal is played: whatever asks for the device hears of a GPU."""
    weights = open_weights(
        write_checkpoint(tmp_path / "model", dtype="F32", head_dim=head_dim, num_hidden_layers=1)
    )
    on_device = SimpleNamespace(type=getattr(mx.DeviceType, device))
    monkeypatch.setattr(mx, "default_device", lambda: on_device)
    sizes = sizes_of(weights)
    assert sizes.fused_attention is fused
    work = make_plan(weights.config, sizes, None, 4096).workspace_bytes
    scores = 2 * 4 * 512 * 4096 * 4  # with their softmax, of a chunk and 4 heads, float32
    assert (work > scores) is not fused


def test_a_folder_that_changes_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened_and_gone(folder: Path) -> Checkpoint:
        found = open_checkpoint(folder)
        (folder / "model.safetensors").unlink()
        return found

    write_checkpoint(tmp_path / "model", dtype="F32")
    monkeypatch.setattr("qwen3_mlx.loading.open_checkpoint", opened_and_gone)
    with pytest.raises(CheckpointError, match=r"safetensors was there .* load it again"):
        open_weights(tmp_path / "model")


def test_a_disk_that_fails_while_weights_are_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLX reads when a tensor is evaluated, and knows one kind of error."""
    folder = write_checkpoint(tmp_path / "model", dtype="F32", tokenizer=True)

    def fails(*_: object) -> object:
        raise RuntimeError("[read] Unable to read from file.")

    monkeypatch.setattr(loading, "build_model", fails)
    with pytest.raises(CheckpointError, match=r"could not be read .*: check the disk"):
        qwen3_mlx.load(str(folder))
