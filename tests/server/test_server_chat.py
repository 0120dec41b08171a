"""Answers of the server, in a scripted model's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from server_stand import CHAT, Reply, Stand, hi, serving

from qwen3_mlx import Sampling
from qwen3_mlx.grammar.grammar import Grammar
from qwen3_mlx.testing import Answer

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
CALLS = (("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}))
ANSWERS = {
    "text": Answer("It is 4, they say. 🗼"),
    "thought": Answer("Four.", thinking="Two and two,\nsays the book."),
    "calls": Answer("I add.", thinking="Both.", calls=CALLS),
    "only calls": Answer(calls=CALLS),
    "length": Answer("It is", finish_reason="length"),
    "timeout": Answer("It is", finish_reason="timeout"),
    "repetition": Answer("no no no", finish_reason="repetition", notices=("it went in circles",)),
    "empty": Answer(""),
}


def message(reply: Reply) -> Any:
    assert reply.status == 200, reply.data
    return reply.json["choices"][0]["message"]


def joined(pieces: list[Any]) -> tuple[dict[str, Any], str]:
    """The message that a client puts together, and its finish_reason."""
    made: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    reasons = []
    for choice in (choice for piece in pieces for choice in piece["choices"]):
        for name, text in choice["delta"].items():
            if name != "tool_calls":
                made[name] = made.get(name, "") + text
        for call in choice["delta"].get("tool_calls", ()):
            if call["index"] == len(calls):
                calls.append({"id": call["id"], "type": call["type"], "function": call["function"]})
            else:
                calls[-1]["function"]["arguments"] += call["function"]["arguments"]
        reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert len(reasons) == 1
    return made | ({"tool_calls": calls} if calls else {}), reasons[0]


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "tool_calls": [{**call, "id": ""} for call in message.get("tool_calls", ())]}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_stream_is_the_whole_answer_in_pieces(answer: Answer) -> None:
    with serving([answer, answer]) as stand:
        whole = stand.chat(tools=[ADD]).json
        streamed = stand.chat(tools=[ADD], stream=True, stream_options={"include_usage": True})
    made, reason = joined(streamed.pieces)
    said = {key: value for key, value in whole["choices"][0]["message"].items() if key != "refusal"}
    said["content"] = said["content"] or ""

    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert without_ids(made) == without_ids(said)
    assert reason == whole["choices"][0]["finish_reason"]
    assert streamed.pieces[-1]["choices"] == []
    assert streamed.pieces[-1]["usage"] == whole["usage"]
    assert streamed.pieces[-2]["qwen3_mlx"] == whole["qwen3_mlx"]
    assert said["content"] == answer.text
    assert said.get("reasoning_content", "") == answer.thinking
    assert len({piece["id"] for piece in streamed.pieces}) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [("text", "stop"), ("length", "length"), ("timeout", "length"), ("calls", "tool_calls")],
)
def test_reasons_to_end(name: str, reason: str) -> None:
    answer = ANSWERS[name]
    with serving([answer]) as stand:
        reply = stand.chat(tools=[ADD]).json
    assert reply["choices"][0]["finish_reason"] == reason
    assert reply["qwen3_mlx"]["finish_reason"] == answer.finish_reason


def test_an_answer_tells_its_notices_and_counts() -> None:
    with serving([Answer("Four it is", thinking="Two and", notices=("mind",))]) as stand:
        reply = stand.chat().json
    assert reply["qwen3_mlx"]["notices"] == ["mind"]
    assert reply["qwen3_mlx"]["thought_ended_by"] == "model"
    assert reply["usage"]["completion_tokens"] == 5
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "fake"


def test_a_stream_without_usage_tells_none() -> None:
    with serving() as stand:
        pieces = stand.chat(stream=True).pieces
    assert all(len(piece["choices"]) == 1 and "usage" not in piece for piece in pieces)
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"


WISHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_tokens": 5}, {"max_tokens": 5}),
    ({"max_completion_tokens": 5, "max_tokens": 5}, {"max_tokens": 5}),
    ({"temperature": 0, "top_p": 0.5}, {"sampling": Sampling(temperature=0.0, top_p=0.5)}),
    (
        {"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1},
        {"sampling": Sampling(top_k=3, min_p=0.1, repetition_penalty=1.1)},
    ),
    (
        {"presence_penalty": 1, "frequency_penalty": 0.5},
        {"sampling": Sampling(presence_penalty=1.0, frequency_penalty=0.5)},
    ),
    ({"seed": 7, "stop": "x"}, {"seed": 7, "stop": ("x",)}),
    ({"stop": ["x", "y"]}, {"stop": ("x", "y")}),
    ({"timeout": 90}, {"timeout": 90.0}),
    ({"reasoning_effort": "none"}, {"thinking": False}),
    ({"reasoning_effort": "low"}, {"thinking": True}),
    ({"thinking": False, "reasoning_effort": "none"}, {"thinking": False}),
    ({"enable_thinking": True, "thinking_budget": 9}, {"thinking": True, "thinking_budget": 9}),
    ({"chat_template_kwargs": {"enable_thinking": False}}, {"thinking": False}),
    ({"response_format": {"type": "text"}}, {"grammar": None}),
    ({"response_format": {"type": "json_object"}}, {"grammar": Grammar.json({"type": "object"})}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}},
        {"grammar": Grammar.json({"type": "null"})},
    ),
    ({"tools": [ADD], "tool_choice": "none"}, {"tools": ()}),
    ({"user": "anna", "store": True, "metadata": {"a": "b"}, "n": 1, "logit_bias": {}}, {}),
    ({"temperature": None, "stop": None, "tools": None}, {"sampling": None}),
]


@pytest.mark.parametrize(("body", "wishes"), WISHES)
def test_parameters_become_wishes(body: dict[str, Any], wishes: dict[str, Any]) -> None:
    with serving(["null"]) as stand:
        reply = stand.chat(**body)
        assert reply.status == 200, reply.data
    [call] = stand.model.calls
    assert {name: getattr(call, name) for name in wishes} == wishes


def test_logprobs_are_asked_for() -> None:
    with serving(["a", "b"]) as stand:
        stand.chat(logprobs=True, top_logprobs=3)
        stand.chat(logprobs=True)
    assert [call.more["logprobs"] for call in stand.model.calls] == [3, 0]


@pytest.mark.parametrize(
    ("choice", "wish"),
    [("required", "required"), ({"type": "function", "function": {"name": "add"}}, "add"),
     ("auto", None), (None, None)],
)  # fmt: skip
def test_a_call_can_be_forced(choice: Any, wish: str | None) -> None:
    with serving(["null"]) as stand:
        assert stand.chat(tools=[ADD], tool_choice=choice).status == 200
    assert stand.model.calls[0].more.get("tool_choice") == wish


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"functions": [{}]}, "functions"),
    ({"mirostat": 1}, "mirostat"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"seed": 1.5}, "seed"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"stop": [1]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"colour": 1}}, "stream_options.colour"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"reasoning_effort": "much"}, "reasoning_effort"),
    ({"chat_template_kwargs": {"colour": 1}}, "chat_template_kwargs.colour"),
    ({"tool_choice": "required"}, "tools"),
    ({"tool_choice": "any", "tools": [ADD]}, "tool_choice"),
    ({"tool_choice": {"type": "function"}, "tools": [ADD]}, "tool_choice"),
    ({"tool_choice": {"function": {"name": "subtract"}}, "tools": [ADD]}, "tool_choice"),
    ({"tools": [{"type": "retrieval"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools"),
    ({"tools": [ADD, ADD]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
    ({"response_format": {"json_schema": {}}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}},
        "response_format",
    ),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages"),
    ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages"),
    ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_what_cannot_be_done_is_refused(body: dict[str, Any], param: str) -> None:
    with serving() as stand:
        reply = stand.chat(**body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert reply.error["type"] == "invalid_request_error"
    assert "\n" not in reply.error["message"]
    assert stand.model.calls == []


def test_thinking_that_contradicts_itself() -> None:
    with serving() as stand:
        reply = stand.chat(thinking=True, reasoning_effort="none")
    assert reply.status == 400
    assert "contradict" in reply.error["message"]


def test_calls_go_out_and_come_back() -> None:
    with serving([ANSWERS["calls"], "Seven."]) as stand:
        first = message(stand.chat("add", tools=[ADD]))
        calls = first["tool_calls"]
        assert [json.loads(call["function"]["arguments"]) for call in calls] == [
            arguments for _, arguments in CALLS
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "3"} for call in calls]
        body = {"messages": [*hi("add")["messages"], first, *results], "tools": [ADD]}
        assert message(stand.ask("POST", CHAT, body))["content"] == "Seven."
    user, assistant, *tools = stand.model.calls[1].messages
    assert (user["role"], assistant["role"], len(tools)) == ("user", "assistant", 2)
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": 2}
    assert assistant["reasoning_content"] == "Both."
    assert [tool.name for tool in stand.model.calls[1].tools] == ["add"]


@pytest.mark.parametrize("streams", [False, True])
def test_one_call_at_a_time(streams: bool) -> None:
    with serving([ANSWERS["calls"]]) as stand:
        reply = stand.chat(tools=[ADD], parallel_tool_calls=False, stream=streams)
    if streams:
        made, reason = joined(reply.pieces)
    else:
        made, reason = message(reply), reply.json["choices"][0]["finish_reason"]
    assert len(made["tool_calls"]) == 1
    assert reason == "tool_calls"
    assert made["content"] == "I add."


def test_parts_and_the_developer_arrive_as_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {
        "messages": [
            {"role": "developer", "content": "Be brief.", "name": None},
            {"role": "user", "content": parts},
        ]
    }
    with serving() as stand:
        assert message(stand.ask("POST", CHAT, body))["content"] == "AB"
    assert [each["role"] for each in stand.model.calls[0].messages] == ["system", "user"]


def test_completions_are_raw() -> None:
    with serving(["two", "two"]) as stand:
        body = {"prompt": ["one"], "max_tokens": 9, "logprobs": None, "echo": False}
        whole = stand.ask("POST", "/v1/completions", body).json
        streamed = stand.ask("POST", "/v1/completions", {"prompt": "one", "stream": True}).pieces
    assert whole["object"] == "text_completion"
    assert whole["choices"] == [
        {"index": 0, "text": "two", "finish_reason": "stop", "logprobs": None}
    ]
    assert "".join(piece["choices"][0]["text"] for piece in streamed) == "two"
    assert [call.more["raw"] for call in stand.model.calls] == [True, True]
    assert stand.model.calls[0].prompt == "one"


@pytest.mark.parametrize("prompt", [None, 5, [1, 2], ["a", "b"], [[1]], {}])
def test_prompts_that_are_no_text(prompt: Any) -> None:
    with serving() as stand:
        reply = stand.ask("POST", "/v1/completions", {"prompt": prompt})
    assert (reply.status, reply.error["param"]) == (400, "prompt")


@pytest.mark.parametrize("body", [{"echo": True}, {"best_of": 3}, {"suffix": "!"}])
def test_completions_refuse_what_they_cannot_do(body: dict[str, Any]) -> None:
    with serving() as stand:
        reply = stand.ask("POST", "/v1/completions", {"prompt": "one", **body})
    assert (reply.status, [reply.error["param"]]) == (400, list(body))


def names(stand: Stand) -> list[str]:
    return [each["id"] for each in stand.ask("GET", "/v1/models").json["data"]]


def test_the_model_has_its_names_and_no_other_is_loaded() -> None:
    with serving() as stand:
        assert names(stand) == ["fake"]
        assert stand.ask("GET", "/v1/models/org%2Ffake").json["id"] == "fake"
        assert stand.ask("GET", "/v1/models/other").status == 404
        for name in ("fake", "org/fake"):
            assert stand.chat(model=name).status == 200
        for name in ("gpt-4o", "/etc/passwd", "https://example.com/model", "Qwen/Qwen3-4B"):
            reply = stand.chat(model=name)
            assert (reply.status, reply.error["code"]) == (404, "model_not_found")
            assert "'fake'" in reply.error["message"]
    assert stand.served.loads == 1
