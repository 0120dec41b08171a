"""`convert --dry-run` of a model that is not here: a forecast from the catalogue, no download."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoints import write_checkpoint
from hub_stand_in import Server, stand_in

from qwen3_mlx import hub
from qwen3_mlx.catalogue import Entry
from qwen3_mlx.errors import OutputExistsError
from qwen3_mlx.loading import open_weights
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import absent
from qwen3_mlx_convert.absent import known, preview_absent
from qwen3_mlx_convert.pipeline import preview
from qwen3_mlx_convert.quantize import Recipe


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub that keeps what it is asked for, and folders in which nothing is."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with stand_in({}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def _nothing_happened(server: Server, tmp_path: Path) -> bool:
    left = [path for path in tmp_path.rglob("*") if path.name != "here"]
    return server.requests == [] and left == []


def _disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(absent.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


@pytest.mark.parametrize(
    ("words", "weights", "target", "reads", "writes"),
    [
        (["30b-a3b"], "30,532,122,624", "Qwen3-30B-A3B-q4", "61.1 GB", "17.5 GB"),
        (["Qwen/Qwen3-30B-A3B"], "30,532,122,624", "Qwen3-30B-A3B-q4", "61.1 GB", "17.5 GB"),
        (["4b", "--q8", "-o", "to"], "4,022,468,096", "to", "8.0 GB", "4.3 GB"),
        (["0.6b-base", "--bf16"], "596,049,920", "Qwen3-0.6B-Base-bf16", "1.2 GB", "1.2 GB"),
    ],
)
def test_a_forecast_without_a_download(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    weights: str,
    target: str,
    reads: str,
    writes: str,
) -> None:
    _disk(monkeypatch, 10**12)
    assert main(["convert", *words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"tensors of {weights} weights into {target}\n" in out
    assert f"reads {reads}, writes {writes}; 1,000.0 GB free, enough\n" in out
    assert "peak memory about" in out
    cache = tmp_path / "hf" / "hub"
    assert out.splitlines()[-1] == (
        f"it is not here: without --dry-run {reads} of weights are downloaded first, into "
        f"{cache}; 1,000.0 GB free, enough for both"
    )
    assert _nothing_happened(server, tmp_path)


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("moe", [False, True])
def test_it_is_the_forecast_of_the_model_that_is_here(
    tmp_path: Path, moe: bool, calibrate: bool
) -> None:
    folder = write_checkpoint(tmp_path / "model", moe=moe, tied=not moe)
    entry = Entry("x", "org/x", "hybrid", open_weights(folder).config)
    recipe, target = Recipe(4, spend=0.08), Path("to")
    expected = preview(folder, target, recipe, calibrate=calibrate)
    found = preview_absent(entry, target, recipe, calibrate).forecast
    assert replace(found, free_bytes=0) == replace(expected, free_bytes=0)


def test_what_is_not_known_is_to_be_pulled_first(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "org/model", "--dry-run"]) == 2
    assert "org/model is not here" in (said := capsys.readouterr().err)
    assert "pull it first, `qwen3-mlx pull org/model`" in said
    assert _nothing_happened(server, tmp_path)


def test_room_for_both_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _disk(monkeypatch, 70 * 10**9)
    assert main(["convert", "30b-a3b", "--dry-run"]) == 2
    assert "70.0 GB free, not enough for both" in capsys.readouterr().out
    other = replace(preview_absent(known("30b-a3b"), Path("to"), Recipe(4)), same_disk=False)
    assert other.fits
    assert other.words.endswith("70.0 GB free, enough")
    assert not replace(other, free_bytes=60 * 10**9).fits


def test_what_is_here_of_a_download_is_not_downloaded_again() -> None:
    repo = hub.cache_dir() / "models--Qwen--Qwen3-4B"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / "abc").write_bytes(bytes(1000))
    note = {"files": {"abc": 1000, "def": 7000}}
    (repo / "qwen3-mlx-pull.json").write_text(json.dumps(note))
    assert preview_absent(known("4b"), Path("to"), Recipe(4)).download_bytes == 7000


def test_a_target_that_is_there_is_refused() -> None:
    Path("Qwen3-4B-q4").mkdir()
    with pytest.raises(OutputExistsError):
        preview_absent(known("4b"), Path("Qwen3-4B-q4"), Recipe(4))
    assert main(["convert", "4b", "--dry-run"]) == 2
