"""Events over the wire: what goes in comes out, and only values of the right types come in."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_mlx import errors, events
from qwen3_mlx.errors import MemoryPlanError, OptionError, PromptError
from qwen3_mlx.events import Done, Event, Failed, Reply, TextDelta
from qwen3_mlx.interface import Sampling
from qwen3_mlx.statistics import ExpertStats
from qwen3_mlx.testing import FakeModel
from qwen3_mlx.warm.codec import arguments, event_of, plain, plain_event

KINDS = [kind for kind in get_args(Event) if kind is not Failed]


SPECIAL = {"DownloadPaused", "IncompleteError", "MemoryPlanError"}  # they take other arguments
_SIMPLE = {
    str: st.text(max_size=8), int: st.integers(), bool: st.booleans(),
    float: st.floats(allow_nan=False), type(None): st.none(),
}  # fmt: skip


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a hint, as events have them (`st.from_type` takes half a minute to begin)."""
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return st.builds(
            hint, **{name: values(each) for name, each in get_type_hints(hint).items()}
        )
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return st.sampled_from(inner)
    if get_origin(hint) is Mapping:
        return st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.integers()))
    if get_origin(hint) is tuple and inner[-1] is not ...:
        return st.tuples(*map(values, inner))
    if get_origin(hint) is tuple:
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    return st.one_of(*map(values, inner)) if inner else _SIMPLE.get(hint, st.text(max_size=8))


@given(event=st.one_of(*map(values, KINDS)))
def test_every_event_comes_back(event: Event) -> None:
    sent = json.loads(json.dumps(plain_event(event)))
    assert sent["event"] == type(event).__name__
    back = event_of(sent)
    assert back == event


def test_a_reply_with_figures_of_experts_comes_back() -> None:
    reply = Reply("42", notices=("one",), experts=ExpertStats(slots=(3, 4)))
    assert event_of(json.loads(json.dumps(plain_event(Done(reply))))) == Done(reply)


@pytest.mark.parametrize("name", [each for each in errors.__all__ if each not in SPECIAL])
def test_errors_come_back_as_what_they_were(name: str) -> None:
    back = event_of(plain_event(Failed(getattr(errors, name)("too long"), kept="4")))
    assert isinstance(back, Failed)
    assert (type(back.error).__name__, str(back.error), back.kept) == (name, "too long", "4")


def test_a_plan_that_is_refused_keeps_its_number() -> None:
    back = event_of(plain_event(Failed(MemoryPlanError("too small", 10**9))))
    assert isinstance(back, Failed)
    assert isinstance(back.error, MemoryPlanError)
    assert back.error.smallest == 10**9


def test_an_unknown_error_is_a_fault_of_the_engine() -> None:
    back = event_of({"event": "Failed", "error": {"type": "SystemExit", "message": "no"}})
    assert isinstance(back, Failed)
    assert isinstance(back.error, errors.EngineError)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"event": "Reply", "text": "x"},
        {"event": "__name__"},
        {"event": "TextDelta", "text": "x"},
        {"event": "TextDelta", "text": 3, "tokens": 1},
        {"event": "TextDelta", "text": "x", "tokens": True},
        {"event": "TextDelta", "text": "x", "tokens": 1, "more": 1},
        {"event": "Done", "reply": {"text": "x", "finish_reason": "bored"}},
        {"event": "Done", "reply": []},
    ],
)
def test_what_is_no_event_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        event_of(message)


def test_wishes_become_arguments_of_their_types() -> None:
    wishes = {"prompt": "hi", "sampling": {"temperature": 1}, "stop": ["\n"], "timeout": 3}
    given_ = arguments(FakeModel(["x"]).stream, wishes)
    assert given_ == {
        "prompt": "hi", "sampling": Sampling(temperature=1.0), "stop": ["\n"], "timeout": 3.0,
    }  # fmt: skip
    messages = [{"role": "user", "content": ["any", {"thing": 1}]}]
    assert arguments(FakeModel(["x"]).stream, {"prompt": messages}) == {"prompt": messages}


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"max_tokens": "8"}, "max_tokens: '8' is none of int, NoneType"),
        ({"seed": 1.5}, "1.5 is none of"),
        ({"thinking": 1}, "1 is none of bool"),
        ({"sampling": {"heat": 1}}, "is none of Sampling"),
        ({"timeout": 10**400}, "is none of float"),
        ({"stop": "x"}, "'x' is no"),
        ({"prompt": 3}, "3 is none of"),
        ({"model": "x"}, "no wish called 'model'"),
        ({"return": 1}, "no wish called 'return'"),
    ],
)
def test_wishes_of_other_types_never_reach_a_model(wishes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        arguments(FakeModel(["x"]).stream, wishes)


def test_checking_arguments_keeps_no_model_alive() -> None:
    model = FakeModel(["x"])
    gone = weakref.ref(model)
    arguments(model.stream, {"prompt": "hi"})
    del model
    gc.collect()
    assert gone() is None


def test_plain_values() -> None:
    assert plain((1, {"a": TextDelta("x", 1)})) == [1, {"a": {"text": "x", "tokens": 1}}]
    assert plain(PromptError("no")) == {"type": "PromptError", "message": "no"}
    assert events.__all__ == sorted(events.__all__)
