"""The school of tiny: an endless, seeded stream of lessons, in plain Python.

A lesson is a conversation or a drill. `LESSONS` and `COURSES` say how often each kind is drawn, at
the start of the training and at nine tenths of it, with a line in between, and in the last tenth.
To teach something new, write a `Problem`, or a function that draws a `Turn`, and give it weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import offtopic
import toolbox
from asks import ASKS
from conversation import Conversation, Segment, Step, Turn, segments
from expressions import Expression
from lists import Copying, Reversing, Sorting
from phrases import SAID
from problem import Problem, draw_problem, language, words
from products import Fact, Product
from stories import LongStory, Story
from sums import CloseSum, Sum

HALF_WIDTH = str.maketrans("，？！：", ",?!:")
DRILL_LENGTH = 5
CUT_SHARE = 0.25  # of multi-step thoughts: accuracy should rise with what is left of them
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
FILLERS = {
    "en": words(
        """just|really|so|maybe|actually|perhaps|now|ever|a bit|kindly|simply|then|well|quite
        honestly|right|in fact|truly|possibly|somehow"""
    ),
    "zh": words("究竟|真的|其实|这个|那个|啊|呢|吧|请|就|现在|可以|能|我想|也|还|嘛|大概"),
}
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
TOOL_SETS = (
    ("calculator", "clock", "note"),
    ("calculator", "clock", "note"),
    ("note", "calculator", "clock"),
    ("clock", "note", "calculator"),
    ("calculator",),
    ("clock", "note"),
    ("calculator", "note"),
)

Draw = Callable[[str, Random], Turn]


def exercise(kind: type[Problem], cut_share: float = 0.06, rough: bool = True) -> Draw:
    """A course of problems that the examination does not have."""

    def draw(lang: str, rng: Random) -> Turn:
        problem = draw_problem(kind, rng)
        asked = problem.ask(lang, rng)
        if rough:
            asked = roughen(asked, rng)
        return problem_turn(problem, asked, cut_share)

    return draw


def problem_turn(problem: Problem, asked: str, cut_share: float = 0.06) -> Turn:
    """The turn for a problem; it is answered in the language of the question."""
    lang = language(asked)
    return Turn.simple(asked, problem.answer(lang), problem.thought(lang), cut_share)


def copying(lang: str, rng: Random) -> Turn:
    """Repeat what is given; the language of a thought follows the request, which may differ."""
    problem = draw_problem(Copying, rng)
    return problem_turn(problem, problem.ask(lang, rng))


def talk(lang: str, rng: Random) -> Turn:
    """Small talk, and questions about tiny and its program."""
    subject = rng.choice(tuple(SAID))
    asked = disguise(rng.choice(ASKS[lang][subject]), lang, rng)
    if rng.random() < 0.1:
        greeting = rng.choice(ASKS[lang]["greeting"])
        asked = f"{roughen(greeting, rng)}{'，' if lang == 'zh' else ', '}{asked}"
    return Turn.simple(asked, *SAID[subject][lang])


def name(lang: str, rng: Random) -> Turn:
    """The user says who they are."""
    asked, *said = offtopic.introduction(lang, rng)
    return Turn.simple(dress(asked, lang, rng), *said)


def unknown(lang: str, rng: Random) -> Turn:
    """A question about the world."""
    asked = disguise(offtopic.unknown_question(lang, rng), lang, rng)
    return Turn.simple(asked, *offtopic.UNKNOWN[lang])


def too_hard(lang: str, rng: Random) -> Turn:
    """Arithmetic beyond tiny."""
    asked = dress(offtopic.too_hard_question(lang, rng), lang, rng)
    return Turn.simple(roughen(asked, rng), *offtopic.TOO_HARD[lang])


FINISH = 0.9  # where the last part of the training begins

#: Turns of a conversation: what draws them; their weights at the start, at 0.9 and after it.
COURSES: tuple[tuple[Draw, float, float, float], ...] = (
    (exercise(Sum), 0.24, 0.13, 0.13),
    (exercise(Expression, CUT_SHARE), 0.10, 0.09, 0.04),
    (exercise(Product, CUT_SHARE), 0.06, 0.05, 0.02),
    (exercise(Fact), 0.06, 0.01, 0.01),
    (exercise(Story, CUT_SHARE), 0.10, 0.04, 0.02),
    (exercise(LongStory, CUT_SHARE), 0.06, 0.05, 0.02),
    (exercise(Sorting, CUT_SHARE, rough=False), 0.05, 0.05, 0.03),
    (exercise(Reversing, rough=False), 0.04, 0.05, 0.03),
    (copying, 0.08, 0.13, 0.06),
    (talk, 0.12, 0.28, 0.50),
    (unknown, 0.03, 0.05, 0.08),
    (too_hard, 0.02, 0.02, 0.02),
    (name, 0.04, 0.05, 0.04),
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


def stumble(text: str, lang: str, rng: Random) -> str:
    """A word too many or too few somewhere, so that no subject hangs on one exact phrase."""
    space = " " if lang == "en" else ""
    parts = text.split() if lang == "en" else list(text)
    if len(parts) > 3 and rng.random() < 0.12:
        del parts[rng.randrange(len(parts))]
    while rng.random() < 0.15:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(FILLERS[lang]))
    return space.join(parts)


def disguise(text: str, lang: str, rng: Random) -> str:
    """A phrase through all three, as no list has it; the subject remains."""
    return roughen(dress(stumble(text, lang, rng), lang, rng), rng)


def _weight(start: float, end: float, finish: float, progress: float) -> float:
    """Along a line, and for the last tenth what small talk needs to be remembered."""
    return finish if progress >= FINISH else start + (end - start) * progress / FINISH


def _turn(lang: str, rng: Random, progress: float) -> Turn:
    spoken = lang if rng.random() < 0.93 else rng.choice(("en", "zh"))
    weights = [_weight(*when, progress) for _, *when in COURSES]
    draw: Draw = rng.choices([course[0] for course in COURSES], weights)[0]
    return draw(spoken, rng)


def tool_turn(tools: tuple[str, ...], lang: str, rng: Random, last: bool) -> Turn:
    """A wish that needs tools. As the last turn it ends at the calls as often as at the reply."""
    if "calculator" in tools and rng.random() < 0.3:
        return chain_turn(tools, lang, rng, last)
    jobs = toolbox.draw_jobs(tools, lang, rng)
    call = Step(toolbox.calls(jobs), toolbox.plan(jobs, lang), tuple(job.result for job in jobs))
    steps = (call, Step(toolbox.reply(jobs, lang), toolbox.READ[lang]))
    if last and rng.random() < 0.5:
        steps = (Step(call.reply, call.thought),)
    return Turn(toolbox.ask(jobs, lang, rng), steps)


def chain_turn(tools: tuple[str, ...], lang: str, rng: Random, last: bool) -> Turn:
    """Two calls, one after the other. As the last turn it may end at either of them."""
    chain = toolbox.draw_chain(tools, lang, rng)
    first, second = chain.jobs
    plan = toolbox.FIRST[lang].format(a=first.tool, b=second.tool)
    now = toolbox.NOW[lang].format(b=second.tool)
    steps = (
        Step(first.call, plan, (first.result,)),
        Step(second.call, now, (second.result,)),
        Step(toolbox.reply([first, second], lang), toolbox.READ[lang]),
    )
    if last:
        steps = steps[: rng.choice((1, 2, 2, 3))]
    return Turn(chain.asked, steps)


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


def _settle(conversation: Conversation, rng: Random) -> Conversation:
    """Decide on thinking: hard and soft switches, and thoughts that a budget cuts."""
    conversation.thinking = conversation.writes_thought = rng.random() < 0.65
    if rng.random() < 0.3:
        _switch(conversation, rng)
    if conversation.writes_thought and rng.random() < conversation.turns[-1].cut_share:
        conversation.kept = rng.random()
    return conversation


def plain_conversation(
    rng: Random, progress: float, turns: tuple[int, ...] = (1, 2, 3, 4)
) -> Conversation:
    """Some turns in one language (now and then in two), without tools."""
    count = rng.choices(turns, [1 / (place + 1) for place in range(len(turns))])[0]
    lang = "en" if rng.random() < 0.6 else "zh"
    said = [_turn(lang, rng, progress) for _ in range(count)]
    system = rng.choice(SYSTEM_LINES) if rng.random() < 0.2 else None
    return _settle(Conversation(said, system), rng)


def long_conversation(rng: Random, progress: float) -> Conversation:
    """Eight to twenty turns: positions that short rows never reach."""
    return plain_conversation(rng, progress, tuple(range(8, 21)))


def tool_conversation(rng: Random, progress: float) -> Conversation:
    """Two to five turns with tools at hand, of which most need one.

    Describing the tools takes many tokens, so that one description serves several turns.
    """
    lang = "en" if rng.random() < 0.6 else "zh"
    tools = rng.choice(TOOL_SETS)
    count, said = rng.choice((2, 3, 3, 4, 5)), []
    for number in range(count):
        if rng.random() < 0.2:
            said.append(rng.choice((talk, talk, unknown, copying))(lang, rng))
        else:
            said.append(tool_turn(tools, lang, rng, last=number + 1 == count))
    system = rng.choice(SYSTEM_LINES) if rng.random() < 0.2 else None
    conversation = Conversation(said, system, tools)
    conversation.returned, conversation.closed = rng.random() < 0.6, rng.random() < 0.5
    return _settle(conversation, rng)


def drill(kind: type[Problem], rng: Random) -> list[Segment]:
    """Bare replies without questions: five times as many problems in the same number of tokens."""
    parts = []
    for _ in range(DRILL_LENGTH):
        asked, result = draw_problem(kind, rng).answer("en").split("=")
        parts.append(Segment(f"<|im_start|>assistant\n{asked}="))
        parts.append(Segment(f"{result}<|im_end|>", learn=True))
        parts.append(Segment("\n"))
    return parts


#: What is asked alone, with a thought, and how often.
WORKED: tuple[tuple[Draw, float], ...] = (
    (exercise(Sum), 0.14),
    (exercise(CloseSum), 0.12),
    (exercise(Expression, CUT_SHARE), 0.24),
    (exercise(Product, CUT_SHARE), 0.10),
    (exercise(LongStory, CUT_SHARE), 0.07),
    (exercise(Story, CUT_SHARE), 0.02),
    (exercise(Sorting, CUT_SHARE, rough=False), 0.03),
    (exercise(Reversing, rough=False), 0.02),
    (talk, 0.18),
    (unknown, 0.04),
    (too_hard, 0.02),
    (name, 0.02),
)


def worked(rng: Random) -> list[Segment]:
    """One question with its thought: in a conversation only the last of several turns has one."""
    draw = rng.choices([draw for draw, _ in WORKED], [weight for _, weight in WORKED])[0]
    turn = draw(rng.choice(("en", "zh")), rng)
    kept = rng.random() if rng.random() < turn.cut_share else None
    return segments(Conversation([turn], kept=kept))


#: Kinds of lessons; their weights at the start, at 0.9 and after it.
LESSONS: tuple[tuple[Callable[[Random, float], list[Segment]], float, float, float], ...] = (
    (lambda rng, progress: drill(Sum, rng), 0.38, 0.04, 0.03),
    (lambda rng, progress: drill(CloseSum, rng), 0.09, 0.15, 0.11),
    (lambda rng, progress: drill(Fact, rng), 0.06, 0.01, 0.01),
    (lambda rng, progress: drill(Product, rng), 0.02, 0.01, 0.01),
    (lambda rng, progress: worked(rng), 0.24, 0.38, 0.32),
    (lambda rng, progress: segments(plain_conversation(rng, progress)), 0.18, 0.30, 0.41),
    (lambda rng, progress: segments(tool_conversation(rng, progress)), 0.02, 0.10, 0.10),
    (lambda rng, progress: segments(long_conversation(rng, progress)), 0.01, 0.01, 0.01),
)


def lessons(seed: int, block: int, count: int, progress: float = 1.0) -> Iterator[list[Segment]]:
    """The block-th part of the stream of this seed; any part can be drawn again, alone."""
    rng = Random(f"{seed}/{block}")
    draws = [lesson[0] for lesson in LESSONS]
    weights = [_weight(*when, progress) for _, *when in LESSONS]
    for _ in range(count):
        yield rng.choices(draws, weights)[0](rng, progress)
