"""Recipes, calibration, the comparison after writing, and what `quality` measures."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qwen3_mlx
from qwen3_mlx.catalogue import entries, find, quantized_bytes
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import CheckpointError, OptionError
from qwen3_mlx.fit import sizes_from_config
from qwen3_mlx.model.allocation import SPEND, allocate
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import compare, convert, feedback
from qwen3_mlx_convert.forward import Forward, Weights
from qwen3_mlx_convert.plan import forecast_config
from qwen3_mlx_convert.quality import measure
from qwen3_mlx_convert.quantize import Recipe
from qwen3_mlx_convert.read import BLOCK_BYTES, bounded_buffers
from qwen3_mlx_convert.texts import token_rows
from tests.checkpoints import write_checkpoint

TEXT = "The quick brown fox jumps over the lazy dog. 12 + 30 = 42. " * 40


def _ids(folder: Path, most: int = 512) -> Any:
    return token_rows(folder, 320, TEXT, 128, most)


def _logits(folder: Path, ids: Any) -> Any:
    with Weights(open_checkpoint(folder)) as weights:
        forward = Forward(weights, ids)
        for _ in range(weights.config.layers):
            forward.step()
        return forward.last() @ weights(weights.head).T


def test_what_mlx_keeps_of_freed_memory_is_bounded_meanwhile_and_as_before_afterwards() -> None:
    before = mx.set_cache_limit(123_456_789)
    try:
        with bounded_buffers():
            assert mx.set_cache_limit(BLOCK_BYTES) == BLOCK_BYTES
        assert mx.set_cache_limit(before) == 123_456_789
    finally:
        mx.set_cache_limit(before)


# The forward pass that holds one matrix at a time.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"moe": True, "tied": True},
        {"moe": True, "decoder_sparse_step": 2, "norm_topk_prob": False},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                          "original_max_position_embeddings": 64}},
    ],
)  # fmt: skip
def test_it_computes_what_the_library_computes(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype="F32", tokenizer=True, **options)
    ids = _ids(folder, 128)[:, :40]
    with qwen3_mlx.load(str(folder)) as model:
        theirs = model.logits(ids[0].tolist())
    assert np.abs(_logits(folder, ids) - theirs).max() < 1e-4


# Recipes.


def test_the_default_spends_no_more_than_it_says() -> None:
    for entry in entries():
        plain = quantized_bytes(entry.config)
        assert 1.005 < quantized_bytes(entry.config, spend=SPEND) / plain <= 1 + SPEND, entry.name


@pytest.mark.parametrize(
    ("name", "plain", "default"),
    [("4b", 2.26, 2.44), ("30b-a3b", 1.72, 1.85), ("235b-a22b", 12.2, 13.1)],
)
def test_what_the_default_costs_for_each_token(name: str, plain: float, default: float) -> None:
    """The gigabytes that docs/convert.md speaks of."""
    for spend, wanted in ((0.0, plain), (SPEND, default)):
        entry = find(name)
        assert entry is not None
        config = forecast_config(entry.config, Recipe(4, spend=spend))
        sizes = sizes_from_config(config)
        experts = sum(size * config.top_k for size in sizes.slot_bytes.values())
        read = sizes.trunk_bytes - sizes.embedding_bytes + experts
        assert float(f"{read / 1e9:.3g}") == wanted
    assert default <= plain * (1 + SPEND)


def test_what_is_joined_has_one_format() -> None:
    for entry in entries():
        extra = allocate(entry.config, 4, 64, SPEND)
        for layer in range(entry.config.layers):
            path = f"model.layers.{layer}.self_attn"
            assert len({extra.get(f"{path}.{part}_proj") for part in "qkv"}) == 1


@pytest.mark.parametrize("moe", [False, True])
def test_the_folder_says_which_matrices_have_more(tmp_path: Path, moe: bool) -> None:
    source = write_checkpoint(tmp_path / "source", moe=moe, tokenizer=True)
    convert(source, tmp_path / "plain", bits=4, verify=True)
    report = convert(source, tmp_path / "q4", bits=4, spend=SPEND, verify=True)
    found = open_checkpoint(tmp_path / "q4")
    config = ModelConfig.from_dict(found.config)
    assert config.quantization == Quantization(4, 64)
    assert config.quantization_of("model.layers.0.self_attn.v_proj").bits > 4  # type: ignore[union-attr]
    plain = open_checkpoint(tmp_path / "plain").weight_bytes
    assert plain < report.target_bytes <= 1.08 * plain
    with qwen3_mlx.load(str(tmp_path / "q4")) as model:
        assert np.isfinite(model.logits([1, 2, 3])).all()


@pytest.mark.parametrize(("mode", "bits", "group"),
                         [("mxfp4", 4, 32), ("nvfp4", 4, 16), ("mxfp8", 8, 32)])  # fmt: skip
def test_floating_modes_load_here_and_in_mlx_lm(
    tmp_path: Path, mode: str, bits: int, group: int
) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, tokenizer=True, dtype="F32")
    convert(source, tmp_path / "out", bits=bits, group_size=group, mode=mode, verify=True)
    with qwen3_mlx.load(str(tmp_path / "out")) as model:
        ours = model.logits([1, 2, 3])
    with warnings.catch_warnings(action="ignore"):  # of mlx-lm and transformers
        mlx_lm = pytest.importorskip("mlx_lm")
        model, _ = mlx_lm.load(str(tmp_path / "out"))
    theirs = np.array(model(mx.array([[1, 2, 3]]))[0].astype(mx.float32))
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_recipes_that_do_not_exist(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True)
    for options, word in (({"mode": "int4"}, "mlx has"), ({"mode": "mxfp4"}, "groups of 32"),
                          ({"calibrate": "nowhere.txt"}, "cannot be read")):  # fmt: skip
        with pytest.raises(OptionError, match=word):
            convert(source, tmp_path / "out", bits=4, **options)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["source"]


# Error feedback.


@settings(max_examples=25)
@given(bits=st.sampled_from([2, 3, 4, 5, 6]), seed=st.integers(0, 1000), rows=st.integers(1, 9))
def test_codes_are_packed_as_mlx_packs_them(bits: int, seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**bits, (rows, 128)).astype(np.uint8)
    scales, biases = random.random((2, rows, 2), np.float32)
    theirs = mx.dequantize(
        mx.array(feedback.words_of(codes, bits)), mx.array(scales), mx.array(biases),
        group_size=64, bits=bits,
    )  # fmt: skip
    meant = feedback.unpacked((codes, scales, biases), Quantization(bits, 64))
    np.testing.assert_allclose(np.asarray(theirs), meant, rtol=1e-6, atol=1e-6)


def test_feedback_keeps_the_product_better_than_rounding() -> None:
    random = np.random.default_rng(0)
    mixer = random.standard_normal((128, 128)).astype(np.float32)
    inputs = random.standard_normal((400, 128)).astype(np.float32) @ mixer
    matrix = random.standard_normal((64, 128)).astype(np.float32)
    how = Quantization(4, 64)
    coded = feedback.code(matrix, how, feedback.Moments(128, [inputs]), lambda x: x)
    plain = np.asarray(mx.dequantize(*mx.quantize(mx.array(matrix))))
    lost = [
        np.square(inputs @ (m - matrix).T).mean() for m in (feedback.unpacked(coded, how), plain)
    ]
    assert lost[0] < 0.6 * lost[1]
    unused = feedback.code(matrix, how, feedback.Moments(128, []), lambda x: x)
    assert np.abs(feedback.unpacked(unused, how) - matrix).max() < 0.5


def test_a_wide_matrix_is_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_normal((8, 256)).astype(np.float32)
    inputs = random.standard_normal((300, 256)).astype(np.float32)
    monkeypatch.setattr(feedback, "_BLOCK", 128)
    monkeypatch.setattr(feedback, "_ROWS", 3)
    coded = feedback.code(matrix, Quantization(4, 64), feedback.Moments(256, [inputs]), lambda x: x)
    assert np.abs(feedback.unpacked(coded, Quantization(4, 64)) - matrix).max() < 1.0


@pytest.mark.parametrize("moe", [False, True])
def test_calibration_is_nearer_to_the_source(tmp_path: Path, moe: bool) -> None:
    source = write_checkpoint(tmp_path / "source", moe=moe, tokenizer=True)
    (tmp_path / "text").write_text(TEXT)
    convert(source, tmp_path / "plain", bits=4, verify=True)
    convert(source, tmp_path / "cal", bits=4, calibrate=str(tmp_path / "text"), verify=True)
    assert not list((tmp_path / "cal").glob("calibration*"))
    sizes = [open_checkpoint(tmp_path / name).weight_bytes for name in ("plain", "cal")]
    assert sizes[0] == sizes[1]
    ids = _ids(source)
    kl = [
        measure(open_checkpoint(source), open_checkpoint(tmp_path / name), ids).kl
        for name in ("plain", "cal")
    ]
    assert kl[1] < 0.8 * kl[0]


def test_an_interrupted_calibration_ends_in_the_same_bytes(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, tokenizer=True)
    (tmp_path / "text").write_text(TEXT)
    convert(source, tmp_path / "whole", bits=4, calibrate=str(tmp_path / "text"))

    def stop(state: Any) -> None:
        if "layers.2." in state.tensor and "experts.3" in state.tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", bits=4, calibrate=str(tmp_path / "text"), progress=stop)
    seen: list[Any] = []
    convert(
        source, tmp_path / "out", bits=4, calibrate=str(tmp_path / "text"), progress=seen.append
    )
    assert seen[-1].done_bytes == seen[-1].total_bytes
    assert seen[0].resumed_bytes > 0.5 * seen[0].total_bytes  # two layers of three, and the ends
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


# The comparison after writing.


def test_a_tensor_that_was_written_wrongly_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True)
    real = compare.open_checkpoint

    def damaged(folder: Path) -> Any:
        file = folder / "model.safetensors"
        info = real(folder).tensors["model.layers.1.mlp.switch_mlp.up_proj.weight"]
        with file.open("r+b") as out:
            out.seek(info.offset + info.nbytes // 2)
            out.write(os.urandom(info.nbytes // 8))
        return real(folder)

    monkeypatch.setattr(compare, "open_checkpoint", damaged)
    assert main(["convert", str(source), "-o", str(tmp_path / "out")]) == 2
    assert "steps of its quantisation after writing" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["source"]
    assert main(["convert", str(source), "--no-verify", "-o", str(tmp_path / "out")]) == 0


# What `quality` measures.


def test_the_numbers_are_those_of_the_definitions(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True, dtype="F32")
    convert(source, tmp_path / "q4", bits=4)
    ids = _ids(source, 256)
    found = measure(open_checkpoint(source), open_checkpoint(tmp_path / "q4"), ids)

    def log_softmax(logits: Any) -> Any:
        logits = logits.reshape(*ids.shape, -1)[:, :-1].astype(np.float64)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    p, q = log_softmax(_logits(source, ids)), log_softmax(_logits(tmp_path / "q4", ids))
    said = np.take_along_axis(q, ids[:, 1:, None], -1)
    assert found.tokens == ids.size - len(ids)
    assert found.kl == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-3)
    assert found.top1 == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())
    assert found.perplexity == pytest.approx(np.exp(-said.mean()), rel=1e-5)


def test_blocks_do_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True, moe=True)
    convert(source, tmp_path / "q4", bits=4)
    args = open_checkpoint(source), open_checkpoint(tmp_path / "q4"), _ids(source, 256)
    whole = measure(*args)
    monkeypatch.setattr("qwen3_mlx_convert.quality._TOKENS", 50)
    monkeypatch.setattr("qwen3_mlx_convert.quality._WORDS", 33)
    monkeypatch.setattr("qwen3_mlx_convert.read.BLOCK_BYTES", 5000)
    parts = measure(*args)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-4)
    assert parts.top1 == whole.top1


def test_the_command_writes_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True)
    convert(source, tmp_path / "q8", bits=8)
    command = ["quality", str(tmp_path / "q8"), "--against", str(source), "--tokens", "256"]
    assert main(command) == 0
    assert "KL divergence    0.0" in capsys.readouterr().out
    card = (tmp_path / "q8" / "README.md").read_text()
    assert "Against the source, on 255 tokens (builtin)" in card
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] > 0.9
    assert (tmp_path / "q8" / "README.md").read_text() == card  # replaced, not added
    assert main(["verify", str(tmp_path / "q8")]) == 0


def test_numbers_are_printed_where_the_card_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True)
    (source / "README.md").mkdir()  # in the way, whoever runs this
    assert main(["quality", str(source), "--against", str(source), "--tokens", "64"]) == 2
    said = capsys.readouterr()
    assert "KL divergence    0.00000 nats" in said.out
    assert said.err.splitlines()[-1].endswith("pass --no-card")
    assert not list(source.glob(".README*"))


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_checkpoint(tmp_path / "source", tokenizer=True)
    other = write_checkpoint(tmp_path / "other", tokenizer=True, num_hidden_layers=1)
    args = open_checkpoint(source), open_checkpoint(other), _ids(source)
    with pytest.raises(CheckpointError, match="not of the same architecture"):
        measure(*args)
    (tmp_path / "short.txt").write_text("a word")
    command = ["quality", str(source), "--against", str(source), "--text"]
    assert main([*command, str(tmp_path / "short.txt")]) == 2
    assert "the text has 6 tokens" in capsys.readouterr().err


def test_records_have_to_be_unpacked_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, packed = write_checkpoint(tmp_path / "hf", moe=True, tokenizer=True), tmp_path / "out"
    convert(source, packed, bits=None, layout="records")
    for command in (
        ["quality", str(packed), "--against", str(source)],
        ["quality", str(source), "--against", str(packed)],
        ["convert", str(packed), "--q4", "-o", str(tmp_path / "again")],
    ):
        assert main(command) == 2
        assert f"unpack it first, `qwen3-mlx unpack {packed}`" in capsys.readouterr().err
