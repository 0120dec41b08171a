"""Twenty conversations with tiny as it ships, in both modes; none is a phrase of its lessons.

A name that it has never seen is told what tiny can do, where others are greeted.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import qwen3_mlx
from qwen3_mlx import Sampling

#: What the user says at last, a word that a sensible answer has, and what was said before.
TALKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Hello there, little one!", "tiny", ()),
    ("hey, so who exactly are you?", "qwen3-mlx", ()),
    ("WHAT THINGS CAN YOU DO FOR ME", "subtract", ()),
    ("how are you doing this morning?", "fine", ()),
    ("thanks so much for that", "welcome", ()),
    ("ok, goodbye for now", "Goodbye", ()),
    ("could you explain what Qwen3 is?", "Alibaba", ()),
    ("is what I write here kept private?", "private", ()),
    ("how do I switch to a larger qwen3?", "4b", ()),
    ("Which year did the Titanic sink?", "do not know", ()),
    ("Write a limerick on submarines", "do not know", ()),
    ("My name is Xandria", "I chat a little", ()),
    ("嗨，你好！", "你好", ()),
    ("请告诉我你是谁", "tiny", ()),
    ("你都会些什么呢？", "加减法", ()),
    ("鲁迅是哪里人？", "不知道", ()),
    ("what is 34 times 12?", "too hard", ()),
    ("and now 407 minus 1250 please", "-843", ("hi", "Hello! I am tiny.", "5+8", "5 + 8 = 13")),
    ("thank you!", "welcome", ("what is 20 + 22?", "20 + 22 = 42")),
    ("3456加5678是多少 /no_think", "9134", ("你好", "你好！我是 tiny。")),
)


@pytest.fixture(scope="module")
def tiny() -> Iterator[qwen3_mlx.Qwen3]:
    with qwen3_mlx.load("tiny") as model:
        yield model


@pytest.mark.parametrize("thinking", [False, True])
def test_twenty_conversations(tiny: qwen3_mlx.Qwen3, thinking: bool) -> None:
    running = []
    for asked, _, before in TALKS:
        roles = ("user", "assistant") * len(before)
        talk = [{"role": r, "content": text} for r, text in zip(roles, before, strict=False)]
        talk.append({"role": "user", "content": asked})
        running.append(tiny.stream(talk, thinking=thinking, sampling=Sampling(temperature=0)))
    for (asked, expected, _), generation in zip(TALKS, running, strict=True):
        reply = generation.result()
        print(f"{asked!r} -> {reply.text!r}")
        assert expected in reply.text, asked
        assert reply.finish_reason == "stop"
