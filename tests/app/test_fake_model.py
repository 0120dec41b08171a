"""The scripted model keeps the promises of the interface."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import Done, Failed, Notice, TextDelta, ThinkingDelta, ThinkingDone
from qwen3_mlx.interface import ChatModel, Sampling
from qwen3_mlx.testing import Answer, FakeModel, pieces


def test_it_is_a_chat_model() -> None:
    model: ChatModel = FakeModel([])
    assert model.info.can_think


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_the_events_join_to_the_reply() -> None:
    model = FakeModel([Answer("one two three", thinking="hm, so", notices=("note",))])
    events = list(model.stream("?"))
    assert "".join(e.text for e in events if isinstance(e, ThinkingDelta)) == "hm, so"
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "one two three"
    assert [e.text for e in events if isinstance(e, Notice)] == ["note"]
    assert sum(isinstance(e, ThinkingDone) for e in events) == 1
    done = events[-1]
    assert isinstance(done, Done)
    assert done.reply.usage.thinking_tokens == 2
    assert done.reply.usage.answer_tokens == 3


def test_it_records_what_it_was_asked() -> None:
    model = FakeModel(["yes"])
    sampling = Sampling(temperature=0.0)
    model.stream([{"role": "user", "content": "?"}], system="brief", sampling=sampling, seed=7)
    (call,) = model.calls
    assert (call.prompt, call.system, call.sampling, call.seed) == ("?", "brief", sampling, 7)


def test_without_thinking_the_thought_is_left_out() -> None:
    assert (
        FakeModel([Answer("a", thinking="b")]).stream("?", thinking=False).result().thinking == ""
    )


@pytest.mark.parametrize(("limit", "reason"), [({"max_tokens": 2}, "length"), ({}, "stop")])
def test_the_limit_on_tokens(limit: dict[str, int], reason: str) -> None:
    reply = FakeModel(["a b c d"]).stream("?", **limit).result()  # type: ignore[arg-type]
    assert reply.finish_reason == reason
    assert reply.text == ("a b" if limit else "a b c d")


def test_a_stop_string_ends_the_answer_before_it() -> None:
    assert FakeModel(["yes END no"]).stream("?", stop=["END"]).result().text == "yes "


def test_a_deadline_ends_it() -> None:
    answer = Answer("a b c d e f", tokens_per_second=50)
    assert FakeModel([answer]).stream("?", timeout=0.05).result().finish_reason == "timeout"


def test_a_fault_in_the_middle() -> None:
    generation = FakeModel([Answer("a b c", error=EngineError("boom"), error_after=2)]).stream("?")
    last = list(generation)[-1]
    assert isinstance(last, Failed)
    assert last.kept == "a b"
    fresh = FakeModel([Answer("a", error=EngineError("boom"))]).stream("?")
    with pytest.raises(EngineError, match="boom"):
        fresh.result()


def test_cancel_from_another_thread_keeps_the_text() -> None:
    """It waits after three tokens, so that there is a text to keep on any machine."""
    generation = FakeModel([Answer("word " * 1000, pause_after=3)]).stream("?")
    said: list[str] = []
    for event in generation:
        if isinstance(event, TextDelta):
            said.append(event.text)
            if len(said) == 3:
                threading.Thread(target=generation.cancel).start()
    reply = generation.result()
    assert (reply.finish_reason, reply.text) == ("cancelled", "".join(said))
    assert len(said) == 3


def test_a_result_may_be_asked_for_again() -> None:
    """As with the real one."""
    generation = FakeModel(["a"]).stream("?")
    assert generation.result() is generation.result()


def test_leaving_the_iteration_cancels() -> None:
    generation = FakeModel(["a b c"]).stream("?")
    for event in generation:
        if isinstance(event, TextDelta):
            break
    assert (generation.result().finish_reason, generation.result().text) == ("cancelled", "a")


def test_it_imports_no_screen() -> None:
    code = "import sys, qwen3_mlx.testing; assert 'textual' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
