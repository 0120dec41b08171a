"""Tool calls in streams: cut anywhere, read the same, and rendered back to the same ids."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx.events import Notice, ToolCall, ToolCallDelta, ToolCallStarted
from qwen3_mlx.text.calls import CallParser, Style, parse_calls
from qwen3_mlx.text.typing_values import typed

ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"city": "Zürich"},
    {"city": "東京 🗼", "days": 3},
    {"text": 'quotes " and \\ and \n newlines\tand tabs'},
    {"text": "ends with newline\n"},
    {"text": "</tool_call>"},
    {"text": "<tool_call>\n{}"},
    {"text": "}{][\",:"},
    {"text": ""},
    {"n": -1.5, "flag": True, "none": None},
    {"items": [1, [2, {"a": "]"}], "x"], "map": {"k": {"k": {}}}},
    {"flag": False, "text": "True"},
    {"text": "a</parameter> b", "n": 0},
    {"text": "<parameter=x>"},
    {"days": 12345678901234567890},
]  # fmt: skip
KINDS = {"text": "string", "city": "string", "days": "integer", "n": "number", "flag": "boolean",
         "none": "null", "items": "array", "map": "object"}  # fmt: skip
SCHEMAS = {name: {"type": kind} for name, kind in KINDS.items()}
TOOLS = dict.fromkeys(("weather", "get.time-2", "f"), SCHEMAS)
BROKEN: dict[Style, list[str]] = {
    "hermes": [
        "<tool_call>{bad}</tool_call> after",
        "<tool_call>nothing",
        "<tool_call></tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {"text": "open}\n</tool_call>\nmore',
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {}} junk</tool_call>x',
        '<tool_call>["name"]</tool_call>',
        '<tool_call>{"name": "f", "argu',
    ],
    "coder": [
        "<tool_call>\n<function=f>\njunk</function></tool_call>x",
        "<tool_call>\n<function=f>\n<parameter=text>\nx",
        "<tool_call>\n<function=f>\n<parameter=text>\nx\n</parameter>\n",
        "<tool_call>\n<function=f\n</tool_call>",
        "<tool_call>\nhello</tool_call> there",
        "<tool_call></tool_call>",
        "<tool_call>\n<function=f>\n<parameter=n>\n1\n</parameter>\n<parameter=n>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
    ],
}


def written(style: Style, name: str, arguments: dict[str, Any]) -> str:
    """A call as the templates write it."""
    if style == "hermes":
        inner = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        return f"<tool_call>\n{inner}\n</tool_call>"
    parts = [
        f"<parameter={key}>\n{_coder_value(value)}\n</parameter>\n"
        for key, value in arguments.items()
    ]
    return f"<tool_call>\n<function={name}>\n{''.join(parts)}</function>\n</tool_call>"


def _coder_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def good(style: Style) -> list[tuple[str, list[tuple[str, dict[str, Any]]], str]]:
    """Answers with the calls and the text that are in them."""
    one = [(written(style, "f", arguments), [("f", arguments)], "") for arguments in ARGUMENTS]
    said = [(f"Let me see.\n{text}", calls, "Let me see.") for text, calls, _ in one]
    pairs = [(f"{one[n][0]}\n{one[-n - 1][0]}", one[n][1] + one[-n - 1][1], "") for n in range(5)]
    other = [
        ("Just text < tool_call >", [], "Just text < tool_call >"),
        ("almost <tool_cal", [], "almost <tool_cal"),
        (written(style, "get.time-2", {}) + "\nDone.", [("get.time-2", {})], "\nDone."),
        (written(style, "f", {}).removesuffix("</tool_call>"), [("f", {})], ""),
    ]
    return [*one, *said, *pairs, *other]


STYLES: list[Style] = ["hermes", "coder"]
GOOD = [(style, *case) for style in STYLES for case in good(style)]
ALL = [(style, text) for style, text, *_ in GOOD] + [
    (style, text) for style in STYLES for text in BROKEN[style]
]


def test_there_are_enough_cases() -> None:
    assert len(ALL) >= 80


def read(style: Style, pieces: Sequence[str]) -> dict[str, Any]:
    """Everything that does not depend on how the text was cut."""
    parser = CallParser(style, TOOLS)
    events = [event for piece in pieces for event in parser.push(piece)]
    events += parser.finish()
    deltas: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            deltas[event.index] = deltas.get(event.index, "") + event.text
    return {
        "text": "".join(event for event in events if isinstance(event, str)),
        "calls": [(e.name, e.arguments) for e in events if isinstance(e, ToolCall)],
        "started": [(e.index, e.name) for e in events if isinstance(e, ToolCallStarted)],
        "deltas": deltas,
        "notices": [event.text for event in events if isinstance(event, Notice)],
    }


@pytest.mark.parametrize(("style", "text", "calls", "said"), GOOD)
def test_calls_and_text(style: Style, text: str, calls: list[Any], said: str) -> None:
    if style == "coder" and any("none" in arguments for _, arguments in calls):
        pytest.skip("Python's None is the template's spelling of null")
    found = read(style, [text])
    assert found["calls"] == calls
    assert found["text"] == said
    assert not found["notices"]
    if '"arguments"' in text or style == "coder":
        assert [json.loads(delta) for delta in found["deltas"].values()] == [
            arguments for _, arguments in calls
        ]


@pytest.mark.parametrize(("style", "text"), ALL)
def test_one_character_at_a_time(style: Style, text: str) -> None:
    assert read(style, list(text)) == read(style, [text])


@given(st.sampled_from(ALL), st.data())
@settings(max_examples=150)
def test_any_chunking(case: tuple[Style, str], data: st.DataObject) -> None:
    style, text = case
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    places = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert read(style, pieces) == read(style, [text])


@given(st.sampled_from(STYLES), st.text('<>/tool_cal{}"\\ \nfunctio=prme', max_size=80))
@settings(max_examples=150)
def test_nothing_is_ever_dropped(style: Style, text: str) -> None:
    """What is no call is text, to the letter; only the newline before a call goes with it."""
    found = read(style, list(text))
    if not found["calls"]:
        assert found["text"] == text


@pytest.mark.parametrize(("style", "text"), [(s, t) for s in STYLES for t in BROKEN[s]])
def test_malformed_calls_come_back_as_text(style: Style, text: str) -> None:
    said, calls, notices = parse_calls(text, style, TOOLS)
    assert (said, calls) == (text, [])
    assert len(notices) == 1
    assert "malformed" in notices[0]


def test_a_call_after_a_broken_one_is_read() -> None:
    for style in STYLES:
        whole = written(style, "f", {"days": 2})
        said, calls, _ = parse_calls(f"<tool_call>oops</tool_call>\n{whole}", style, TOOLS)
        assert said == "<tool_call>oops</tool_call>"
        assert [(call.name, call.arguments) for call in calls] == [("f", {"days": 2})]


def test_arguments_stream() -> None:
    """A long text comes piece by piece, not at its end."""
    text = written("coder", "f", {"text": "word " * 50})
    parser = CallParser("coder", TOOLS)
    seen = [len([*parser.push(char)]) for char in text]
    assert sum(seen) > 200
    text = written("hermes", "f", {"text": "word " * 50})
    parser = CallParser("hermes", TOOLS)
    assert sum(len([*parser.push(char)]) for char in text) > 200


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "integer"}, 3),
        ("3", {"type": "string"}, "3"),
        ("3.0", {"type": "integer"}, 3.0),
        ("3.5", {"type": "integer"}, "3.5"),
        ("True", {"type": "boolean"}, True),
        ("None", {"type": ["string", "null"]}, None),
        ("yes", {"type": "boolean"}, "yes"),
        ("[1]", {"type": "array"}, [1]),
        ("[1", {"type": "array"}, "[1"),
        ("7", {"type": ["integer", "string"]}, 7),
        ("x", {"type": ["integer", "string"]}, "x"),
        ("NaN", {"type": ["number", "null"]}, "NaN"),
        ("1e400", {"type": "number"}, "1e400"),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("anything", {}, "anything"),
    ],
)
def test_values_by_schema(text: str, schema: dict[str, Any], value: Any) -> None:
    made = typed(text, schema)
    assert made == value
    assert type(made) is type(value)
