"""The rules of a conversation, by feeding events to the state."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_mlx.events import (
    Done,
    Failed,
    Loading,
    Notice,
    Prefill,
    Reply,
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    Timing,
    Usage,
)
from qwen3_mlx.interface import ModelInfo
from qwen3_mlx_app.tui import commands, describe, text
from qwen3_mlx_app.tui.state import ChatState, Loaded, LoadFailed, Phase, Update

INFO = ModelInfo("m", "4-bit", 1000, 10, can_think=True, can_switch_thinking=True)


def played(*events: Update) -> ChatState:
    """A state after one question and these events, one second apart."""
    state = ChatState()
    state.start("hi", 0.0)
    for second, event in enumerate(events, 1):
        state.apply(event, float(second))
    return state


def test_an_answer_with_a_thought() -> None:
    reply = Reply("Four.", thinking="2 and 2", usage=Usage(10, 3, 2))
    state = played(
        Prefill(5, 10),
        ThinkingDelta("2 and", 2),
        ThinkingDelta(" 2", 3),
        ThinkingDone(3, 1.5),
        TextDelta("Four.", 2),
        Done(reply),
    )
    (turn,) = state.turns
    assert (turn.thought, turn.thought_tokens, turn.thought_seconds) == ("2 and 2", 3, 1.5)
    assert (turn.answer, turn.phase, turn.finish) == ("Four.", Phase.DONE, "stop")
    assert state.context_used == 15
    assert state.history() == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Four.", "reasoning_content": "2 and 2"},
    ]


def test_the_live_figures() -> None:
    state = played(Prefill(10, 10), ThinkingDelta("a", 1))
    turn = state.turns[0]
    assert turn.thinking_for(12.0) == 10.0
    assert turn.rate(2.1) == 0.0
    assert turn.rate(4.0) == pytest.approx(0.5)
    assert state.context_used == 11


def test_a_thought_that_is_cut_off_has_its_time() -> None:
    reply = Reply("", thinking="a", finish_reason="cancelled")
    turn = played(ThinkingDelta("a", 1), Prefill(1, 1), Done(reply)).turns[0]
    assert turn.thought_seconds == 2.0
    assert turn.stopped


def test_text_without_the_end_of_the_thought_ends_the_thought() -> None:
    turn = played(ThinkingDelta("a", 1), TextDelta("b", 1)).turns[0]
    assert (turn.phase, turn.thought_seconds) == (Phase.ANSWERING, 1.0)


def test_a_fault_keeps_what_was_said() -> None:
    turn = played(TextDelta("half", 1), Failed(ValueError("x"), kept="half")).turns[0]
    assert (turn.answer, turn.phase) == ("half", Phase.FAILED)
    assert str(turn.error) == "x"


def test_an_empty_answer_is_no_part_of_the_history() -> None:
    state = played(Done(Reply("", finish_reason="cancelled")))
    assert state.history() == [{"role": "user", "content": "hi"}]


def test_the_reply_fills_in_for_deltas_that_never_came() -> None:
    state = played(Done(Reply("all", thinking="why", timing=Timing(decode_tokens_per_second=9))))
    assert (state.turns[0].answer, state.turns[0].thought) == ("all", "why")
    assert state.turns[0].rate(0.0) == 9
    assert state.last_answer == "all"


def test_notices_are_kept() -> None:
    assert played(Notice("mind the gap")).turns[0].notices == ["mind the gap"]


def test_a_failed_load_ends_the_turn_that_waited() -> None:
    state = ChatState()
    state.apply(Loading(1, 2), 0.0)
    assert state.busy
    turn = state.start("hi", 0.0)
    state.apply(LoadFailed(OSError("gone")), 0.0)
    assert not state.busy
    assert (turn.phase, str(state.load_error)) == (Phase.FAILED, "gone")
    assert turn.unloaded


@pytest.mark.parametrize(
    ("can_think", "can_switch", "wanted", "becomes"),
    [(False, False, True, False), (True, False, False, True), (True, True, False, False)],
)
def test_the_model_decides_what_modes_there_are(
    can_think: bool, can_switch: bool, wanted: bool, becomes: bool
) -> None:
    state = ChatState(thinking=wanted)
    state.apply(Loaded(ModelInfo("m", "", 1, 1, can_think, can_switch)), 0.0)
    assert state.thinking is becomes


def test_the_view_goes_round() -> None:
    state = ChatState()
    assert [state.next_view() for _ in range(3)] == ["open", "line", "fold"]


def test_restart_asks_the_last_question_again() -> None:
    state = played(TextDelta("a", 1))
    assert state.restart(9.0) is None
    state.apply(Done(Reply("a")), 1.0)
    state.thinking = False
    turn = state.restart(9.0)
    assert turn is not None
    assert (turn.user, turn.answer, turn.thinks, len(state.turns)) == ("hi", "", False, 1)


PIECES = st.text(max_size=5)
EVENTS = st.one_of(
    st.builds(Loading, st.integers(0, 9), st.integers(0, 9)),
    st.builds(Prefill, st.integers(0, 9), st.integers(0, 9)),
    st.builds(ThinkingDelta, PIECES, st.integers(1, 99)),
    st.builds(ThinkingDone, st.integers(1, 99), st.floats(0, 9)),
    st.builds(TextDelta, PIECES, st.integers(1, 99)),
    st.builds(Notice, PIECES),
    st.builds(Done, st.builds(Reply, st.just(""), finish_reason=st.just("stop"))),
    st.builds(Failed, st.just(ValueError("x")), st.just("")),
    st.just(Loaded(INFO)),
    st.just(LoadFailed(OSError("x"))),
)


@given(st.lists(st.one_of(EVENTS, st.just("ask")), max_size=40))
def test_any_order_of_events_leaves_a_conversation(steps: list[Update | str]) -> None:
    state = ChatState()
    said: dict[int, str] = {}
    for now, step in enumerate(steps):
        current = state.current
        if isinstance(step, str):
            if current is None:
                said[state.start("hi", float(now)).number] = ""
            continue
        if current is not None and isinstance(step, TextDelta):
            said[current.number] += step.text
        state.apply(step, float(now))
    assert all(not turn.running for turn in state.turns[:-1])
    for turn in state.turns:
        assert turn.answer == said[turn.number]
        assert turn.thinking_for(1e6) >= 0
        assert turn.rate(1e6) >= 0
    history = state.history()
    assert sum(message["role"] == "user" for message in history) == len(state.turns)
    assert all(message["content"] for message in history)
    assert state.context_used >= 0


def test_commands_are_told_from_text() -> None:
    assert commands.parse("hello /think") is None
    assert commands.parse("/etc/hosts") is None
    assert commands.parse("/ hi") is None
    assert commands.parse("/nope") == commands.Unknown("nope")
    found = commands.parse("/System  Be\nbrief ")
    assert isinstance(found, tuple)
    assert (found[0].name, found[1]) == ("system", "Be\nbrief")
    assert [command.name for command in commands.matching("/th")] == ["think", "thoughts"]
    assert commands.matching("/think ") == ()
    assert [each.name for each in commands.COMMANDS if each.lacks] == ["title", "import"]


def test_a_budget_of_nothing_is_no_thinking_and_none_is_without_an_end() -> None:
    told: list[object] = []

    class Target:
        def set_thinking(self, on: bool) -> None:
            told.append(on)

        def set_budget(self, budget: int | None) -> None:
            told.append(budget)

    for said in ("/think 0", "/think 0k", "/think 2k", "/think off", f"/think {'9' * 400}"):
        found = commands.parse(said)
        assert isinstance(found, tuple)
        found[0].run(Target(), found[1])  # type: ignore[arg-type]
    assert told == [False, False, 2048, None, 1024 * 1024]


@given(st.text())
def test_clean_text_cannot_move_the_cursor(raw: str) -> None:
    assert all(char in "\t\n" or ord(char) >= 32 for char in text.clean(raw))
    assert not any(0x7F <= ord(char) < 0xA0 for char in text.clean(raw))


def test_numbers_as_the_screen_shows_them() -> None:
    assert [text.compact_count(n) for n in (7, 3100, 32_768, 50_000)] == ["7", "3.1k", "32k", "50k"]
    assert [text.gigabytes(n) for n in (50_000_000, 17_200_000_000)] == ["50M", "17.2G"]
    assert [text.seconds(s) for s in (0.0, 0.42, 14.9, 125)] == ["0s", "0.4s", "14s", "2m 05s"]
    assert text.one_line("a\nb  c", 9) == "a b c"
    assert text.one_line("abcdef", 4) == "abc…"
    assert text.one_line("一二三四", 8) == "一二三四"
    assert [text.one_line("一二三四", width) for width in (7, 6)] == ["一二三…", "一二…"]


@given(st.floats(-1, 2), st.integers(1, 20))
def test_a_meter_has_its_width(part: float, width: int) -> None:
    assert sum(map(len, text.meter(part, width))) == width


@pytest.mark.parametrize("module", [commands, describe, text])
def test_the_examples_run(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
