"""The parser of requests: whatever comes, it understands or refuses in one sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_mlx_app.server import asked
from qwen3_mlx_app.server.asked import Asked
from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.fields import json_object

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["user", "assistant", "tool", "none", "auto", "function", "object", "text"]),
)  # fmt: skip
NAMES = st.sampled_from([
    "role", "content", "type", "text", "tool_calls", "function", "name", "arguments", "parameters",
    "properties", "required", "schema", "json_schema", "enable_thinking", "include_usage", "id",
    "reasoning_content", "tool_call_id",
])  # fmt: skip
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([
    "messages", "prompt", "model", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "top_k", "min_p", "presence_penalty", "seed", "stop", "n", "logprobs", "top_logprobs", "tools",
    "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking",
    "thinking_budget", "chat_template_kwargs", "stream", "stream_options", "logit_bias", "user",
    "functions", "echo", "timeout", "colour",
])  # fmt: skip
BODIES = st.dictionaries(FIELDS, ANY, max_size=6)
GOOD = {"messages": [{"role": "user", "content": "hi"}]}


def understood(parse: Any, body: dict[str, Any]) -> Asked | None:
    try:
        made: Asked = parse(body)
    except ApiError as error:
        told = error
    else:
        return made
    assert told.status == 400
    assert "\n" not in told.message
    assert json.dumps(told.body())
    return None


def test_parameters_as_other_languages_write_them() -> None:
    schema = {"type": "object", "properties": {"v": True}, "required": None, "$defs": None}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    made = asked.chat(GOOD | {"tools": tools})
    assert made.wishes["tools"][0].name == "f"


def test_arguments_nested_beyond_reason_are_shown_as_they_are() -> None:
    deep = '{"a":' + "[" * 5000 + "]" * 5000 + "}"
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": deep}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    made = asked.chat({"messages": [*GOOD["messages"], message]})
    assert made.prompt[-1]["tool_calls"][0]["function"]["arguments"] == deep


@given(BODIES)
def test_any_chat(body: dict[str, Any]) -> None:
    understood(asked.chat, body)
    understood(asked.chat, GOOD | body)
    understood(asked.chat, body | GOOD)


@given(BODIES)
def test_any_completion(body: dict[str, Any]) -> None:
    understood(asked.completion, body)
    understood(asked.completion, body | {"prompt": "hi"})


@given(st.lists(ANY, max_size=4))
def test_any_messages(messages: list[Any]) -> None:
    made = understood(asked.chat, {"messages": messages})
    assert made is None or all(isinstance(each["content"], str) for each in made.prompt)  # type: ignore[index]


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with suppress(ApiError):
        assert isinstance(json_object(data), dict)


@given(ANY)
def test_what_json_writes_is_read(value: Any) -> None:
    try:
        text = json.dumps({"a": value}, allow_nan=False)
    except ValueError:
        return
    assert json_object(text.encode()) == {"a": value}


@pytest.mark.parametrize("depth", [90, 500, 5_000, 100_000])
def test_depth(depth: int) -> None:
    data = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
    if depth < 100:
        assert json_object(data)
    else:
        with pytest.raises(ApiError, match="nested deeper than 100"):
            json_object(data)


def test_what_differs_only_in_fields_that_change_nothing() -> None:
    assert asked.chat(GOOD | {"user": "a", "store": False}) == asked.chat(GOOD)
