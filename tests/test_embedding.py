"""Vectors of texts: as Transformers and mlx-lm make them, in company, in parts, and refused."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from hypothesis import given
from hypothesis import strategies as st

import qwen3_mlx
from qwen3_mlx import OptionError, PromptError, Qwen3
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.embedding import _batches
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert

TOLERANCE = 2e-5
TASK = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)
TEXTS = ["The meter is read in May.", "蜜蜂跳舞。", "a", "Bees dance 🐝. " * 9, "b c"]
END = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedder") / "Qwen3-Embedding-mini"
    return write_checkpoint(path, dtype="F32", embedder=True, tied=True)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Qwen3]:
    with qwen3_mlx.load(str(folder)) as loaded:
        yield loaded


def from_states(states: np.ndarray) -> np.ndarray:
    """A vector by the card: the last position's, brought to length 1."""
    last = np.asarray(states, np.float32)[-1]
    return last / np.linalg.norm(last)


def test_vectors_have_length_one(model: Qwen3) -> None:
    made = model.embed(TEXTS)

    assert made.dtype == np.float32
    assert made.shape == (len(TEXTS), 64)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_vectors_equal_mlx_lm(model: Qwen3, folder: Path, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    config = json.loads((folder / "config.json").read_text())
    named = mx.load(str(folder / "model.safetensors"))
    assert isinstance(named, dict)
    mx.save_safetensors(
        str(tmp_path / "model.safetensors"), {f"model.{name}": each for name, each in named.items()}
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    peer, _ = load_model(tmp_path)
    for text, vector in zip(TEXTS, model.embed(TEXTS), strict=True):
        states = peer.model(mx.array([[*model.encode(text), END]]))[0]
        assert np.abs(from_states(np.array(states)) - vector).max() <= TOLERANCE


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.filterwarnings("ignore")
def test_vectors_equal_transformers(model: Qwen3, folder: Path) -> None:
    import torch
    from transformers import AutoModel

    peer = AutoModel.from_pretrained(folder, dtype=torch.float32)
    for text, vector in zip(TEXTS, model.embed(TEXTS, query=True), strict=True):
        ids = [*model.encode(TASK + text), END]
        with torch.no_grad():
            states = peer(torch.tensor([ids])).last_hidden_state[0].numpy()
        assert np.abs(from_states(states) - vector).max() <= TOLERANCE


def test_company_changes_nothing_but_rounding(model: Qwen3) -> None:
    together = model.embed(TEXTS)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_long_text_is_read_in_chunks(model: Qwen3) -> None:
    text = "The meter is read in May. " * 60  # 1,561 tokens, of which 512 are read at once
    states = model.embed([text, "short"])
    assert np.abs(states[0] - model.embed([text])[0]).max() <= 1e-6
    assert np.abs(states[0] @ model.embed([text[:-27]])[0]) < 1  # and its end counts


def test_a_query_says_what_it_is_for(model: Qwen3) -> None:
    asked = model.embed(["bees"], query=True)
    np.testing.assert_allclose(asked, model.embed([TASK + "bees"]), atol=1e-6)
    own = model.embed(["bees"], query="Find animals")
    np.testing.assert_allclose(own, model.embed(["Instruct: Find animals\nQuery:bees"]), atol=1e-6)


def test_the_beginning_of_a_vector_is_a_vector(model: Qwen3) -> None:
    whole, part = model.embed(TEXTS), model.embed(TEXTS, dimensions=32)
    assert part.shape == (len(TEXTS), 32)
    begins = whole[:, :32] / np.linalg.norm(whole[:, :32], axis=1, keepdims=True)
    np.testing.assert_allclose(part, begins, atol=1e-6)


def test_a_spelled_control_token_stays_text(model: Qwen3) -> None:
    assert np.abs(model.embed(["<|endoftext|>"]) - model.embed(["<|im_end|>"])).max() > 1e-3


def test_progress_counts_texts(model: Qwen3) -> None:
    told: list[tuple[int, int]] = []
    model.embed([*TEXTS, "x" * 400, "y" * 500], progress=lambda *each: told.append(each))
    assert told[-1] == (7, 7)
    assert told == sorted(told)
    assert len(told) > 1


def test_nothing_gives_no_vectors(model: Qwen3) -> None:
    assert model.embed([]).shape == (0, 64)


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        (["a", " \n"], {}, "text 2 of 2 is empty"),
        (["a" * 5000], {}, "text 1 of 1 has 5,001 tokens and the context holds 4,096"),
        ("a", {}, "must be a list"),
        (["a"], {"dimensions": 65}, "dimensions is 65, and must be from 32 to 64"),
        (["a"], {"dimensions": 16}, "dimensions is 16"),
    ],
)
def test_what_cannot_be_read_is_refused(
    model: Qwen3, texts: list[str], options: dict[str, int], words: str
) -> None:
    with pytest.raises((OptionError, PromptError), match=words):
        model.embed(texts, **options)


def test_each_model_says_what_it_is_for(model: Qwen3) -> None:
    assert model.info.family == "embedding"
    assert not model.info.can_call_tools
    for ask in (lambda: model.ask("hi"), lambda: model.ask("hi", raw=True)):
        with pytest.raises(OptionError, match="makes vectors of texts and answers nothing"):
            ask()
    with (
        qwen3_mlx.load("tiny") as chat,
        pytest.raises(OptionError, match="tiny converses and makes no vectors"),
    ):
        chat.embed(["a"])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shards", [1, 2])
def test_a_decoder_alone_is_converted_and_still_embeds(
    tied: bool, shards: int, tmp_path: Path
) -> None:
    """Untied, as 8B: config.json speaks of a head that no file has."""
    source = write_checkpoint(
        tmp_path / "source", dtype="F32", embedder=True, tied=tied, shards=shards
    )
    report = convert(source, tmp_path / "q8", bits=8, verify=True)
    assert report.bits_per_weight < 10
    assert "model.embed_tokens.weight" in open_checkpoint(tmp_path / "q8").tensors
    with qwen3_mlx.load(str(source)) as plain, qwen3_mlx.load(str(tmp_path / "q8")) as packed:
        assert packed.info.family == "embedding"
        likeness = (plain.embed(TEXTS) * packed.embed(TEXTS)).sum(axis=1)
    assert likeness.min() > 0.99


def test_the_commands_say_what_it_is_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "q4"
    assert main(["convert", str(folder), "--q4", "-o", str(target)]) == 0
    told = capsys.readouterr()
    assert f"qwen3-mlx embed -m {target}" in told.out + told.err
    assert "qwen3-mlx embed -m" in (target / "README.md").read_text()
    assert main(["quality", str(target), "--against", str(folder)]) == 2
    assert "makes vectors" in capsys.readouterr().err


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 64))
def test_batches_hold_each_text_once_and_no_more_than_they_may(
    lengths: list[int], most: int
) -> None:
    rows = [[0] * length for length in lengths]
    batches = list(_batches(rows, most))
    assert sorted(place for batch in batches for place in batch) == list(range(len(rows)))
    for batch in batches:
        filled = len(batch) * max(lengths[place] for place in batch)
        assert filled <= most or len(batch) == 1
