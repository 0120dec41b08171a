"""The server on the real engine: streams, company, schemas, faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agent_stand import until
from checkpoints import write_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_stand import CHAT, Stand, hi, serving

import qwen3_mlx
from qwen3_mlx import Qwen3, Sampling
from qwen3_mlx_app.server.command import _touch

QUESTION = "What is 12 + 30?"
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Work out an expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    model = qwen3_mlx.load("tiny", agent=False)
    with serving(model, probe=_touch) as made:
        yield made


def said(stand: Stand, text: str, **more: Any) -> Any:
    reply = stand.chat(text, temperature=0, **more)
    assert reply.status == 200, reply.data
    return reply.json["choices"][0]


@pytest.mark.parametrize("thinking", [False, True])
def test_streamed_whole_and_asked_are_one(stand: Stand, thinking: bool) -> None:
    model: Qwen3 = stand.model
    asked = model.ask(QUESTION, thinking=thinking, sampling=Sampling(temperature=0))
    message = said(stand, QUESTION, thinking=thinking)["message"]
    pieces = stand.chat(QUESTION, thinking=thinking, temperature=0, stream=True).pieces
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    for name, text in (("content", asked.text), ("reasoning_content", asked.thinking)):
        assert "".join(delta.get(name, "") for delta in deltas) == text
        assert message.get(name, "") == text
    assert bool(asked.thinking) is thinking
    assert "42" in asked.text


def test_the_newer_interface_says_the_same(stand: Stand) -> None:
    chat = said(stand, QUESTION)["message"]
    body = {"input": QUESTION, "temperature": 0, "top_logprobs": 1}
    reply = stand.ask("POST", "/v1/responses", body).json
    thought, words = reply["output"]
    assert thought["content"][0]["text"] == chat["reasoning_content"]
    assert words["content"][0]["text"] == chat["content"]
    tokens = words["content"][0]["logprobs"]
    assert "".join(token["token"] for token in tokens) == chat["content"]


def test_company_changes_no_answer(stand: Stand) -> None:
    questions = [f"What is {n} + 30?" for n in range(8)]
    alone = [said(stand, each, reasoning_effort="none")["message"] for each in questions]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda each: said(stand, each, reasoning_effort="none")["message"], questions)
        )
    assert together == alone


def test_what_was_read_is_counted_as_cached(stand: Stand) -> None:
    stand.chat("What is 77 + 11?", thinking=False)
    again = stand.chat("What is 77 + 11?", thinking=False).json["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] == again["prompt_tokens"] - 1


def test_an_answer_keeps_to_its_schema(stand: Stand) -> None:
    schema = {
        "type": "object",
        "properties": {"total": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["total", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    for thinking in (False, True):
        choice = said(stand, QUESTION, response_format=form, thinking=thinking, max_tokens=200)
        value = json.loads(choice["message"]["content"])
        assert sorted(value) == ["sure", "total"]
        assert type(value["total"]) is int
    free = said(stand, QUESTION, response_format={"type": "json_object"}, thinking=False)
    assert isinstance(json.loads(free["message"]["content"]), dict)


@pytest.mark.parametrize("thinking", [False, True])
def test_log_probabilities_are_those_of_the_answer(stand: Stand, thinking: bool) -> None:
    choice = said(stand, QUESTION, logprobs=True, top_logprobs=2, thinking=thinking)
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)
    assert all(bytes(token["bytes"]).decode() == token["token"] for token in tokens)
    pieces = stand.chat(QUESTION, temperature=0, logprobs=True, thinking=thinking, stream=True)
    told = [piece["choices"][0].get("logprobs") for piece in pieces.pieces]
    [streamed] = [each for each in told if each]
    assert [each["token"] for each in streamed["content"]] == [each["token"] for each in tokens]


def test_completions_have_log_probabilities(stand: Stand) -> None:
    body = {"prompt": "12 + 30 =", "max_tokens": 4, "temperature": 0, "logprobs": 1}
    choice = stand.ask("POST", "/v1/completions", body).json["choices"][0]
    odds = choice["logprobs"]
    assert "".join(odds["tokens"]) == choice["text"]
    assert choice["finish_reason"] == "length"
    assert [len(top) for top in odds["top_logprobs"]] == [1] * 4
    assert odds["text_offset"][0] == 0


def test_a_call_goes_out_its_result_comes_back(stand: Stand) -> None:
    messages: list[Any] = hi("What is 123 * 456?")["messages"]
    body = {"messages": messages, "tools": [CALCULATOR], "temperature": 0, "thinking": False}
    choice = stand.ask("POST", CHAT, body).json["choices"][0]
    [call] = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "calculator")
    assert json.loads(call["function"]["arguments"]) == {"expression": "123 * 456"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "56088"}
    body["messages"] = [*messages, choice["message"], result]
    answer = stand.ask("POST", CHAT, body).json["choices"][0]["message"]
    assert "56088" in answer["content"]


@pytest.mark.parametrize("thinking", [False, True])
def test_a_forced_call_comes_alone(stand: Stand, thinking: bool) -> None:
    """As clients ask that want a value: whatever the model would rather say."""
    choice = {"type": "function", "function": {"name": "calculator"}}
    fields = {"tools": [CALCULATOR], "tool_choice": choice, "thinking": thinking}
    answer = said(stand, "hello", **fields)
    [call] = answer["message"]["tool_calls"]
    assert (answer["finish_reason"], call["function"]["name"]) == ("tool_calls", "calculator")
    assert isinstance(json.loads(call["function"]["arguments"])["expression"], str)
    assert not answer["message"]["content"]


def test_stop_strings_seeds_and_budgets(stand: Stand) -> None:
    assert said(stand, QUESTION, thinking=False, stop="=")["message"]["content"] == "12 + 30 "
    thought = said(stand, QUESTION, thinking_budget=5)["message"]["reasoning_content"]
    assert 0 < len(stand.model.encode(thought)) <= 6
    drawn = [
        stand.chat(QUESTION, temperature=2, top_k=0, top_p=1, seed=5, thinking=False).json
        for _ in range(2)
    ]
    assert drawn[0]["choices"] == drawn[1]["choices"]


def test_prompts_that_are_too_long_are_told_in_numbers(stand: Stand) -> None:
    refused = stand.chat("x " * 9_000)
    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
    assert refused.error["param"] == "messages"
    assert "4,096" in refused.error["message"]


EXTREME = st.dictionaries(
    st.sampled_from([
        "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "seed", "max_tokens", "thinking_budget", "timeout",
    ]),
    st.sampled_from([0, 1, -1, 0.5, 2**31, 2**63, 2**64, 10**30, -(10**30), 1e-300, 1e300, -1e300]),
    max_size=4,
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EXTREME)
def test_no_number_harms_the_engine(stand: Stand, numbers: dict[str, Any]) -> None:
    with_end = {"max_tokens": 3} | numbers
    reply = stand.chat(**{**with_end, "stop": ["a", "e", "1", " "]})
    assert reply.status in (200, 400), (numbers, reply.data)
    assert stand.ask("GET", "/health").status == 200


def test_whoever_leaves_frees_the_engine(stand: Stand) -> None:
    """Also while the prompt is being read, which no token tells."""
    for text in (QUESTION, "one two three " * 600):
        connection = stand.open()
        more = {"max_tokens": 4_000, "stream": True, "temperature": 2, "top_k": 0, "top_p": 1}
        connection.request("POST", CHAT, json.dumps(hi(text) | more).encode())
        until(lambda: stand.gate.running == 1)
        connection.close()
        until(lambda: stand.gate.running == 0)
    assert "42" in said(stand, QUESTION, thinking=False)["message"]["content"]


def test_a_fault_of_the_engine_and_its_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(write_checkpoint(tmp_path / "model", dtype="F32", tokenizer=True))
    models: list[Qwen3] = []

    def load() -> Qwen3:
        models.append(qwen3_mlx.load(folder, agent=False))
        return models[-1]

    def broken() -> None:
        raise RuntimeError("[metal::malloc] out of memory")

    with serving(load=load, probe=_touch) as stand:
        assert stand.chat(max_tokens=3).status == 200
        monkeypatch.setattr(models[0]._engine._batch, "step", broken)
        failed = stand.chat(max_tokens=3)
        assert (failed.status, failed.error["code"]) == (500, "engine_fault")
        assert "out of memory" in failed.error["message"]
        assert stand.chat(max_tokens=3).status == 200
        until(lambda: stand.ask("GET", "/health").status == 200)
        assert stand.served.loads == 2
        models[1].close()  # as if its thread had ended
        assert stand.ask("GET", "/health").status == 503
        until(lambda: stand.ask("GET", "/health").status == 200)
        assert stand.chat(max_tokens=3).status == 200
