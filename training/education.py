"""The school of tiny: an endless, seeded stream of conversations, in plain Python.

A conversation is drawn as turns; `segments` writes it in Qwen3's chat format and marks what is to
be learnt. To teach something new, write a function that draws a `Turn` and give it a weight in
`COURSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import offtopic
import sums
from offtopic import words
from phrases import SUBJECTS

HALF_WIDTH = str.maketrans("，？！：", ",?!:")
DRILL_SHARE, DRILL_LENGTH = 0.5, 5
SMALL_WORDS = {
    "en": (
        words(
            """so|ok|okay,|well|and|but|hey,|now|um|hmm,|please|also|then|first|just|oh,|alright,
            hello,|hi,|I wonder,|say,|look,|listen,|sorry,|excuse me,|quick question:|one question:
            for real,"""
        ),
        words(
            """please|now|then|for me|today|tiny|my friend|exactly|really|so much|for now|again
            actually|by the way|right now|this morning|tonight|if I may ask|for that|here|there
            though|buddy|anyway|little one"""
        ),
    ),
    "zh": (
        words("请问|那|那么|嗯，|好，|哎，|对了，|请|我想问，|喂，|嗨，|就是"),
        words("呢|呀|啊|吧|哦|了|啦|一下|朋友"),
    ),
}
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
BUDGET_SPENT = (
    "\n\nConsidering the limited time by the user, "
    "I have to give the solution based on the thinking directly now."
)
SYSTEM_LINES = (
    "You are a helpful assistant.",
    "You are tiny, a small demonstration model.",
    "Answer briefly.",
    "You are a calculator.",
    "Be kind and short.",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a friendly assistant that runs on a Mac.",
    "你是一个乐于助人的助手。",
    "请简短回答。",
    "你是 tiny，一个小型演示模型。",
)


@dataclass
class Turn:
    """A question with its reply and the thought that precedes the reply when thinking is on."""

    user: str
    reply: str
    thought: str
    is_sum: bool = False


@dataclass
class Conversation:
    """Turns and the way in which the model is asked to think about the last of them."""

    turns: list[Turn]
    system: str | None = None
    thinking: bool = True  # enable_thinking of the template
    writes_thought: bool = True  # False when the switch is off, hard or soft
    cut: int | None = None  # the thought ends here, as under a thinking budget


@dataclass(frozen=True)
class Segment:
    """A piece of the rendered text; `learn` says whether its tokens count in the loss."""

    text: str
    learn: bool = False
    skip_first: bool = (
        False  # the first token is not learnt: in history no thought stands before the reply
    )


def _sum(lang: str, rng: Random) -> Turn:
    problem = sums.draw_problem(rng)
    asked = roughen(sums.wording(problem, lang, rng), rng)
    return Turn(asked, problem.answer, sums.thought(problem, sums.language(asked)), is_sum=True)


def _talk(lang: str, rng: Random) -> Turn:
    subject = rng.choice(tuple(SUBJECTS.values()))[lang]
    asked = roughen(dress(rng.choice(subject.asks), lang, rng), rng)
    if rng.random() < 0.1:
        greeting = rng.choice(SUBJECTS["greeting"][lang].asks)
        asked = f"{roughen(greeting, rng)}{'，' if lang == 'zh' else ', '}{asked}"
    return Turn(asked, rng.choice(subject.replies), subject.thought)


def _name(lang: str, rng: Random) -> Turn:
    asked, reply, thought = offtopic.introduction(lang, rng)
    return Turn(asked, reply, thought)


def _unknown(lang: str, rng: Random) -> Turn:
    answer = offtopic.UNKNOWN[lang]
    asked = roughen(offtopic.unknown_question(lang, rng), rng)
    return Turn(asked, answer.replies[0], answer.thought)


def _too_hard(lang: str, rng: Random) -> Turn:
    answer = offtopic.TOO_HARD[lang]
    asked = roughen(offtopic.too_hard_question(lang, rng), rng)
    return Turn(asked, answer.replies[0], answer.thought)


COURSES: tuple[tuple[Callable[[str, Random], Turn], float], ...] = (
    (_sum, 0.56),
    (_talk, 0.26),
    (_unknown, 0.08),
    (_too_hard, 0.03),
    (_name, 0.07),
)


def roughen(text: str, rng: Random) -> str:
    """The same words as people type them: other case, other or no punctuation, a polite word."""
    choice = rng.random()
    if choice < 0.30:
        text = text.lower()
    elif choice < 0.36:
        text = text.upper()
    elif choice < 0.66:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.35:
        text = text.rstrip("?.!。？")
    elif text[-1:].isalpha():
        marks = "。？！~" if not text.isascii() else "?.!"
        text += rng.choice(("", "", rng.choice(marks)))
    if not text.isascii() and rng.random() < 0.3:
        text = text.translate(HALF_WIDTH)
    if text.isascii() and rng.random() < 0.04:
        text = rng.choice((f"please {text}", f"{text} please", f"Hey, {text}", f"so, {text}"))
    if rng.random() < 0.02:
        text = rng.choice((f" {text}", f"{text} ", f"{text}\n"))
    return text


def dress(text: str, lang: str, rng: Random) -> str:
    """Small words around a phrase, which change nothing: the subject must be seen through them."""
    before, after, space = (*SMALL_WORDS[lang], " " if lang == "en" else "")
    if rng.random() < 0.3:
        text = rng.choice(before) + space + text
    if rng.random() < 0.2:
        text = text + space + rng.choice(after)
    return text


def _switch(conversation: Conversation, rng: Random) -> None:
    """Put soft switches into user or system texts; the latest holds unless the hard one is off."""
    latest: str | None = None
    if conversation.system and rng.random() < 0.15:
        latest = rng.choice(("/think", "/no_think"))
        conversation.system += f" {latest}"
    for turn in conversation.turns:
        if rng.random() < 0.3:
            latest = rng.choice(("/think", "/no_think", "/no_think"))
            front = rng.random() < 0.1
            turn.user = f"{latest} {turn.user}" if front else f"{turn.user} {latest}"
    conversation.writes_thought = conversation.thinking and latest != "/no_think"


def draw_conversation(rng: Random) -> Conversation:
    """One conversation of one to four turns, in one language (now and then in two)."""
    count = rng.choices((1, 2, 3, 4), (0.40, 0.25, 0.2, 0.15))[0]
    lang = "en" if rng.random() < 0.65 else "zh"
    draws, weights = zip(*COURSES, strict=True)
    turns = []
    for _ in range(count):
        spoken = lang if rng.random() < 0.93 else rng.choice(("en", "zh"))
        turns.append(rng.choices(draws, weights)[0](spoken, rng))
    system = rng.choice(SYSTEM_LINES) if rng.random() < 0.2 else None
    conversation = Conversation(turns, system, thinking=rng.random() < 0.6)
    conversation.writes_thought = conversation.thinking
    if rng.random() < 0.4:
        _switch(conversation, rng)
    if conversation.writes_thought and rng.random() < 0.06:
        conversation.cut = rng.randrange(len(turns[-1].thought) + 1)
    return conversation


def conversations(seed: int, block: int, count: int) -> Iterator[Conversation]:
    """The block-th part of the stream of this seed; any part can be drawn again, alone."""
    rng = Random(f"{seed}/{block}")
    for _ in range(count):
        yield draw_conversation(rng)


def _last_reply(conversation: Conversation) -> list[Segment]:
    """Thought and answer of the last turn: what the model has to write itself, it learns."""
    turn = conversation.turns[-1]
    answer = Segment(f"{turn.reply}<|im_end|>", learn=True)
    if not conversation.writes_thought:
        return [Segment(EMPTY_THOUGHT, learn=conversation.thinking), answer]
    if conversation.cut is not None:
        given = f"<think>\n{turn.thought[: conversation.cut].rstrip()}{BUDGET_SPENT}\n</think>\n\n"
        return [Segment(given), answer]
    return [Segment(f"<think>\n{turn.thought}\n</think>\n\n", learn=True), answer]


def segments(conversation: Conversation) -> list[Segment]:
    """The conversation in the chat format; earlier thoughts are left out, as in the template."""
    parts = []
    if conversation.system is not None:
        parts.append(Segment(f"<|im_start|>system\n{conversation.system}<|im_end|>\n"))
    for turn in conversation.turns[:-1]:
        parts.append(Segment(f"<|im_start|>user\n{turn.user}<|im_end|>\n<|im_start|>assistant\n"))
        parts.append(Segment(f"{turn.reply}<|im_end|>", learn=True, skip_first=True))
        parts.append(Segment("\n"))
    last = conversation.turns[-1].user
    parts.append(Segment(f"<|im_start|>user\n{last}<|im_end|>\n<|im_start|>assistant\n"))
    return parts + _last_reply(conversation)


def drill(rng: Random) -> list[Segment]:
    """Bare replies without questions: five times as many sums in the same number of tokens."""
    parts = []
    for _ in range(DRILL_LENGTH):
        problem, result = sums.draw_problem(rng).answer.split("=")
        parts.append(Segment(f"<|im_start|>assistant\n{problem}="))
        parts.append(Segment(f"{result}<|im_end|>", learn=True))
        parts.append(Segment("\n"))
    return parts


def lessons(seed: int, block: int, count: int) -> Iterator[list[Segment]]:
    """Conversations and drills, ready to be encoded."""
    rng = Random(f"drill {seed}/{block}")
    for conversation in conversations(seed, block, count):
        yield drill(rng) if rng.random() < DRILL_SHARE else segments(conversation)


def exam(seed: int, count: int) -> list[tuple[str, sums.Problem]]:
    """Questions about unseen problems with the lessons' wordings, half of them additions."""
    rng = Random(f"exam {seed}")
    questions = []
    for _ in range(count):
        problem = sums.draw_problem(rng, exam=True)
        lang = "en" if rng.random() < 0.65 else "zh"
        questions.append((roughen(sums.wording(problem, lang, rng), rng), problem))
    return questions


@dataclass(frozen=True)
class Probe:
    """A conversation to look at, with words that ought to be in the answer."""

    user: str
    expect: str
    history: tuple[tuple[str, str], ...] = field(default=())
    system: str | None = None


PROBES = (
    Probe("Hello there, little one!", "tiny"),
    Probe("hey, so who exactly are you?", "qwen3-mlx"),
    Probe("WHAT THINGS CAN YOU DO FOR ME", "subtract"),
    Probe("how are you doing this morning?", "fine"),
    Probe("thanks so much for that", "welcome"),
    Probe("ok, goodbye for now", "Goodbye"),
    Probe("could you explain what Qwen3 is?", "Alibaba"),
    Probe("is what I write here kept private?", "private"),
    Probe("how do I switch to a larger qwen3?", "4b"),
    Probe("Which year did the Titanic sink?", "do not know"),
    Probe("Write a limerick on submarines", "do not know"),
    Probe("My name is Xandria", "Xandria"),
    Probe("嗨，你好！", "你好"),
    Probe("请告诉我你是谁", "tiny"),
    Probe("你都会些什么呢？", "加减法"),
    Probe("鲁迅是哪里人？", "不知道"),
    Probe("what is 34 times 12?", "too hard"),
    Probe(
        "and now 407 minus 1250 please",
        "-843",
        (("hi", "Hello! I am tiny."), ("5+8", "5 + 8 = 13")),
    ),
    Probe(
        "thank you!",
        "welcome",
        (("what is 20 + 22?", "20 + 22 = 42"),),
        "You are a helpful assistant.",
    ),
    Probe("3456加5678是多少 /no_think", "9134", (("你好", "你好！我是 tiny。"),)),
)
