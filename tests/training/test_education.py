"""Lessons in the bytes of the chat template, and the examination that ships."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from random import Random

import education
import toolbox
from asks import ASKS
from check_template import compile_template
from conversation import BUDGET_SPENT, Conversation, Segment, Step, Turn, segments
from hypothesis import given, settings
from hypothesis import strategies as st
from make_exam import exam_text
from probes import EN, PROBES
from problem import draw_problem
from sums import CloseSum

from qwen3_mlx.evaluation.problems import PROBLEMS
from qwen3_mlx.text.budget import EARLY_STOP

TEMPLATE = Path(education.__file__).with_name("chat_template.jinja")
RENDER = compile_template(TEMPLATE.read_text(encoding="utf-8")).render
seeds = st.integers(0, 1 << 40)


def written(parts: list[Segment]) -> str:
    return "".join(part.text for part in parts)


@settings(max_examples=150)
@given(seeds, st.sampled_from(("plain", "tools")))
def test_lessons_are_what_the_template_writes(seed: int, kind: str) -> None:
    """All of a lesson; in `prompt` the last reply is missing, as when the model is asked."""
    draw = education.plain_conversation if kind == "plain" else education.tool_conversation
    talk = draw(Random(seed), 0.5)
    talk.kept = None
    messages, tools = talk.messages(), toolbox.schemas(talk.tools, talk.closed)
    whole = written(segments(talk))
    switch = {} if talk.thinking else {"enable_thinking": False}
    prompt = RENDER(messages=messages[:-1], tools=tools, add_generation_prompt=True, **switch)

    if not talk.writes_thought:
        messages[-1]["reasoning_content"] = ""
    assert whole + "\n" == RENDER(messages=messages, tools=tools)
    assert whole.startswith(prompt)


def test_what_is_learnt() -> None:
    turns = [Turn.simple("a", "b", "x"), Turn.simple("c", "d", "y")]

    thought = [part.text for part in segments(Conversation(turns)) if part.learn]
    soft = Conversation(turns, thinking=True, writes_thought=False)
    hard = Conversation(turns, thinking=False, writes_thought=False)

    assert thought == ["b<|im_end|>", "<think>\ny\n</think>\n\nd<|im_end|>"]
    assert [part.text for part in segments(soft) if part.learn][1:] == [
        "<think>\n\n</think>\n\n", "d<|im_end|>",
    ]  # fmt: skip
    assert [part.text for part in segments(hard) if part.learn] == ["b<|im_end|>", "d<|im_end|>"]


def test_a_cut_thought_is_given_and_its_answer_learnt() -> None:
    talk = Conversation([Turn.simple("1+1+1", "3", "1+1+1\n2+1\n3")], kept=0.5)
    parts = segments(talk)

    assert [part.kept for part in parts if part.kept is not None] == [0.5]
    assert [part.text for part in parts if part.learn] == ["3<|im_end|>"]
    assert parts[-2].text == BUDGET_SPENT == EARLY_STOP


def test_calls_are_learnt_and_results_are_not() -> None:
    job = toolbox.Job("clock", "Paris", "12:30")
    steps = (Step(job.call, "I use clock.", (job.result,)), Step(job.reply("en"), "There."))
    talk = Conversation([Turn("time?", steps)], tools=("clock",))

    learnt = [part.text for part in segments(talk) if part.learn]

    assert learnt[0].startswith("<think>\nI use clock.\n</think>\n\n<tool_call>\n{")
    assert learnt[1].endswith("It is 12:30 in Paris.<|im_end|>")
    assert not any("tool_response" in text for text in learnt)


def test_a_block_can_be_drawn_again_alone() -> None:
    first = list(education.lessons(3, 7, 40, 0.3))

    assert first == list(education.lessons(3, 7, 40, 0.3))
    assert first != list(education.lessons(3, 8, 40, 0.3))
    assert all(any(part.learn for part in parts) for parts in first)


def test_close_sums_are_mostly_differences_of_numbers_that_are_nearly_equal() -> None:
    rng = Random(1)

    drawn = [draw_problem(CloseSum, rng) for _ in range(400)]

    assert sum(each.op == "-" and abs(each.a - each.b) <= 30 for each in drawn) > 200
    assert not any(each.in_exam for each in drawn)


def test_weights_are_shares() -> None:
    for table in (education.LESSONS, education.COURSES):
        for column in (1, 2, 3):
            assert abs(sum(row[column] for row in table) - 1) < 0.011


def plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def test_no_probe_is_a_phrase_of_the_lessons() -> None:
    phrases = {plain(ask) for each in ASKS.values() for asks in each.values() for ask in asks}
    rng = Random(5)
    for lang in ("en", "zh"):
        for draw in (education.talk, education.unknown, education.too_hard, education.name):
            phrases |= {plain(draw(lang, rng).user) for _ in range(1000)}

    assert len(PROBES) == 40
    assert len(EN) == 20
    assert not [probe.user for probe in PROBES if plain(probe.user) in phrases]


def test_the_examination_that_ships_is_the_one_that_is_made_here() -> None:
    with gzip.open(PROBLEMS, "rt", encoding="utf-8") as file:
        shipped = file.read()

    assert shipped == exam_text()


def test_no_problem_of_the_examination_is_in_the_lessons() -> None:
    """By whole questions here; the keys are compared where problems are tested."""
    lines = [json.loads(line) for line in exam_text(count=60).splitlines()[1:]]
    asked = {line["messages"][0]["content"] for line in lines if line["skill"] != "talk"}
    rng = Random(9)
    for _ in range(600):
        talk = education.plain_conversation(rng, 0.5)
        assert not asked & {turn.user for turn in talk.turns}
