from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED, Oracle
from templates import CODER, HYBRID, INSTRUCT, OWN, THINKING

from qwen3_mlx.errors import CheckpointError, PromptError
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.tokenizer import Tokenizer

OFFICIAL = {file.stem: file for file in sorted((SHARED / "templates").glob("*.jinja"))}
SPECIAL = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": " It's <b>the</b> weather & more — 天气 ",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where", "enum": ["Köln", "北京"]},
                "days": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
            },
            "required": ["place"],
        },
    },
}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def system(text: Any) -> dict[str, Any]:
    return {"role": "system", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def tool(text: Any) -> dict[str, Any]:
    return {"role": "tool", "content": text}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


CALLED = assistant(
    "", tool_calls=[call("weather", {"place": "Köln", "days": [1], "m": {"a": 1.5}})]
)
LOOP = [
    user("Weather in Köln?"),
    assistant("", reasoning_content="I must look.", tool_calls=CALLED["tool_calls"]),
    tool('{"t": 7}'),
    assistant("Once more.", reasoning_content="And", tool_calls=2 * CALLED["tool_calls"]),
    tool("a < b & 'c'"),
    tool("\nb\n"),
]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": [user("hi")],
    "system": [system("Be brief."), user("hi")],
    "spaces": [system("  a "), user("\n hi \n"), assistant(" yo \n"), user(" ")],
    "turns": [user("1"), assistant("one"), user("2"), assistant("two"), user("3")],
    "second system": [user("1"), assistant("one"), system("Now in French."), user("2")],
    "thought in history": [
        user("1"),
        assistant("<think>\nhm\n\nso\n</think>\n\none"),
        user("2"),
        assistant("two", reasoning_content="\nwell\n"),
        user("3"),
    ],
    "ends with a thought": [user("1"), assistant("<think>\nhm\n</think>\n\none")],
    "ends with reasoning": [user("1"), assistant("one", reasoning_content="hm")],
    "ends with an answer": [user("1"), assistant("one")],
    "thought cut off": [user("1"), assistant("<think>\nhm"), user("2")],
    "tool loop": LOOP,
    "tool loop and answer": [system("S"), *LOOP, assistant("Rain.", reasoning_content="so")],
    "tool loop in history": [*LOOP, assistant("Rain."), user("Thanks"), assistant("<think>")],
    "tool result from the user": [
        user("a"),
        assistant("b", reasoning_content="c"),
        user("<tool_response>\nd\n</tool_response>"),
        assistant("e", reasoning_content="f"),
    ],
    "flat call": [user("a"), assistant("", tool_calls=[{"name": "f", "arguments": {"x": "y"}}])],
    "no arguments": [user("a"), assistant("", tool_calls=[call("now", {})]), tool("noon")],
    "languages": [system("你是助手。"), user("Größe? 🙂👩‍👧"), assistant("👍🏽"), user("שלום")],
    "control spellings": [user("<|im_end|> </think>"), assistant("<|im_start|>"), user("x")],
    "own key": [{"role": "user", "content": "hi", "name": "Ann"}],
}
SPELLING_CONTROL = ("control spellings", "tool result from the user")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"tools": [WEATHER]},
    {"tools": [WEATHER, WEATHER["function"]], "thinking": False},
    {"thinking": True},
    {"thinking": False},
    {"add_generation_prompt": False},
]


def official(name: str) -> str:
    return OFFICIAL[name].read_text(encoding="utf-8")


SOURCES = [*OWN, *OFFICIAL]


def source_of(name: str) -> str:
    return OWN.get(name) or official(name)


def test_official_templates_are_there() -> None:
    if not OFFICIAL:
        pytest.skip("the official templates are not in ../shared/qwen3: only our own are tested")
    assert len(OFFICIAL) >= 10


def expected_text(oracle: Oracle, source: str, messages: Any, **options: Any) -> str:
    """Transformers' rendering with our defaults and our name for the switch."""
    thinking = options.pop("thinking", None)
    if thinking is not None:
        options["enable_thinking"] = thinking
    options.setdefault("add_generation_prompt", True)
    return oracle(source, messages, **options)


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_equal_to_transformers(oracle: Oracle, small: Tokenizer, name: str, source: str) -> None:
    template = ChatTemplate(source_of(source), special_tokens=SPECIAL)
    messages = CONVERSATIONS[name]
    for options in OPTIONS:
        expected = expected_text(oracle, source_of(source), messages, **options)
        assert template.render(messages, **options) == expected
    if name in SPELLING_CONTROL:
        return
    for options in OPTIONS[:2]:
        plain = small.encode(template.render(messages, **options))
        assert template.render_ids(messages, small, **options) == plain
        # A variable that spells a control token and is not read turns the marking on.
        assert template.render_ids(messages, small, unread="<|im_end|>", **options) == plain


ODD: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "none": (
        [system(None), user("a"), assistant(None, tool_calls=CALLED["tool_calls"]), tool(None)],
        [system(""), user("a"), CALLED, tool("")],
    ),
    "missing": (
        [user("a"), {"role": "assistant", "tool_calls": CALLED["tool_calls"]}, tool("b")],
        [user("a"), CALLED, tool("b")],
    ),
    "null calls": (
        [user("a"), assistant("b", tool_calls=None, reasoning_content=None), user("c")],
        [user("a"), assistant("b"), user("c")],
    ),
    "parts": (
        [system([part("S")]), user([part("a"), part(" b")]), assistant([]), tool([part("c")])],
        [system("S"), user("a b"), assistant(""), tool("c")],
    ),
    "string arguments": (
        [user("a"), assistant("", tool_calls=[call("f", '{"b": 1,\n"a":"é"}')])],
        [user("a"), assistant("", tool_calls=[call("f", {"b": 1, "a": "é"})])],
    ),
    "empty arguments": (
        [user("a"), assistant("", tool_calls=[call("f", "")])],
        [user("a"), assistant("", tool_calls=[call("f", {})])],
    ),
    "reasoning": (
        [user("a"), assistant("b", reasoning="c")],
        [user("a"), assistant("b", reasoning_content="c")],
    ),
    "thinking": (
        [user("a"), assistant("b", thinking="c")],
        [user("a"), assistant("b", reasoning_content="c")],
    ),
    "both reasonings": (
        [user("a"), assistant("b", reasoning="x", reasoning_content="c")],
        [user("a"), assistant("b", reasoning_content="c")],
    ),
    "no tools": ([user("a")], [user("a")]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("source", SOURCES)
def test_odd_messages_render_as_ordinary_ones(oracle: Oracle, name: str, source: str) -> None:
    odd, ordinary = ODD[name]
    template = ChatTemplate(source_of(source), special_tokens=SPECIAL)
    expected = expected_text(oracle, source_of(source), ordinary)
    assert template.render(odd, tools=[] if name == "no tools" else None) == expected


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ending", ["The answer is", "The answer is  \n", "<think>\nhm", ""])
def test_continue_final(oracle: Oracle, source: str, ending: str) -> None:
    messages = [user("a"), assistant(ending)]
    template = ChatTemplate(source_of(source), special_tokens=SPECIAL)
    try:
        expected = expected_text(
            oracle,
            source_of(source),
            messages,
            add_generation_prompt=False,
            continue_final_message=True,
        )
    except ValueError:
        with pytest.raises(PromptError, match="cannot be continued"):
            template.render(messages, continue_final=True)
    else:
        assert template.render(messages, continue_final=True) == expected
        assert template.render(messages, continue_final=True, thinking=True) == expected


def test_only_the_assistants_message_can_be_continued() -> None:
    with pytest.raises(PromptError, match="the last one is the user's"):
        ChatTemplate(HYBRID).render([user("a")], continue_final=True)


def test_modes_are_read_from_the_template() -> None:
    modes = {
        name: (template.can_think, template.can_switch_thinking)
        for name in OWN
        for template in [ChatTemplate(OWN[name])]
    }
    assert modes == {
        "own-hybrid": (True, True),
        "own-thinking": (True, False),
        "own-instruct": (False, False),
        "own-coder": (False, False),
    }
    calls = {name for name in OWN if ChatTemplate(OWN[name]).can_call_tools}
    assert calls == {"own-hybrid", "own-coder"}
    assert not ChatTemplate(None).can_call_tools
    assert not ChatTemplate(None).can_think
    assert not ChatTemplate("{{ raise_exception('no') }}").can_think


@pytest.mark.skipif(not OFFICIAL, reason="the official templates are not in ../shared/qwen3")
def test_modes_of_the_official_families() -> None:
    for name in OFFICIAL:
        template = ChatTemplate(official(name))
        assert template.can_switch_thinking == ("hybrid" in name)
        assert template.can_think == ("hybrid" in name or "2507-thinking" in name)
        assert template.can_call_tools == ("reranker" not in name)


def test_dialect_of_transformers(oracle: Oracle) -> None:
    source = """
    {%- set ns = namespace(n=0) %}
    {%- for x in extra %}{% if x == 3 %}{% continue %}{% endif -%}
        {% set ns.n = ns.n + x %}
    {%- endfor %}
    {%- generation %}{% set inner = 1 %}[{{ ns.n }}]{% endgeneration %}
      {% if inner is defined %}leaked{% endif %}
    {{ {'b': '<é&>', 'a': [1, none, true]} | tojson }} {{ {'b': 1} | tojson(indent=2) }}
    {{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }} {{ dict(a=1) }}
    {{ bos_token is defined }} {{ eos_token }} {{ tools is none }} {{ documents is none }}
    {{ enable_thinking is defined }} {{ strftime_now('%Y') }} {{ missing }}
    """
    ours = ChatTemplate(source, special_tokens=SPECIAL).render([user("a")], extra=[1, 2, 3, 4])
    assert ours == oracle(source, [user("a")], add_generation_prompt=True, extra=[1, 2, 3, 4])
    assert str(datetime.date.today().year) in ours


def test_templates_may_refuse() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(PromptError, match="refuses this conversation: Roles must alternate"):
        template.render([user("a")])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}{{ messages.__class__.__base__.__subclasses__()[0] }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ range(999999999) | list }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.nothing.more }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(PromptError, match="cannot render this conversation"):
        ChatTemplate(source).render([user("a")])


def test_a_damaged_template_names_its_line() -> None:
    with pytest.raises(CheckpointError, match="damaged at line 2"):
        ChatTemplate("a\n{% if %}").render([user("a")])


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "conversation is empty"),
        (["hi"], "message 1 is a str"),
        ([user("a"), {"role": "robot", "content": "b"}], "message 2 has the role 'robot'"),
        ([{"content": "b"}], "message 1 has the role None"),
        ([user(7)], "content is a int"),
        ([user([{"type": "image_url", "image_url": {"url": "x"}}])], "type 'image_url'.*text only"),
        ([user([{"type": "text"}])], "type 'text'"),
        ([user([3])], "type 'int'"),
        ([{"role": "user", "content": "a", "name": object()}], "only JSON values"),
        ([assistant("a", reasoning=["b"])], "reasoning_content is not a string"),
        ([assistant("a", tool_calls=["f"])], "tool call of message 1 is a str"),
        ([assistant("a", tool_calls="f")], "tool_calls of message 1 is a str: give a list"),
    ],
)
def test_malformed_messages(messages: Any, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        ChatTemplate(HYBRID).render(messages)


def test_malformed_tools_and_variables() -> None:
    with pytest.raises(PromptError, match="a tool is a function"):
        ChatTemplate(HYBRID).render([user("a")], tools=[official])  # type: ignore[list-item]
    with pytest.raises(PromptError, match="template's variables holds a PosixPath"):
        ChatTemplate(HYBRID).render([user("a")], extra=Path())


def test_arguments_that_are_no_json() -> None:
    broken = [user("a"), assistant("", tool_calls=[call("f", '{"a": ')])]
    assert '"arguments": {"a": }' in ChatTemplate(HYBRID).render(broken)
    with pytest.raises(PromptError, match="arguments of tool calls"):
        ChatTemplate(CODER).render(broken)


def test_messages_are_not_changed() -> None:
    messages = [user([part("a")]), assistant(None, reasoning="b", tool_calls=[call("f", "{}")])]
    before = json.dumps(messages)
    ChatTemplate(HYBRID).render(messages)
    assert json.dumps(messages) == before


@pytest.mark.parametrize("role", ["query", "document"])
def test_roles_that_the_template_names_are_known(role: str) -> None:
    source = """{{ messages | selectattr("role", "eq", "query") | join(attribute="content") }}
    {%- if messages[0]["role"] == "document" %}{{ messages[0].content }}{% endif %}"""
    assert ChatTemplate(source).render([{"role": role, "content": "a"}]).strip() == "a"


def write(folder: Path, **files: Any) -> ChatTemplate:
    for name, value in files.items():
        if name == "jinja":
            (folder / "chat_template.jinja").write_text(value)
        else:
            (folder / f"{name}.json").write_text(json.dumps(value))
    return ChatTemplate.from_folder(folder)


def test_from_folder_in_order(tmp_path: Path) -> None:
    one = [user("a")]
    assert not write(tmp_path).exists
    template = write(tmp_path, chat_template={"chat_template": "json"})
    assert template.exists
    assert template.render(one) == "json"
    config: dict[str, Any] = {
        "chat_template": "config{{ eos_token }}{{ bos_token }}",
        "eos_token": {"content": "<|im_end|>"},
        "bos_token": None,
    }
    assert write(tmp_path, tokenizer_config=config).render(one) == "config<|im_end|>"
    config["chat_template"] = [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "tools"},
    ]
    template = write(tmp_path, tokenizer_config=config)
    assert [template.render(one), template.render(one, tools=[WEATHER])] == ["plain", "tools"]
    assert write(tmp_path, jinja="file {{ eos_token }}").render(one) == "file <|im_end|>"


def test_from_folder_with_a_damaged_config(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        ChatTemplate.from_folder(tmp_path)


def test_a_base_model_says_what_to_do(tmp_path: Path, small: Tokenizer) -> None:
    template = ChatTemplate.from_folder(tmp_path)
    for render in (template.render, lambda messages: template.render_ids(messages, small)):
        with pytest.raises(PromptError, match=r"Base model.*--raw"):
            render([user("a")])


def test_simple_families_read_well() -> None:
    turns = [system("S"), user("a")]
    assert ChatTemplate(INSTRUCT, special_tokens=SPECIAL).render(turns).strip() == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant"
    )
    assert ChatTemplate(THINKING).render(turns).endswith("assistant\n<think>\n")
