"""`qwen3-mlx models`: the table and its JSON."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx import hub
from qwen3_mlx_app import models_command
from tests.checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    models_command.add_parser(parser.add_subparsers())
    return models_command.run(parser.parse_args(["models", *words]))


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run() == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("30b-a3b "))
    for cell in ("30.5 B, 3.4 B active", "17.5 GB", "98 KB", "40,960", "Qwen/Qwen3-30B-A3B"):
        assert cell in row
    assert "No other model is on this machine" in out


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert _run("--json") == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


@pytest.mark.parametrize(
    ("name", "encoding", "shown"),
    [(b"mod\xc3\xa8le-\xe4\xb8\xad", "latin-1", b"mod\xe8le-\\u4e2d"),
     (b"mod\xffle", "utf-8:strict", b"mod\\udcffle")],
)  # fmt: skip
def test_names_that_the_terminal_cannot_say(name: bytes, encoding: str, shown: bytes) -> None:
    folder = write_checkpoint(hub.models_dir() / "plain")
    try:
        os.rename(folder, os.fsencode(folder.parent) + b"/" + name)
    except OSError:
        pytest.skip("the disks of a Mac take names in UTF-8 only")
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_mlx_app.cli", "models"], capture_output=True, check=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert shown in done.stdout
    assert done.stderr == b""


def test_json_has_exact_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    known = {model["name"]: model for model in _json(capsys)["known"]}
    assert known["0.6b"] == {
        "name": "0.6b",
        "hub_id": "Qwen/Qwen3-0.6B",
        "family": "hybrid",
        "total_params": 596_049_920,
        "active_params": 596_049_920,
        "layers": 28,
        "q4_bytes": 362_110_976,
        "kv_bytes_per_token": 114_688,
        "context": 40_960,
        "verdict": "fits",
    }


def test_local_models(capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    broken = write_checkpoint(hub.models_dir() / "broken")
    (broken / "model.safetensors").unlink()
    first, second = _json(capsys)["local"]
    assert first["name"] == "Qwen3-4B-q4"
    assert first["path"] == str(whole)
    assert first["weight_bytes"] == 2 * first["total_params"]
    assert first["bits"] is None
    assert "finish the download" in second["error"]
    _run()
    out = capsys.readouterr().out
    assert "not quantised" in out
    assert "not usable" in out
