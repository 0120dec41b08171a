"""Answers that keep to a form: from random logits, and from a random model through the engine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from schemas import random_schema

import qwen3_mlx
from qwen3_mlx import Grammar, GrammarError, IncompleteError, Notice, OptionError, Qwen3, Sampling
from qwen3_mlx.engine import mask
from qwen3_mlx.grammar.ending import quick_ending, shortest_ending
from qwen3_mlx.grammar.guide import AnswerGuide
from qwen3_mlx.grammar.vocabulary import Vocabulary
from qwen3_mlx.text.tokenizer import Tokenizer

HOT = Sampling(temperature=2.0, top_k=0, top_p=1.0)
TINY = Path(qwen3_mlx.__file__).parent / "tiny"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(TINY, 2176)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    assert tokenizer.eos_id is not None
    return Vocabulary(tokenizer, [tokenizer.eos_id])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qwen3]:
    folder = tmp_path_factory.mktemp("grammar") / "model"
    with qwen3_mlx.load(str(write_checkpoint(folder, dtype="F32", tokenizer=True))) as model:
        yield model


def drawn(
    vocabulary: Vocabulary, tokenizer: Tokenizer, grammar: Grammar, most: int, seed: int
) -> AnswerGuide:
    """An answer drawn at random from what the guide allows."""
    guide = AnswerGuide(vocabulary.matchers(grammar), grammar, tokenizer)
    if not guide.make_room(most):
        raise OptionError(f"needs {guide.needs}")
    rng = np.random.default_rng(seed)
    for left in reversed(range(most)):
        bits = guide.allowed()
        if bits is None:
            break
        ids = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little"))
        token = int(rng.choice(ids[ids < tokenizer.size]))
        if token == tokenizer.eos_id or guide.take(token, left) is not None:
            break
    return guide


@pytest.mark.parametrize("number", range(40))
def test_random_schemas_and_random_draws(
    vocabulary: Vocabulary, tokenizer: Tokenizer, number: int
) -> None:
    """Whatever is drawn and wherever it must end, what is called whole is valid."""
    schema = random_schema(number)
    for most in (16, 90):
        try:
            guide = drawn(vocabulary, tokenizer, Grammar.json(schema), most, number)
        except OptionError:
            continue
        assert guide.fits
        jsonschema.validate(
            json.loads(guide.text.decode()), schema, jsonschema.Draft202012Validator
        )
        assert guide._count(bytes(guide.text)) <= 4 * most


@pytest.mark.parametrize(
    ("grammar", "shortest"),
    [
        (Grammar.regex("(ab)*c"), b"c"),
        (Grammar.regex("a*b"), b"b"),
        (Grammar.regex(".*foo"), b"foo"),
        (Grammar.regex("[a-c]{3,}x|[a-z]{8}"), b"aaax"),
        (Grammar.lark('start: "a" start "b" | "[" "]"'), b"[]"),
        (Grammar.lark('start: "x"* "y"'), b"y"),
        (Grammar.json({"type": "string", "pattern": "foo"}), b'"foo"'),
        (Grammar.json({"type": "string", "minLength": 5}), b'"00000"'),
        (Grammar.json({"type": "integer", "minimum": 10, "maximum": 120}), b"10"),
        (Grammar.json({"type": "array", "items": {"const": 1}, "minItems": 2}), b"[1, 1]"),
    ],
    ids=str,
)  # fmt: skip
def test_endings(vocabulary: Vocabulary, grammar: Grammar, shortest: bytes) -> None:
    matchers = vocabulary.matchers(grammar)
    found = shortest_ending(matchers.single, matchers.words)
    quick = quick_ending(matchers.single, matchers.words)
    assert found is not None
    assert quick is not None
    assert len(found) == len(shortest) <= len(quick)
    for text in (found, quick):
        assert matchers.single.validate_tokens(list(text)) == len(text)


def test_an_answer_after_a_long_thought_still_finds_its_end(
    vocabulary: Vocabulary, tokenizer: Tokenizer
) -> None:
    """`make_room` counts before the thought, which may use nearly all of it."""
    grammar = Grammar.regex("[a-z ]*END")
    guide = AnswerGuide(vocabulary.matchers(grammar), grammar, tokenizer)
    assert guide.make_room(32_768)
    letter = tokenizer.encode("a")[0]
    ending = next((text for left in range(487, -1, -1) if (text := guide.take(letter, left))), None)
    assert ending is not None
    assert guide.fits
    assert guide.text.endswith(b"END")


def test_a_model_without_an_ending_is_refused_in_a_sentence(tokenizer: Tokenizer) -> None:
    with pytest.raises(GrammarError, match="names no token that ends a text"):
        Vocabulary(tokenizer, [])


@given(st.data())
@settings(max_examples=25)
def test_texts_of_a_regex(data: st.DataObject) -> None:
    tokenizer = Tokenizer.from_folder(TINY, 2176)
    patterns = ["[0-9]{4}-[0-9]+", "(ja|nein)!*", "[^a]{3,9}", "é+🙂?"]
    pattern = data.draw(st.sampled_from(patterns))
    most = data.draw(st.integers(12, 40))
    guide = drawn(_vocabulary(tokenizer), tokenizer, Grammar.regex(pattern), most, most)
    assert guide.fits
    assert re.fullmatch(pattern, guide.text.decode(), re.DOTALL)


_made: list[Vocabulary] = []


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    if not _made:
        _made.append(Vocabulary(tokenizer, [tokenizer.eos_id or 0]))
    return _made[0]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "uniqueItems": True},
        {"not": {"type": "string"}},
        {"if": {}, "then": {}},
        {"type": "array", "contains": {"type": "integer"}},
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        {"type": "string", "format": "no-such-format"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"$ref": "#/$defs/nowhere"},
        {"type": "thing"},
        {"type": "object", "propertyNames": {"pattern": "^a"}},
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer"}},
    ],
    ids=str,
)
def test_what_cannot_be_kept_to_is_refused_first(model: Qwen3, schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError):
        model.json("x", schema)
    assert not model._engine._waiting


@pytest.mark.parametrize(
    "make",
    [
        lambda: Grammar.regex(""),
        lambda: Grammar.regex("(").compiled(),
        lambda: Grammar.choice([]),
        lambda: Grammar.choice("yes"),
        lambda: Grammar.lark(" "),
        lambda: Grammar.lark("start: nowhere").compiled(),
        lambda: Grammar.json({"a": object()}),
    ],
)
def test_grammars_that_are_none(make: Any) -> None:
    with pytest.raises(GrammarError):
        make()


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_json_from_noise(model: Qwen3, thinking: bool, seed: int) -> None:
    """A model that knows nothing, hot, with a thought before: it is a Point all the same."""
    point = model.json("p", Point, thinking=thinking, sampling=HOT, seed=seed, max_tokens=120)
    assert isinstance(point, Point)


def test_a_thought_leaves_room_and_is_free(model: Qwen3) -> None:
    grammar = Grammar.choice(["yes", "no"])
    generation = model.stream(
        "q", thinking=True, sampling=HOT, seed=1, max_tokens=60, grammar=grammar
    )
    reply = generation.result()

    assert reply.thinking
    assert reply.text in ("yes", "no")
    assert reply.fits
    assert generation.request is not None
    assert generation.request.stats.tokens <= 60


def test_an_answer_that_is_cut_is_brought_to_its_end(model: Qwen3) -> None:
    grammar = Grammar.json({"type": "string", "minLength": 8})  # hardly whole before it is cut
    events = list(
        model.stream("x", thinking=False, sampling=HOT, seed=2, max_tokens=12, grammar=grammar)
    )
    reply = events[-1].reply  # type: ignore[union-attr]

    assert reply.finish_reason == "length"
    assert reply.fits
    assert isinstance(json.loads(reply.text), str)
    assert any(isinstance(event, Notice) and "short end" in event.text for event in events)
    streamed = "".join(e.text for e in events if isinstance(e, qwen3_mlx.TextDelta))
    assert streamed == reply.text


def test_no_room_for_any_answer(model: Qwen3) -> None:
    with pytest.raises(OptionError, match="the shortest answer that fits the grammar has"):
        model.json("x", {"type": "string", "minLength": 50}, thinking=False, max_tokens=20)


def test_a_cancelled_answer_has_no_value(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"type": "string", "minLength": 500}  # it is not whole before it is cancelled
    generation = model.stream("x", thinking=False, grammar=Grammar.json(long), sampling=HOT)
    generation.cancel()
    assert generation.result().fits is False

    monkeypatch.setattr(model, "stream", _cancelled_elsewhere(model, model.stream))
    with pytest.raises(IncompleteError) as caught:
        model.json("x", long, thinking=False)
    assert caught.value.reply.finish_reason == "cancelled"


def _cancelled_elsewhere(model: Qwen3, stream: Any) -> Any:
    def wrapped(*args: Any, **wishes: Any) -> Any:
        generation = stream(*args, **wishes)
        elsewhere = threading.Thread(target=model.cancel)
        elsewhere.start()
        elsewhere.join()
        return generation

    return wrapped


def test_guided_answers_are_equal_in_company(model: Qwen3) -> None:
    """A guided row makes the others wait for the draw, which must not change what they say."""
    wishes: dict[str, Any] = {"thinking": False, "sampling": HOT, "max_tokens": 30}
    alone = model.ask("b", seed=5, **wishes).text
    guided = model.json("a", Point, seed=4, **wishes)
    running = [model.stream("a", seed=4, grammar=Grammar.json(Point), **wishes),
               model.stream("b", seed=5, **wishes)]  # fmt: skip

    assert Grammar.json(Point).parse(running[0].result().text) == guided
    assert running[1].result().text == alone


def test_stop_strings_and_two_forms_are_refused(model: Qwen3) -> None:
    with pytest.raises(OptionError, match="no stop="):
        model.json("x", int, stop=["a"])
    with pytest.raises(OptionError, match="leave out grammar="):
        model.json("x", int, grammar=Grammar.regex("a"))


@pytest.mark.parametrize("vocab", [32, 70, 320])
def test_bits_of_masks(vocab: int) -> None:
    """On the CPU they are spread out; the kernel of a GPU gets them as they are."""
    rng = np.random.default_rng(vocab)
    allowed = rng.random(vocab) < 0.5
    packed = np.packbits(allowed, bitorder="little")
    words = np.zeros(-(-vocab // 32) * 4, np.uint8)
    words[: len(packed)] = packed

    class Bits:
        needs_last = True

        def allowed(self) -> mx.array:
            return mx.array(words.view(np.int32))

    logits = mx.array(rng.normal(size=(3, vocab)).astype(np.float32))
    made = np.array(mask.masked(logits, [None, Bits(), mask.Ban(vocab, [3])]))
    assert (np.isfinite(made[1]) == allowed).all()
    assert np.isfinite(made[0]).all()
    assert np.isinf(made[2]).nonzero()[0].tolist() == [3]


def test_the_kernel_is_taken_where_there_is_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    import llguidance.mlx

    class Gpu:
        type = mx.DeviceType.gpu

    monkeypatch.setattr(mask.mx, "default_device", Gpu)
    mask._apply.cache_clear()
    try:
        assert mask._apply() is llguidance.mlx.apply_token_bitmask_kernel
    finally:
        mask._apply.cache_clear()
