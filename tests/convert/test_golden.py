"""`verify` compares a known checkpoint with what is published of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qwen3_mlx
from qwen3_mlx.catalogue import find
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import CheckpointError, EngineError
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import golden
from tests.checkpoints import write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Qwen3-0.6B-Base", tokenizer=True, dtype="F32")


@pytest.fixture
def numbers(folder: Path) -> golden.Golden:
    """What the random checkpoint says, as if it were published."""
    ids = (1, 2, 3, 4)
    with qwen3_mlx.load(str(folder)) as model:
        means = model.logits(ids).mean(axis=1)
        reply = model.stream(
            "a", raw=True, sampling=qwen3_mlx.Sampling(temperature=0), max_tokens=5
        ).result()
    return golden.Golden("Qwen/Q", ids, tuple(map(float, means)), "a", "a" + reply.text, 5)


def test_the_numbers_of_a_known_checkpoint() -> None:
    every = golden.json.loads(Path(golden.__file__).with_name("golden.json").read_text())
    assert len(every["Qwen/Qwen3-0.6B-Base"]["mean_logits"]) == 8
    known = find("Qwen/Qwen3-0.6B-Base")
    assert known is not None
    assert known.config.hidden_size == 1024


def test_only_the_name_with_the_shape_counts(folder: Path) -> None:
    assert golden.golden_for(open_checkpoint(folder)) is None  # the name, and another shape


def test_it_agrees(folder: Path, numbers: golden.Golden, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setattr(golden, "golden_for", lambda _: numbers)
    assert main(["verify", str(folder)]) == 0
    assert "the greedy text is the published one" in capsys.readouterr().out


def test_it_does_not_agree(folder: Path, numbers: golden.Golden,
                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    off = tuple(np.array(numbers.mean_logits) + 0.02)
    with pytest.raises(CheckpointError, match=r"differ from the published ones by 0\.02"):
        golden.check(folder, replace(numbers, mean_logits=off))
    with pytest.raises(EngineError, match="the greedy text is"):
        golden.check(folder, replace(numbers, text="b"))
    monkeypatch.setattr(golden, "_on_this_machine", lambda *_: (0.5, ""))
    with pytest.raises(EngineError, match="this machine's mean logits differ"):
        golden.check(folder, numbers)
