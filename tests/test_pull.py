"""`pull`, `rm` and the helper that keeps a Mac awake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_mlx import hub
from qwen3_mlx.awake import keep_awake
from qwen3_mlx_app.cli import main
from tests.checkpoints import write_checkpoint
from tests.hub_stand_in import stand_in


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


def test_two_pulls_at_once_do_the_work_once(home: Path) -> None:
    source = write_checkpoint(home / "source", shards=2)
    command = [sys.executable, "-m", "qwen3_mlx_app.cli", "pull", "org/model"]
    with stand_in({"org/model": source}) as server:
        environment = os.environ | {"HF_ENDPOINT": server.url}
        pulls = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = [pull.communicate(timeout=120)[0] for pull in pulls]
        assert [pull.returncode for pull in pulls] == [0, 0]
        assert answers[0] == answers[1]
        assert sum("/revision/" in request for request in server.requests) == 1


def test_rm(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = write_checkpoint(hub.models_dir() / "other")
    ours = write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    assert main(["rm", "Qwen3-4B-q4"]) == 2
    assert "nothing was deleted" in capsys.readouterr().err
    assert main(["rm", "Qwen3-4B-q4", "--yes"]) == 0
    assert not ours.exists()
    assert kept.exists()
    assert main(["rm", str(kept), "--yes"]) == 2
    assert kept.exists()


def test_caffeinate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = home / "bin" / "caffeinate"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" > {home}/said\nexec sleep 60\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=os.pathsep)
    with keep_awake():
        assert not (home / "said").exists()  # not a Mac
    monkeypatch.setattr(sys, "platform", "darwin")
    with keep_awake():
        while not (home / "said").exists() or not (home / "said").read_text():
            pass
    assert (home / "said").read_text() == f"-i -w {os.getpid()}\n"
