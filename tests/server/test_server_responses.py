"""/v1/responses: items in, items out, and a stream that ends in the whole answer."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_stand import Reply, serving

from qwen3_mlx import EngineError
from qwen3_mlx.events import Reply as LibraryReply
from qwen3_mlx.events import TextDelta, ThinkingDelta, ToolCall
from qwen3_mlx.testing import Answer
from qwen3_mlx_app.server import items
from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.responses import ResponseForm

PAGE = "/v1/responses"
ADD = {
    "type": "function",
    "name": "add",
    "strict": True,
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
SPACE = {"type": "namespace", "name": "agents", "tools": [ADD | {"name": "spawn"}]}
CALLS = (("add", {"a": 1}), ("spawn", {"a": 2}))
ANSWERS = {
    "text": Answer("It is 4, they say. 🗼"),
    "thought": Answer("Four.", thinking="Two and two,\nsays the book."),
    "calls": Answer("I add.", thinking="Both.", calls=CALLS),
    "only calls": Answer(calls=CALLS),
    "length": Answer("It is", finish_reason="length"),
    "cut thought": Answer(thinking="It is", finish_reason="length"),
    "repetition": Answer("no no no", finish_reason="repetition", notices=("it went in circles",)),
    "empty": Answer(""),
}


def without_chance(value: Any) -> Any:
    """The same without ids and times."""
    if isinstance(value, dict):
        hidden = ("id", "call_id", "created_at", "completed_at")
        return {name: without_chance(each) for name, each in value.items() if name not in hidden}
    return [without_chance(each) for each in value] if isinstance(value, list) else value


def said(response: Any, kind: str) -> str:
    found = [item for item in response["output"] if item["type"] == kind]
    return "".join(part["text"] for item in found for part in item["content"])


def check_events(events: list[Any]) -> Any:
    """What every stream keeps to, and what a client puts together from its pieces."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    made: list[Any] = []
    for event in events[2:-1]:
        assert event["output_index"] == len(made) - (event["type"] != "response.output_item.added")
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            made.append(event["item"] | {"said": ""})
        elif kind == "output_item.done":
            assert event["item"]["id"] == made[-1].pop("id")
            text = made[-1].pop("said")
            known = [part["text"] for part in event["item"].get("content", ())]
            assert (known or [event["item"]["arguments"]]) == [text]
        else:
            assert event["item_id"] == made[-1]["id"]
            made[-1]["said"] += event.get("delta", "")
    assert len(events[-1]["response"]["output"]) == len(made)
    return events[-1]["response"]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_stream_ends_in_the_whole_answer(answer: Answer) -> None:
    body = {"input": "hi", "tools": [ADD, SPACE]}
    with serving([answer, answer]) as stand:
        whole = stand.ask("POST", PAGE, body).json
        streamed = stand.ask("POST", PAGE, body | {"stream": True})
    last = check_events(streamed.events)

    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert without_chance(last) == without_chance(whole)
    assert said(whole, "message") == answer.text
    assert said(whole, "reasoning") == answer.thinking
    calls = [item for item in whole["output"] if item["type"] == "function_call"]
    assert [(each["name"], json.loads(each["arguments"])) for each in calls] == list(answer.calls)
    assert [each.get("namespace") for each in calls] == [None, "agents"][: len(calls)]
    cut = answer.finish_reason != "stop"
    assert whole["status"] == ("incomplete" if cut else "completed")
    assert whole["incomplete_details"] == ({"reason": "max_output_tokens"} if cut else None)
    assert whole["qwen3_mlx"]["finish_reason"] == answer.finish_reason
    if whole["output"]:
        assert whole["output"][-1]["status"] == whole["status"]


def test_usage_and_what_is_repeated() -> None:
    wishes = {"temperature": 0.5, "max_output_tokens": 50, "instructions": "Be brief."}
    tools = [ADD, {"type": "web_search"}]
    with serving([Answer("Four it is", thinking="Two and")]) as stand:
        reply = stand.ask("POST", PAGE, {"input": "hi", "tools": tools, **wishes}).json
        call = stand.model.calls[-1]
    assert reply["usage"]["output_tokens"] == 5
    assert reply["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    assert reply["usage"]["input_tokens_details"] == {"cached_tokens": 0}
    assert {name: reply[name] for name in wishes} == wishes
    assert reply["tools"] == [ADD]
    assert "web_search" in reply["qwen3_mlx"]["notices"][0]
    assert (call.max_tokens, call.sampling.temperature) == (50, 0.5)
    assert [tool.name for tool in call.tools] == ["add"]
    assert reply["object"] == "response"


def messages(given: Any, **more: Any) -> Any:
    return items.response({"input": given, **more}).prompt


def call(name: str = "add", number: int = 1) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": name, "arguments": "{}"}


def test_items_become_messages() -> None:
    thought = {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "A."}],
    }
    words = {"type": "message", "role": "assistant",
             "content": [{"type": "output_text", "text": "I "},
                         {"type": "refusal", "refusal": "won't."}]}  # fmt: skip
    result = {"type": "function_call_output", "call_id": "c1",
              "output": [{"type": "input_text", "text": "3"}]}  # fmt: skip
    made = messages(
        [{"role": "developer", "content": "Rules."}, {"role": "user", "content": "hi"},
         thought, words, call(), call("sub", 2), result, words, words],
        instructions="Be brief.",
    )  # fmt: skip

    assert [message["role"] for message in made] == [
        "system", "system", "user", "assistant", "tool", "assistant", "assistant",
    ]  # fmt: skip
    asked = made[3]
    assert (asked["content"], asked["reasoning_content"]) == ("I won't.", "A.")
    assert [(each["id"], each["function"]["name"]) for each in asked["tool_calls"]] == [
        ("c1", "add"), ("c2", "sub"),
    ]  # fmt: skip
    assert (made[4]["content"], made[4]["tool_call_id"]) == ("3", "c1")


def test_what_was_answered_may_be_sent_back() -> None:
    with serving([ANSWERS["calls"], "Four."]) as stand:
        body = {"input": [{"role": "user", "content": "hi"}], "tools": [ADD, SPACE]}
        first = stand.ask("POST", PAGE, body).json["output"]
        results = [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "3"}
            for item in first
            if item["type"] == "function_call"
        ]
        again = stand.ask("POST", PAGE, body | {"input": [*body["input"], *first, *results]})
        sent = stand.model.calls[-1].messages
    assert again.status == 200
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert sent[1]["reasoning_content"] == "Both."
    assert sent[1]["content"] == "I add."


def test_an_encrypted_thought_holds_nothing_to_read() -> None:
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    assert [each["role"] for each in messages([{"role": "user", "content": "a"}, thought])] == [
        "user"
    ]


@pytest.mark.parametrize(
    ("body", "wish", "value"),
    [
        ({"reasoning": {"effort": "none", "summary": "auto"}}, "thinking", False),
        ({"reasoning": {"effort": "high"}}, "thinking", True),
        ({"truncation": "auto"}, "overflow", "drop-oldest"),
        ({"truncation": "disabled"}, "overflow", None),
        ({"max_output_tokens": 7}, "max_tokens", 7),
        ({"top_logprobs": 2}, "logprobs", 2),
        ({"include": ["message.output_text.logprobs"]}, "logprobs", 0),
        ({"include": ["reasoning.encrypted_content"]}, "logprobs", None),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "add"}},
         "tool_choice", "add"),
        ({"thinking_budget": 9}, "thinking_budget", 9),
        ({"store": True, "client_metadata": {"a": "b"}, "prompt_cache_key": "k"}, "tools", None),
    ],
)  # fmt: skip
def test_wishes(body: dict[str, Any], wish: str, value: Any) -> None:
    assert items.response({"input": "hi", **body}).wishes.get(wish) == value


def test_a_schema() -> None:
    form = {"type": "json_schema", "name": "out", "strict": True, "schema": {"type": "object"}}
    assert items.response({"input": "hi", "text": {"format": form}}).wishes["grammar"]
    assert (
        "grammar"
        not in items.response({"input": "hi", "text": {"format": {"type": "text"}}}).wishes
    )


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": []}, "input", "a list of items"),
        ({"input": [3]}, "input", "input item 1 is none of"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input", "input item 1 is none of"),
        ({"input": [{"content": "hi"}]}, "input", "item 1: role must be a string"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input", "must be a string"),
        ({"input": [{"type": "reasoning", "content": "x"}]}, "input", "a list of parts"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input", "text only"),
        ({"previous_response_id": "r"}, "previous_response_id", "send the whole conversation"),
        ({"background": True}, "background", "leave it out"),
        ({"truncation": "some"}, "truncation", "auto or disabled"),
        ({"messages": []}, "messages", "of /v1/chat/completions"),
        ({"colour": "red"}, "colour", "is not a parameter"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort", "reasoning.effort must be one of"),
        ({"reasoning": {"colour": "red"}}, "reasoning.colour", "is not a parameter"),
        ({"text": {"format": {"type": "xml"}}}, "text.format", "text.format.type must be"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format", "text.format.schema must"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice", "by its name"),
        ({"tools": [ADD, {"type": "namespace", "tools": []}]}, "tools", "tool 2 has no name"),
        ({"tools": [{"type": "function"}]}, "tools", "needs a name"),
    ],
)  # fmt: skip
def test_refused(body: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(ApiError) as told:
        items.response({"input": "hi", **body})
    assert told.value.status == 400
    assert told.value.param == param
    assert words in told.value.message


def test_a_fault_is_the_last_event() -> None:
    fault = Answer("It is four", error=EngineError("the engine met a fault"), error_after=2)
    with serving([fault]) as stand:
        reply: Reply = stand.ask("POST", PAGE, {"input": "hi", "stream": True})
    last = check_events(reply.events)
    assert last["status"] == "failed"
    assert last["error"] == {"code": "engine_fault", "message": "the engine met a fault"}
    assert last["output"][0]["status"] == "incomplete"


EVENTS = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=4).map(lambda text: ThinkingDelta(text, 1)),
        st.text(min_size=1, max_size=4).map(lambda text: TextDelta(text, 1)),
        st.just(ToolCall("call_1", "add", {"a": 1})),
    ),
    max_size=12,
)


@given(EVENTS, st.sampled_from(["stop", "length"]))
def test_any_course_of_events(course: list[Any], reason: Any) -> None:
    reply = LibraryReply("", finish_reason=reason)
    form = ResponseForm("fake", {})
    events = [*form.opening()]
    for event in course:
        events += form.pieces(event)
    last = check_events([*events, *form.closing(reply)])

    again = ResponseForm("fake", {})
    for event in course:
        list(again.pieces(event))
    assert without_chance(again.whole(reply)) == without_chance(last)
    for kind, delta in (("message", TextDelta), ("reasoning", ThinkingDelta)):
        texts = [event.text for event in course if isinstance(event, delta)]
        assert said(last, kind) == "".join(texts)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8),
    st.sampled_from(["user", "assistant", "message", "reasoning", "function_call", "namespace",
                     "function", "function_call_output", "auto", "json_schema", "web_search"]),
)  # fmt: skip
NAMES = st.sampled_from([
    "role", "content", "type", "text", "call_id", "name", "arguments", "output", "summary", "tools",
    "function", "format", "effort", "schema", "parameters", "refusal",
])  # fmt: skip
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([
    "input", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "truncation",
    "max_output_tokens", "top_logprobs", "stream", "store", "metadata", "prompt", "conversation",
])  # fmt: skip


@given(st.dictionaries(FIELDS, ANY, max_size=5))
def test_any_body(body: dict[str, Any]) -> None:
    for each in (body, {"input": "hi"} | body, body | {"input": "hi"}):
        with suppress(ApiError):
            items.response(each)
            assert json.dumps(items.echo(each))
            items.left_out(each)
            items.namespaces(each)
