"""Schemas of other people's tools: references, types, and what only remarks."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qwen3_mlx
from qwen3_mlx import GrammarError
from qwen3_mlx.grammar.calls import call_grammar
from qwen3_mlx.grammar.grammar import Grammar
from qwen3_mlx.grammar.schemas import arguments, kinds, self_contained
from qwen3_mlx.grammar.vocabulary import Vocabulary
from qwen3_mlx.guiding import Guides
from qwen3_mlx.text.tokenizer import Tokenizer
from qwen3_mlx.tools.functions import Tool

TINY = Path(qwen3_mlx.__file__).parent / "tiny"
OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
          "additionalProperties": False}  # fmt: skip


def of(schema: Any, **more: Any) -> dict[str, Any]:
    """Parameters with one argument, v."""
    return {"type": "object", "properties": {"v": schema}, "required": ["v"], **more}


TREE = of({"type": "integer"})
TREE["properties"]["kids"] = {"type": "array", "items": {"$ref": "#"}}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer.from_folder(TINY, 2176)
    return Vocabulary(tokenizer, [tokenizer.eos_id or 0])


def fits(vocabulary: Vocabulary, style: Any, parameters: Any, text: str) -> bool:
    """Whether a call may be written so."""
    grammar, notices = call_grammar(style, [{"name": "f", "parameters": parameters}])
    assert not notices
    matcher = vocabulary.matchers(grammar).tokens.deep_copy()
    if style == "hermes":
        text = f'\n{{"name": "f", "arguments": {text}}}\n'
    else:
        text = f"\n<function=f>\n{text}</function>\n"
    tokens = Tokenizer.from_folder(TINY, 2176).encode(text)
    return all(matcher.consume_token(token) for token in tokens) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("parameters", "good", "bad"),
    [
        (TREE, '{"v": 1, "kids": [{"v": 2}]}', '{"v": 1, "kids": [{"name": "f", "arguments": 3}]}'),
        (of({"$ref": "#/properties/w"}, properties={"v": {"$ref": "#/properties/w"}, "w": OBJECT}),
         '{"v": {"a": 1}}', '{"v": 1}'),
        (of({"$ref": "#/definitions/O"}, definitions={"O": OBJECT}), '{"v": {"a": 1}}', '{"v": 1}'),
        ({"$ref": "#/$defs/O", "$defs": {"O": OBJECT}}, '{"a": 1}', '{"a": "1"}'),
        (of({"type": "string", "format": "path"}), '{"v": "/tmp"}', '{"v": 1}'),
        (of({"type": "array", "items": True, "uniqueItems": False}), '{"v": [1, "a"]}', '{"v": 1}'),
        (of({"const": {"minProperties": 1}}), '{"v": {"minProperties": 1}}', '{"v": {}}'),
        (of(OBJECT, minProperties=0, required=None), '{"v": {"a": 1}}', '{"v": {"a": "b"}}'),
    ],
)  # fmt: skip
def test_hermes_keeps_to_it(parameters: Any, good: str, bad: str, vocabulary: Vocabulary) -> None:
    assert fits(vocabulary, "hermes", parameters, good)
    assert not fits(vocabulary, "hermes", parameters, bad)


@pytest.mark.parametrize(
    ("schema", "good", "bad", "value"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "3", "banana", 3),
        ({"type": ["number", "null"]}, "null", "NaN", None),
        ({"$ref": "#/$defs/O"}, '{"a": 1}', "not an object", {"a": 1}),
        ({"allOf": [{"$ref": "#/$defs/O"}]}, '{"a": 1}', "a", {"a": 1}),
        ({"$ref": "#/$defs/E"}, "1", "3", 1),
        ({"enum": [1, 2]}, "2", "3", 2),
        ({"const": 7}, "7", "8", 7),
        ({"type": "boolean", "enum": [True]}, "True", "False", True),
        ({"type": "boolean"}, "False", "no", False),
        ({"enum": ["a", 1]}, "a", "b", "a"),
        ({"type": "array", "items": {"$ref": "#/$defs/O"}}, '[{"a": 1}]', "[1]", [{"a": 1}]),
    ],
)  # fmt: skip
def test_coder_keeps_to_it(
    schema: Any, good: str, bad: str, value: Any, vocabulary: Vocabulary
) -> None:
    parameters = of(schema, **{"$defs": {"O": OBJECT, "E": {"enum": [1, 2]}}})
    written = [f"<parameter=v>\n{text}\n</parameter>\n" for text in (good, bad)]
    assert fits(vocabulary, "coder", parameters, written[0])
    assert not fits(vocabulary, "coder", parameters, written[1])
    guides = Guides(Tokenizer.from_folder(TINY, 2176), [], "<function=")
    parser = guides.call_parser([Tool("f", "", parameters)])
    assert parser is not None
    call = f"<tool_call>\n<function=f>\n{written[0]}</function>\n</tool_call>"
    *_, made = [*parser.push(call), *parser.finish()]
    assert made.arguments == {"v": value}


@pytest.mark.parametrize("schema", [{}, {"type": ["string", "integer"]}, {"type": "string"}])
def test_a_text_of_coder_is_free(schema: Any, vocabulary: Vocabulary) -> None:
    written = "<parameter=v>\nany\n<b> text\n</parameter>\n"
    assert fits(vocabulary, "coder", of(schema), written)


@pytest.mark.parametrize(
    "parameters", [{"type": "object"}, {"type": "object", "anyOf": [of({}), of({}, required=[])]}]
)
def test_arguments_without_names_are_free(parameters: Any, vocabulary: Vocabulary) -> None:
    assert fits(vocabulary, "coder", parameters, "<parameter=x>\n1\n</parameter>\n")
    assert fits(vocabulary, "coder", {"type": "object", "properties": {}}, "")
    assert not fits(
        vocabulary,
        "coder",
        {"type": "object", "properties": {}},
        "<parameter=x>\n1\n</parameter>\n",
    )


@pytest.mark.parametrize("style", ["hermes", "coder"])
def test_one_tool_that_cannot_be_kept_to_frees_no_other(style: Any, vocabulary: Vocabulary) -> None:
    loose = of({"not": {"type": "null"}})
    tools = [
        {"name": "f", "parameters": of({"type": "integer"})},
        {"name": "g", "parameters": loose},
    ]
    grammar, notices = call_grammar(style, tools)
    assert len(notices) == 1
    assert notices[0].startswith("calls of g are not held to its schema")
    matchers = vocabulary.matchers(grammar)
    tokenizer = Tokenizer.from_folder(TINY, 2176)
    texts = {
        "hermes": ('\n{"name": "f", "arguments": {"v": "', '\n{"name": "g", "arguments": {"x": "'),
        "coder": ("\n<function=f>\n<parameter=v>\nx", "\n<function=g>\n<parameter=x>\nx"),
    }[style]
    taken = [
        all(matcher.consume_token(token) for token in tokenizer.encode(text))
        for text in texts
        for matcher in [matchers.tokens.deep_copy()]
    ]
    assert taken == [False, True]


@pytest.mark.parametrize("reference", ["#/nowhere", "other.json#/a", "#name", 3])
def test_references_that_lead_nowhere(reference: Any) -> None:
    with pytest.raises(GrammarError):
        self_contained(of({"$ref": reference}))


def test_a_pointer_is_unescaped() -> None:
    made = self_contained(
        of({"$ref": "#/$defs/a~1b%20c"}, **{"$defs": {"a/b c": {"type": "null"}}})
    )
    assert kinds(made["properties"]["v"], made["$defs"]) == {"null"}
    assert arguments(made) == ({"v": {"$ref": "#/$defs/0"}}, ["v"])


def test_true_is_any_schema() -> None:
    assert Grammar.json(True).compiled()
    with pytest.raises(GrammarError):
        Grammar.json(False).compiled()
    with pytest.raises(GrammarError):
        Grammar.json({"maximum": float("inf")}).compiled()


KEYS = st.sampled_from([
    "type", "properties", "items", "anyOf", "allOf", "oneOf", "enum", "const", "$ref", "$defs",
    "required", "additionalProperties", "format", "definitions", "minProperties", "v", "not",
])  # fmt: skip
VALUES = st.sampled_from([
    None, True, False, 0, 1, 2.5, "string", "integer", "object", "boolean", "#", "#/$defs/v", "v",
    "#/properties/v", "array",
])  # fmt: skip
ANY = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANY, max_size=4), st.sampled_from(["hermes", "coder"]))
def test_any_parameters(parameters: dict[str, Any], style: Any) -> None:
    grammar, notices = call_grammar(style, [{"name": "f", "parameters": parameters}])
    assert len(notices) <= 1
    with suppress(GrammarError):
        assert grammar.compiled()
    Guides(Tokenizer.from_folder(TINY, 2176), [], "<function=").call_parser(
        [Tool("f", "", parameters)]
    )
    assert json.dumps(parameters)
