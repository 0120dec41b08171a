"""`verify` names the file that is not as it was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen3_mlx.errors import CheckpointError
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert
from qwen3_mlx_convert.verify import verify
from tests.checkpoints import write_checkpoint
from tests.hub_stand_in import LARGE, oid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = write_checkpoint(tmp_path / "source", moe=True, num_hidden_layers=1)
    convert(source, tmp_path / "out", bits=4)
    return tmp_path / "out"


def test_a_folder_as_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder) == 5
    assert main(["verify", str(folder)]) == 0
    assert "5 files are as they were written" in capsys.readouterr().out


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: _flip(f / "model.safetensors"), "model.safetensors in .* another SHA-256"),
        (lambda f: (f / "README.md").unlink(), "README.md is missing"),
        (lambda f: (f / "README.md").write_text("x"), "README.md in .* has 1 bytes and should"),
        (lambda f: os.truncate(f / "model.safetensors", 9000), "cut short"),
        (lambda f: (f / "sha256.json").unlink(), "has no sha256.json"),
        (lambda f: (f / "sha256.json").write_text('{"files": {"../x": {}}}'), "not in the folder"),
    ],
)
def test_what_is_not(
    folder: Path, damage: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=words):
        verify(folder)
    assert main(["verify", str(folder)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("qwen3-mlx: ")


def test_a_download_is_compared_with_the_names_of_its_blobs(tmp_path: Path) -> None:
    """The cache of the hub: links to blobs, called by SHA-256 or, small ones, as git does."""
    source = write_checkpoint(tmp_path / "source", moe=True, tokenizer=True)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for path in source.iterdir():
        data = path.read_bytes()
        name = hashlib.sha256(data).hexdigest() if len(data) >= LARGE else oid(data)
        path.rename(blobs / name)
        (snapshot / path.name).symlink_to(blobs / name)
    assert verify(snapshot) == 6
    for name, kind in (("model.safetensors", "SHA-256"), ("generation_config.json", "SHA-1")):
        before = (snapshot / name).read_bytes()
        _flip(snapshot / name)
        with pytest.raises(CheckpointError, match=f"{name} in .* another {kind}"):
            verify(snapshot)
        (snapshot / name).write_bytes(before)
    assert main(["verify", str(snapshot)]) == 0
