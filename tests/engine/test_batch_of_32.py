"""Thirty-two texts at once, greedily: token for token what each says alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checkpoints import write_checkpoint
from engine.recorder import Recorder

from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request
from qwen3_mlx.hub import TINY
from qwen3_mlx.loading import read_parts, read_weights


@pytest.fixture(scope="module", params=["dense", "moe", "tiny"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = TINY
    if request.param != "tiny":
        folder = tmp_path_factory.mktemp("batch") / "model"
        write_checkpoint(folder, moe=request.param == "moe", dtype="F32", tokenizer=True)
    elif not (TINY / "config.json").exists():
        pytest.skip("tiny is not part of this checkout")
    parts = read_parts(folder)
    engine = Engine(
        lambda: read_weights(parts, "float32"), parts.tokenizer.size, prefill_chunk=16, max_rows=32
    )
    yield engine
    engine.close()


def start(engine: Engine, number: int, vocab: int) -> Recorder:
    """The nth text: its own prompt, length and end."""
    prompt = [(number * 131 + 17 * place) % vocab for place in range(1 + number * 5 % 37)]
    listener = Recorder()
    engine.submit(Request(prompt, DrawRule(), listener, max_tokens=8 + number % 9))
    return listener


def test_a_batch_says_what_each_says_alone(engine: Engine) -> None:
    vocab = min(engine.model.config.vocab_size, 256)
    together = [start(engine, number, vocab) for number in range(32)]
    assert [listener.end() for listener in together] == ["length"] * 32

    for number, listener in enumerate(together):
        alone = start(engine, number, vocab)
        assert alone.end() == "length"
        assert listener.tokens == alone.tokens
