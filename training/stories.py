"""Word problems of one and two steps: somebody has things, gets some, gives some away.

A story is an opening (a heap of things, or bags with as many in each), what happens to it, and the
question. The split looks at the numbers and operations alone: a calculation of the examination
is in no lesson's story, whoever has the things and in whatever language.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar, Self

from problem import Problem, words

NAMES = {
    "en": words(
        """Anna|Ben|Clara|David|Emma|Felix|Grace|Henry|Ida|Jack|Kim|Leo|Maria|Nora|Oscar|Paul
        Rosa|Sam|Tom|Zoe|Alice|Bob|the shop|the farmer|my sister|the teacher|our school"""
    ),
    "zh": words("小明|小红|小华|李雷|王芳|张伟|陈静|小李|小王|丽丽|妈妈|老师|商店|学校|农夫|我"),
}
THINGS = {
    "en": words(
        """apples|pears|eggs|books|pens|coins|stones|cards|cups|balls|stars|shells|flowers|cakes
        toys|keys|boxes of tea|lemons|nuts|tickets"""
    ),
    "zh": words(
        """个苹果|个梨|个鸡蛋|本书|支笔|枚硬币|块石头|张卡片|个杯子|个球|朵花|块蛋糕|个玩具|把钥匙|个柠檬|张票"""
    ),
}
HAVE = {
    "en": words(
        """{n} has {a} {t}.|{n} starts with {a} {t}.|At first {n} has {a} {t}.|There are {a} {t}.
        {n} finds {a} {t}.|On the table lie {a} {t}."""
    ),
    "zh": words(
        "{n}有{a}{t}。|原来{n}有{a}{t}。|桌上有{a}{t}。|{n}一开始有{a}{t}。|{n}找到了{a}{t}。"
    ),
}
BAGS = {
    "en": words(
        """{n} has {a} bags with {b} {t} in each.|There are {a} boxes with {b} {t} each.
        {n} buys {a} packs of {b} {t}.|{n} fills {a} baskets with {b} {t} each."""
    ),
    "zh": words(
        """{n}有{a}袋，每袋{b}{t}。|有{a}个盒子，每盒{b}{t}。|{n}买了{a}包，每包{b}{t}。|{n}装了{a}篮，每篮{b}{t}。"""
    ),
}
EVENT = {
    ("en", "+"): words(
        """Then {c} more come.|{c} more are added.|Then {n} gets {c} more.|{n} buys {c} more.
        A friend brings {c} more.|Later {c} more arrive."""
    ),
    ("en", "-"): words(
        """Then {c} are lost.|{n} gives {c} away.|{c} are sold.|{c} break.|Then {n} loses {c}.
        A friend takes {c}.|{c} are used."""
    ),
    ("zh", "+"): words("又来了{c}。|后来又买了{c}。|又得到{c}。|朋友又给了{c}。|再加上{c}。"),
    ("zh", "-"): words("送走了{c}。|用掉了{c}。|丢了{c}。|卖掉了{c}。|朋友拿走了{c}。"),
}
QUESTION = {
    "en": words(
        """How many {t} are there now?|How many {t} are there?|How many {t} does that make?
        How many are there in the end?|How many {t} in all?"""
    ),
    "zh": words("现在有多少{t}？|一共有多少{t}？|最后有多少{t}？|现在一共有多少{t}？"),
}


@dataclass(frozen=True)
class Story(Problem):
    """Numbers and what happens to them; `look` is the seed of the words."""

    exam_share = 8
    most_steps: ClassVar[int] = 1

    start: int
    steps: tuple[tuple[str, int], ...]
    look: int

    @classmethod
    def draw(cls, rng: Random) -> Self:
        bags = rng.random() < 0.4
        value = start = rng.randint(2, 9 if bags else 60)
        steps: list[tuple[str, int]] = []
        if bags:
            steps.append(("×", rng.randint(2, 12)))
            value *= steps[0][1]
        while len(steps) < cls.most_steps:
            op = rng.choice("+-") if value > 3 else "+"
            number = rng.randint(2, 40) if op == "+" else rng.randint(1, min(value, 40))
            steps.append((op, number))
            value += number if op == "+" else -number
        return cls(start, tuple(steps), rng.randrange(1 << 30))

    @property
    def key(self) -> str:
        """The calculation."""
        return f"{self.start}" + "".join(f"{op}{number}" for op, number in self.steps)

    @property
    def result(self) -> int:
        """How many things there are in the end."""
        return int(self.lines[-1].rpartition("=")[2])

    @property
    def lines(self) -> list[str]:
        """One calculation for each step."""
        value, lines = self.start, []
        for op, number in self.steps:
            after = {"+": value + number, "-": value - number, "×": value * number}[op]
            lines.append(f"{value}{op}{number}={after}")
            value = after
        return lines

    def ask(self, lang: str, rng: Random) -> str:
        words = Random(self.look)
        name, things = words.choice(NAMES[lang]), words.choice(THINGS[lang])
        unit = things[0] if lang == "zh" else ""
        bags = self.steps[0][0] == "×"
        second = self.steps[0][1]
        said = [words.choice((BAGS if bags else HAVE)[lang]).format(
            n=name, a=self.start, b=second, t=things
        )]  # fmt: skip
        for op, number in self.steps[bags:]:
            said.append(words.choice(EVENT[lang, op]).format(n=name, c=f"{number}{unit}"))
        said.append(words.choice(QUESTION[lang]).format(t=things if lang == "en" else things[1:]))
        told = [part[:1].upper() + part[1:] for part in said]
        return (" " if lang == "en" else "").join(told)

    def answer(self, lang: str) -> str:
        words = Random(self.look)
        words.choice(NAMES[lang])
        space = " " if lang == "en" else ""
        return f"{self.result}{space}{words.choice(THINGS[lang])}"

    def thought(self, lang: str) -> str:
        return "\n".join(self.lines)


class LongStory(Story):
    """Two steps."""

    exam_share = 20
    most_steps = 2
