"""`qwen3-mlx embed`: vectors of lines and files, the nearest ones, and what it says of mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint

import qwen3_mlx
from qwen3_mlx_app.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("embedder") / "mini"
    return str(write_checkpoint(path, dtype="F32", embedder=True, tied=True))


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_lines_become_vectors(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, "bees dance\n\n  蜜蜂跳舞 \nend".encode())
    assert main(["embed", "-m", folder]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["n"], each["text"]) for each in lines] == [
        (1, "bees dance"), (2, "蜜蜂跳舞"), (3, "end"),
    ]  # fmt: skip
    with qwen3_mlx.load(folder) as model:
        expected = model.embed(["bees dance", "蜜蜂跳舞", "end"])
    np.testing.assert_allclose([each["embedding"] for each in lines], expected, atol=1e-6)


def test_more_lines_than_a_block(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qwen3_mlx_app.embed_command._BLOCK", 3)
    feed(monkeypatch, b"\n".join(b"%d" % each for each in range(8)))
    assert main(["embed", "-m", folder, "--dimensions", "32"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["text"] for each in lines] == [str(each) for each in range(8)]
    assert {len(each["embedding"]) for each in lines} == {32}


def test_a_question_ranks_the_texts(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights know no meaning, but a text is nearest to itself where the task is none."""
    texts = ["bees dance", "the meter is read in May", "a b c", "d"]
    feed(monkeypatch, "\n".join(texts).encode())
    assert main(["embed", "-m", folder, "--query", "x", "--top", "3"]) == 0
    ranked = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    with qwen3_mlx.load(folder) as model:
        cosines = model.embed(texts) @ model.embed(["x"], query=True)[0]
    order = sorted(zip(cosines.tolist(), texts, strict=True), reverse=True)[:3]
    assert ranked == [[f"{cosine:.4f}", text] for cosine, text in order]


def test_files_and_those_that_cannot_be_used(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, empty, binary, long = (tmp_path / name for name in ("good", "empty", "binary", "long"))
    good.write_text("bees\ndance")
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe")
    long.write_text("x" * 4096)
    paths = [str(each) for each in (empty, binary, long, tmp_path / "absent", good)]
    assert main(["embed", "-m", folder, *paths]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["file"] for each in lines] == paths
    words = ["is empty", "not UTF-8", "4,097 tokens", "cannot read"]
    assert all(word in each["error"] for word, each in zip(words, lines, strict=False))
    assert len(lines[-1]["embedding"]) == 64

    assert main(["embed", "-m", folder, *paths, "--query", "bees"]) == 2
    told = capsys.readouterr()
    assert told.out.endswith(f"\t{good}\n")
    assert told.err.count("\n") == 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--task", "x"], "--task is for --query"),
        (["--query", "x", "--top", "0"], "--top is 0"),
        (["--query", " "], "is empty"),
        (["--dimensions", "7"], "dimensions is 7"),
    ],
)
def test_mistakes_are_one_sentence(
    flags: list[str], words: str, folder: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    feed(monkeypatch, b"a")
    assert main(["embed", "-m", folder, *flags]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert told.err.count("\n") == 1


def test_a_model_that_converses_is_refused_before_a_text_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"")
    assert main(["embed", "-m", "tiny"]) == 2
    assert "tiny converses and makes no vectors" in capsys.readouterr().err
