"""`qwen3-mlx convert` from its arguments to what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import ModelNotFoundError, OptionError, OutputExistsError
from qwen3_mlx_convert import command
from tests.checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["convert", *words]))


def _bits(folder: str) -> tuple[Any, Any]:
    block = open_checkpoint(folder).config.get("quantization", {})
    return block.get("bits"), block.get("group_size")


@pytest.mark.parametrize(
    ("flags", "folder", "bits"),
    [
        ([], "model-q4", (4, 64)),
        (["--q8", "--group-size", "32"], "model-q8", (8, 32)),
        (["--bf16"], "model-bf16", (None, None)),
        (["--q4-plain"], "model-q4-plain", (4, 64)),
        (["--mxfp4"], "model-mxfp4", (4, 32)),
        (["--nvfp4"], "model-nvfp4", (4, 16)),
        (["--mxfp8"], "model-mxfp8", (8, 32)),
        (["--q5"], "model-q5", (5, 64)),
        (["-o", "sub/dst"], "sub/dst", (4, 64)),
    ],
)
def test_where_it_goes(
    flags: list[str], folder: str, bits: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(Path("model"))
    assert _run("model", *flags) == 0
    assert _bits(folder) == bits
    out, err = capsys.readouterr()
    assert out.endswith(f"Chat with it:  qwen3-mlx chat -m {folder}\n")
    assert " in 1 file, " in out
    assert [line.split(",")[0] for line in err.splitlines() if "100 %" in line] == [
        "converted 100 %: 378 KB of 378 KB", "compared 100 %: 378 KB of 378 KB",
    ]  # fmt: skip


def test_a_folder_of_the_hub_cache_names_the_model(tmp_path: Path) -> None:
    snapshot = Path("models--Qwen--Qwen3-4B/snapshots/abc")
    write_checkpoint(snapshot)
    assert _run(str(snapshot)) == 0
    card = Path("Qwen3-4B-q4/README.md").read_text()
    assert "base_model: Qwen/Qwen3-4B\n" in card
    assert str(tmp_path) not in card


def test_refusals() -> None:
    with pytest.raises(OptionError, match="no meaning with --bf16"):
        _run("model", "--bf16", "--group-size", "32")
    with pytest.raises(ModelNotFoundError, match="no model is called 'modell'"):
        _run("modell")
    write_checkpoint(Path("model"))
    Path("model-q4").mkdir()
    with pytest.raises(OutputExistsError, match="model-q4 exists already"):
        _run("model")
    with pytest.raises(OutputExistsError):  # before anything is resolved or fetched
        _run("no/such-model", "-o", "model-q4")


@pytest.mark.parametrize("flags", [["--group-size", "48"], ["--q4", "--q8"], ["--q7"], []])
def test_wrong_flags_end_with_status_2(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _run(*(["model", *flags] if flags else []))
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _run("--help")
    assert "qwen3-mlx convert 30b-a3b --q8" in capsys.readouterr().out


def test_the_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(Path("model"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert _run("model") == 0
    err = capsys.readouterr().err
    assert "converting" in err
    assert "comparing" in err
