"""A model at the agent: what neither it nor the folder can tell is done by one loaded here."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from agent_stand import agent, until

import qwen3_mlx
from qwen3_mlx import api
from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Prefill
from qwen3_mlx.testing import Answer, FakeGeneration, FakeModel
from qwen3_mlx.warm import link
from qwen3_mlx.warm.model import WarmGeneration, WarmModel, warm_model

HI = [{"role": "user", "content": "hi"}]


class Seeing(FakeModel):
    """One that can be looked into, and whose tags are tokens."""

    def encode(self, text: str) -> list[int]:
        return [7] if text == "</think>" else super().encode(text)

    def logits(self, token_ids: list[int]) -> int:
        return len(token_ids)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded here; each takes a moment, in which others can ask for it."""
    made: list[str] = []

    def load(name: str, **options: Any) -> FakeModel:
        made.append(name)
        threading.Event().wait(0.1)
        return Seeing([])

    monkeypatch.setattr(api, "load", load)
    return made


def test_threads_that_need_it_load_it_once(loads: list[str]) -> None:
    model = WarmModel("tiny", {}, FakeModel([]).info)
    threads = [threading.Thread(target=lambda: model.logits([1, 2])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["tiny"]


def test_cancel_reaches_an_answer_that_is_given_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the agent is gone."""
    monkeypatch.setattr(api, "load", lambda name, **_: FakeModel([Answer("a b c", pause_after=1)]))
    model = WarmModel("tiny", {}, FakeModel([]).info)
    model._here("for this test")
    answer = model.stream("?")
    model.cancel()
    assert answer.result().finish_reason == "cancelled"


def test_a_name_that_no_model_has_loads_none(loads: list[str]) -> None:
    model = WarmModel("tiny", {}, FakeModel([]).info)
    assert not hasattr(model, "no_such_name")
    with pytest.raises(AttributeError, match="a model has no 'telepathy'"):
        model.telepathy("hello")
    assert loads == []


def test_what_needs_no_weights_loads_none(
    loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": {}}}]
    for name in ("render", "encode", "decode"):
        assert name in vars(WarmModel)
    model = WarmModel("tiny", {}, FakeModel([]).info)
    told = [model.render(HI), model.render(HI, tools, False), model.encode("a<|im_end|>")]
    told += [model.decode(model.encode("one two")), model.plan]
    model.thoughts.remember(["call_1"], "I need the time.")
    assert loads == []
    monkeypatch.undo()
    with qwen3_mlx.load("tiny", agent=False) as other:
        assert told == [
            other.render(HI), other.render(HI, tools, False), other.encode("a<|im_end|>"),
            "one two", other.plan,
        ]  # fmt: skip


def test_the_agent_tells_its_plan_as_it_is(
    loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    options: dict[str, Any] = {"memory_limit": "100MB"}
    with (
        qwen3_mlx.load("tiny", agent=False, **options) as loaded,
        agent(load=lambda tell: loaded, flags=options),
    ):
        model = warm_model("tiny", options)
        assert model is not None
        assert model.plan == loaded.plan
        assert model.plan is not None
        assert model.plan.slots


def test_thoughts_of_calls_go_along(loads: list[str]) -> None:
    """An agent forgets them when it lets its model go; whoever holds the model here does not."""
    first = Answer(thinking="I need the time.", calls=(("now", {}),))
    with agent([first, "noon"]) as server:
        model = warm_model("tiny", {})
        assert model is not None
        [call] = model.ask("The time?", tools=[_now]).tool_calls
        model.ask([*HI, {"role": "assistant", "content": "", "tool_calls": [{"id": call.id}]}])
    assert server.model.calls[1].messages[1]["reasoning_content"] == "I need the time."
    assert loads == []


@pytest.fixture
def minimums(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What scripted answers were told of the least length of their thought."""
    heard: list[int] = []
    monkeypatch.setattr(
        FakeGeneration, "think_more", lambda self, least: heard.append(least), raising=False
    )
    return heard


def test_more_thought_can_be_asked_for_and_no_more_than_the_context(minimums: list[int]) -> None:
    with agent(Seeing([Answer("yes", thinking="hm " * 9, pause_after=2)])) as server:
        model = warm_model("tiny", {})
        assert model is not None
        generation = model.stream("hi")
        events = iter(generation)
        assert isinstance(next(events), Prefill)
        for least in (7, 10**30, -3):
            generation.think_more(least)
        until(lambda: len(minimums) == 3)
        server.model.go_on()
        assert generation.result().text == "yes"
        generation.think_more(9)  # nothing, as it has ended
    assert minimums == [7, model.info.context, 0]


def test_who_has_read_the_end_says_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the thread that reads the agent may not have come to its own end yet."""
    told: list[str] = []
    leave = threading.Event()
    monkeypatch.setattr(link.Stream, "_tell", lambda self, do, **more: told.append(do))
    monkeypatch.setattr(WarmGeneration, "_finish", lambda self: leave.wait(10))
    with agent(Seeing([Answer("yes", thinking="hm")])):
        model = warm_model("tiny", {})
        assert model is not None
        generation = model.stream("hi")
        assert generation.result().text == "yes"
        generation.think_more(9)
        generation.answer_now()
        generation.cancel()
        leave.set()
    assert told == []


def test_an_answer_without_a_thought_cannot_be_held_open(minimums: list[int]) -> None:
    info = qwen3_mlx.ModelInfo("x", "4-bit", 512, 1, can_think=False, can_switch_thinking=False)
    for scripted in (Seeing(["yes"], info=info), FakeModel(["yes"])):  # no thought, no tag
        with agent(scripted):
            model = warm_model("tiny", {})
            assert model is not None
            with pytest.raises(OptionError, match="no thought"):
                model.stream("hi").think_more(3)
    assert minimums == []


def _now() -> str:
    """The time."""
    return "12:00"
