"""Which experts serve which token, looked at from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint

import qwen3_mlx
from qwen3_mlx import OptionError, PromptError


def test_the_choices_of_every_token() -> None:
    with qwen3_mlx.load("tiny") as model:
        ids = model.encode("What is 12 + 30?")
        before = model.logits(ids)
        served = model.routing(ids)
        after = model.logits(ids)

    assert served.dtype == bool
    assert served.shape == (4, len(ids), 16)
    assert (served.sum(axis=-1) == 4).all()
    assert (before == after).all()  # looking changes nothing


def test_streamed_experts_are_chosen_alike() -> None:
    with qwen3_mlx.load("tiny") as model, qwen3_mlx.load("tiny", slots=8) as streamed:
        ids = model.encode("What is 12 + 30?")
        assert np.array_equal(model.routing(ids), streamed.routing(ids))


def test_a_dense_model_has_none(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "dense", moe=False, dtype="F32", tokenizer=True)
    with qwen3_mlx.load(str(folder)) as model:
        with pytest.raises(OptionError, match="dense"):
            model.routing([1, 2, 3])
        with pytest.raises(PromptError):
            model.routing([])
