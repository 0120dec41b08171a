"""`qwen3-mlx bench experts`: what it refuses, and what it says. No test asserts a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint

from qwen3_mlx.machines import Machine
from qwen3_mlx_app.bench import experts
from qwen3_mlx_app.cli import main

FEW = ["--tokens", "3", "--rounds", "2", "--prompt", "4", "--dtype", "float32"]


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("experts") / "moe"
    return str(write_checkpoint(folder, moe=True, dtype="F32"))


def _measured(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["bench", *words, "--json"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_what_does_not_fit_a_mac_is_not_loaded(
    moe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """macOS says nothing of free memory, and then the machine's own measure holds."""
    small = Machine("Apple M2", 2 * 10**6, 10**6, 1e11, here=True)
    monkeypatch.setattr("qwen3_mlx.machines.this_machine", lambda: small)
    assert main(["bench", "experts", "-m", moe, "--slots", "4", *FEW]) == 0
    assert "resident   not measured: it does not fit" in capsys.readouterr().out

    def no_such_file(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", no_such_file)
    assert experts._free_bytes() <= 10**6


def test_flags_before_the_word_count_as_well(moe: str, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--tokens", "3", "--prompt", "4"]
    found = _measured(capsys, "-m", moe, "--rounds", "2", "experts", "--slots", "4", *few)
    assert (found["model"], found["tokens"]) == (moe, 6)
    found = _measured(capsys, "-m", "4b", "experts", "-m", moe, "--slots", "4", *few)
    assert (found["model"], found["tokens"]) == (moe, 15)


def test_a_packed_cache_is_measured_on_both_sides(
    moe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experts", "-m", moe, "--slots", "4", *FEW]
    plain, packed = _measured(capsys, *words), _measured(capsys, *words, "--kv-bits", "4")
    assert packed["streamed"]["plan_bytes"] != plain["streamed"]["plan_bytes"]
    assert packed["identical"] is True


def test_the_governor_is_still_measuring(moe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "experts", "-m", moe, "--slots", "4", *FEW]) == 0
    assert "the governor was still measuring: more --tokens" in capsys.readouterr().out


def test_the_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert _measured(capsys, "experts", "--slots", "4", *FEW)["model"] == "tiny"


def test_the_context_holds_what_is_said(moe: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "experts", "-m", moe, "--slots", "4"]
    assert main([*words, "--tokens", "900"]) == 2
    assert "are 4,532 in all, and the context is 4,096: pass fewer" in capsys.readouterr().err


def test_a_trace_that_cannot_be_written(
    moe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "experts", "-m", moe, "--slots", "4", *FEW, "--trace-out"]
    assert main([*words, str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qwen3_mlx.experts.trace.Trace.save", full)
    assert main([*words, str(tmp_path / "t")]) == 2
    told = capsys.readouterr()
    assert "a miss costs" in told.out
    assert "No space left" in told.err
