"""Tool calls in the Hermes format: a calculator, a clock and notes; alone, in pairs, read back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

from problem import words
from vocabulary import EN_WORDS, ZH_WORDS, invented, something

EXAM_SHARE = 8


def _tool(name: str, description: str, argument: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {argument: {"type": "string"}}}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {**schema, "required": [argument]},
        },
    }


TOOLS = {
    "calculator": _tool("calculator", "Calculate an expression.", "expression"),
    "clock": _tool("clock", "The time in a city.", "city"),
    "note": _tool("note", "Keep a note.", "text"),
}


def schemas(names: tuple[str, ...], closed: bool) -> list[dict[str, Any]]:
    """The tools as a prompt describes them. Closed is how qwen3_mlx writes a Python function."""
    described = [deepcopy(TOOLS[name]) for name in names]
    for tool in described if closed else ():
        tool["function"]["parameters"]["additionalProperties"] = False
    return described


ASK = {
    ("en", "calculator"): words(
        """What is {x}?|what is {x}|calculate {x}|Calculate {x}.|How much is {x}?|compute {x}
        {x}|{x} = ?|Work out {x}|Use the calculator: {x}|tell me {x}"""
    ),
    ("zh", "calculator"): words("{x}等于多少？|计算{x}|请算{x}|{x}=?|用计算器算{x}|{x}是多少？"),
    ("en", "clock"): words(
        """What time is it in {x}?|what time is it in {x}|the time in {x}|Tell me the time in {x}.
        How late is it in {x}?|current time in {x}?|What's the time in {x}?"""
    ),
    ("zh", "clock"): words(
        "{x}现在几点？|{x}几点了？|现在{x}是几点？|告诉我{x}的时间|{x}的时间是多少？"
    ),
    ("en", "note"): words(
        """Note: {x}|note down: {x}|Write down: {x}|Please note: {x}|keep a note: {x}
        Take a note: {x}|remember this: {x}|make a note: {x}"""
    ),
    ("zh", "note"): words(
        "记下：{x}|请记下：{x}|记一下：{x}|写个便条：{x}|帮我记住：{x}|记录：{x}"
    ),
}
REPLY = {
    ("en", "clock"): "It is {r} in {x}.",
    ("zh", "clock"): "{x}现在是 {r}。",
    ("en", "note"): "Noted: {x}",
    ("zh", "note"): "已记下：{x}",
}
JOIN = {
    "en": (" And ", " Also: ", "\n", " Then: ", "; "),
    "zh": ("，还有，", "\n", "；", "，另外："),
}
USE = {"en": "I use {names}.", "zh": "我用 {names}。"}
#: What is wanted of a result: an operation with {x}, or a note of it.
NEXT = {
    ("en", "+"): words("add {x}|add {x} to it|plus {x}|then add {x}|add {x} to that"),
    ("en", "-"): words(
        "subtract {x}|take {x} away|minus {x}|then subtract {x}|subtract {x} from it"
    ),
    ("en", "*"): words("multiply it by {x}|times {x}|then multiply by {x}|multiply that by {x}"),
    ("en", "note"): words(
        """note the result|write it down|keep a note of it|note it|make a note of the answer"""
    ),
    ("zh", "+"): words("再加上{x}|加{x}|结果加{x}|再加{x}"),
    ("zh", "-"): words("再减去{x}|减{x}|结果减{x}|再减{x}"),
    ("zh", "*"): words("再乘以{x}|乘{x}|结果乘{x}|再乘{x}"),
    ("zh", "note"): words("把结果记下来|记下结果|记下来|记一下答案|再记下来"),
}
THEN = {
    "en": (" and ", ", then ", " and then ", ". Then ", ", and "),
    "zh": ("，然后", "，", "，接着", "。然后"),
}
FIRST = {"en": "First {a}, then {b}.", "zh": "先用 {a}，再用 {b}。"}
NOW = {"en": "Now {b}.", "zh": "现在用 {b}。"}
READ = {"en": "The result is there.", "zh": "结果有了。"}
CITIES = {
    "en": words(
        """Paris|London|Berlin|Rome|Madrid|Vienna|Oslo|Cairo|Tokyo|Seoul|Delhi|Beijing|Shanghai
        Sydney|Toronto|Chicago|Boston|Lima|Moscow|Athens|Dublin|Lisbon|Prague|Zurich|Nairobi"""
    ),
    "zh": words(
        """巴黎|伦敦|柏林|罗马|马德里|维也纳|奥斯陆|开罗|东京|首尔|德里|北京|上海|悉尼|多伦多|芝加哥|波士顿
        利马|莫斯科|雅典|广州|深圳|成都|香港|台北"""
    ),
}


@dataclass(frozen=True)
class Job:
    """One thing to be done with a tool, and what the tool will say."""

    tool: str
    subject: str
    result: str

    @property
    def arguments(self) -> dict[str, str]:
        """What the tool is given."""
        (name,) = TOOLS[self.tool]["function"]["parameters"]["required"]
        return {name: self.subject}

    @property
    def call(self) -> str:
        """The call as the model writes it."""
        body = json.dumps({"name": self.tool, "arguments": self.arguments}, ensure_ascii=False)
        return f"<tool_call>\n{body}\n</tool_call>"

    @property
    def in_exam(self) -> bool:
        """The split is by what is calculated, where, or noted."""
        return zlib.crc32(self.subject.encode()) % EXAM_SHARE == 0

    def ask(self, lang: str, rng: Random) -> str:
        """One of the ways to want it."""
        return rng.choice(ASK[lang, self.tool]).format(x=self.subject)

    def reply(self, lang: str) -> str:
        """What the user is told when the result is there."""
        if self.tool == "calculator":
            return f"{self.subject} = {self.result}"
        return REPLY[lang, self.tool].format(x=self.subject, r=self.result)


def calculate(a: int, op: str, b: int) -> int:
    """What the calculator says."""
    return {"+": a + b, "-": a - b, "*": a * b}[op]


@dataclass(frozen=True)
class Chain:
    """What is asked for, and the two jobs of it, one after the other."""

    asked: str
    jobs: tuple[Job, Job]


def _calculation(lang: str, rng: Random, exam: bool) -> Job:
    a, b = (
        rng.randrange(10 ** (digits - 1), 10**digits) for digits in rng.choices((2, 3, 4, 5), k=2)
    )
    op = rng.choice("+-*")
    return Job("calculator", f"{a} {op} {b}", str(calculate(a, op, b)))


def _city(lang: str, rng: Random, exam: bool) -> str:
    city, choice = rng.choice(CITIES[lang]), rng.random()
    if choice < 0.4:
        return invented(rng).capitalize()  # any name will do: it is copied
    return something(lang, rng).capitalize() if choice < 0.7 and not exam else city


def _time(lang: str, rng: Random, exam: bool) -> Job:
    city = _city(lang, rng, exam)
    return Job("clock", city, f"{rng.randrange(24):02d}:{rng.randrange(60):02d}")


def _note(lang: str, rng: Random, exam: bool) -> Job:
    if not exam and rng.random() < 0.4:
        count = rng.randint(1, 4)
        text = (" " if lang == "en" else "").join(something(lang, rng) for _ in range(count))
        return Job("note", text, "ok")
    if lang == "zh":
        return Job("note", "".join(rng.sample(ZH_WORDS, rng.randint(2, 4))), "ok")
    return Job("note", " ".join(rng.sample(EN_WORDS, rng.randint(2, 5))), "ok")


DRAW: dict[str, Callable[[str, Random, bool], Job]] = {
    "calculator": _calculation,
    "clock": _time,
    "note": _note,
}


def draw_job(tool: str, lang: str, rng: Random, exam: bool = False) -> Job:
    """A job from the wanted side of the split; lessons have stranger names and notes."""
    while True:
        job = DRAW[tool](lang, rng, exam)
        if job.in_exam == exam:
            return job


def draw_chain(tools: tuple[str, ...], lang: str, rng: Random, exam: bool = False) -> Chain:
    """A calculation, and a second job that needs its result: another one, or a note of it."""
    first = draw_job("calculator", lang, rng, exam)
    if "note" in tools and rng.random() < 0.4:
        second, wish = Job("note", f"{first.subject} = {first.result}", "ok"), "note"
    else:
        wish, number = rng.choice("+-*"), rng.randrange(2, 10 ** rng.choice((1, 2, 3)))
        value = calculate(int(first.result), wish, number)
        second = Job("calculator", f"{first.result} {wish} {number}", str(value))
    asked = first.ask(lang, rng).rstrip(" =?.？。") + rng.choice(THEN[lang])
    number_text = second.subject.rpartition(" ")[2]
    return Chain(asked + rng.choice(NEXT[lang, wish]).format(x=number_text), (first, second))


def draw_jobs(tools: tuple[str, ...], lang: str, rng: Random, exam: bool = False) -> list[Job]:
    """One job, or now and then two that are asked for at once."""
    count = 2 if rng.random() < 0.35 else 1
    return [draw_job(rng.choice(tools), lang, rng, exam) for _ in range(count)]


def ask(jobs: list[Job], lang: str, rng: Random) -> str:
    """The user's words for all jobs."""
    return rng.choice(JOIN[lang]).join(job.ask(lang, rng) for job in jobs)


def calls(jobs: list[Job]) -> str:
    """What the model writes to have them done."""
    return "\n".join(job.call for job in jobs)


def reply(jobs: list[Job], lang: str) -> str:
    """What the model says when all results are there."""
    return "\n".join(job.reply(lang) for job in jobs)


def plan(jobs: list[Job], lang: str) -> str:
    """The thought before the calls."""
    names = list(dict.fromkeys(job.tool for job in jobs))
    return USE[lang].format(names=(" and " if lang == "en" else "和").join(names))
