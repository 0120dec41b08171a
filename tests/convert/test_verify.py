"""`verify` names the file that is not as it was written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx.errors import CheckpointError
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert
from qwen3_mlx_convert.packing import pack_folder, unpack_folder
from qwen3_mlx_convert.verify import HASHES, Verified, verify, write_hashes
from tests.checkpoints import write_checkpoint
from tests.hub_stand_in import LARGE, oid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = write_checkpoint(tmp_path / "source", moe=True, num_hidden_layers=1)
    convert(source, tmp_path / "out", bits=4)
    return tmp_path / "out"


def test_a_folder_as_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder) == Verified(5)
    assert main(["verify", str(folder)]) == 0
    assert "5 files are as they were written" in capsys.readouterr().out


def _flip(path: Path, place: int = -9) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
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
        (lambda f: (f / "sha256.json").write_text('{"files": {}}'), "lists no files"),
        (
            lambda f: _edit(f / "sha256.json", lambda v: v["files"].pop("model.safetensors")),
            "model.safetensors in .* could not be checked",
        ),
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


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_what_nobody_wrote_down_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / ".DS_Store").write_bytes(b"the system's")
    assert verify(folder) == Verified(5, unchecked=("notes.txt",))
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("no digest of it is known: notes.txt\n")


# Records.


@pytest.fixture(params=["pack", "convert"])
def records(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Path:
    """A folder of records, made in each of the two ways."""
    if request.param == "pack":
        pack_folder(folder, tmp_path / "records")
    else:
        convert(tmp_path / "source", tmp_path / "records", bits=4, layout="records", verify=True)
    return tmp_path / "records"


def test_records_as_written(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(records) == Verified(7, 8)
    for command in (["verify"], ["pack", "--verify"]):
        assert main([*command, str(records)]) == 0
        assert "7 files and 8 records are as they were written" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["verify"], ["pack", "--verify"]])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.safetensors", -9),
        ("experts/layer-000.bin", 0),
        ("experts/layer-000.bin", -1),  # the padding too
        ("experts.json", -200),
        ("config.json", -9),
        ("README.md", -9),
    ],
)
def test_a_bit_of_records(
    records: Path, name: str, place: int, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _flip(records / name, place)
    assert main([*command, str(records)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"qwen3-mlx: {name} in ") or f"/{name} " in error
    assert "Traceback" not in error


def test_a_file_of_experts_that_is_missing(records: Path) -> None:
    (records / "experts" / "layer-000.bin").unlink()
    with pytest.raises(CheckpointError, match=r"experts/layer-000.bin is missing"):
        verify(records)


def _of_an_older_version(records: Path, stacked: Path | None) -> None:
    """As `pack` and `convert` made them before: sha256.json is the stacked folder's, or none."""
    _edit(records / "experts.json", lambda value: value["source"].pop("hashes"))
    (records / HASHES).unlink()
    if stacked is not None:
        (records / HASHES).write_bytes((stacked / HASHES).read_bytes())


def test_an_older_pack_is_proven_by_what_it_came_from(folder: Path, tmp_path: Path) -> None:
    records = pack_folder(folder, tmp_path / "records").target
    _of_an_older_version(records, folder)
    left = ("experts.json", "model.safetensors.index.json")
    assert verify(records) == Verified(5, 8, left)
    unpack_folder(records, tmp_path / "again")
    assert (tmp_path / "again" / HASHES).read_bytes() == (folder / HASHES).read_bytes()
    assert verify(tmp_path / "again") == Verified(5)
    for name, words in (
        ("model.safetensors", "model.safetensors or experts.json in .* is not as it was written"),
        ("experts/layer-000.bin", "expert 0 of layer 0 has the checksum .*layer-000.bin"),
    ):
        _flip(records / name, 0 if "experts" in name else -9)
        with pytest.raises(CheckpointError, match=words):
            verify(records)
        assert main(["verify", str(records)]) == 2
        _flip(records / name, 0 if "experts" in name else -9)


def test_an_older_conversion_says_what_is_not_known(tmp_path: Path, folder: Path) -> None:
    records = tmp_path / "records"
    convert(tmp_path / "source", records, bits=4, layout="records")
    _of_an_older_version(records, None)
    with pytest.raises(CheckpointError, match=r"model.safetensors in .* could not be checked, .*"
                       r"of README.md, config.json, .*; the rest is as it was"):  # fmt: skip
        verify(records)
    assert main(["pack", "--verify", str(records)]) == 2
    unpack_folder(records, tmp_path / "again")
    assert not (tmp_path / "again" / HASHES).exists()  # what was not checked is not vouched for
    _flip(records / "experts" / "layer-000.bin", 0)
    with pytest.raises(CheckpointError, match="expert 0 of layer 0 has the checksum"):
        verify(records)


def test_what_is_taken_over_is_what_the_bytes_have(folder: Path, tmp_path: Path) -> None:
    records = pack_folder(folder, tmp_path / "records").target
    before = (records / HASHES).read_bytes()
    write_hashes(records)
    assert (records / HASHES).read_bytes() == before


def test_a_download_of_records(folder: Path, tmp_path: Path) -> None:
    """Links to blobs, also where a file lies in a folder of the snapshot."""
    records = pack_folder(folder, tmp_path / "records").target
    (records / HASHES).unlink()
    (tmp_path / "blobs").mkdir()
    for path in [each for each in records.rglob("*") if each.is_file()]:
        blob = tmp_path / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        path.symlink_to(blob)
    assert verify(records) == Verified(7, 8)
    _flip(records / "experts" / "layer-000.bin")
    with pytest.raises(CheckpointError, match=r"layer-000.bin in .* another SHA-256"):
        verify(records)


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
    assert verify(snapshot) == Verified(6)
    for name, kind in (("model.safetensors", "SHA-256"), ("generation_config.json", "SHA-1")):
        before = (snapshot / name).read_bytes()
        _flip(snapshot / name)
        with pytest.raises(CheckpointError, match=f"{name} in .* another {kind}"):
            verify(snapshot)
        (snapshot / name).write_bytes(before)
    assert main(["verify", str(snapshot)]) == 0
