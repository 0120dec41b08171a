"""Words for lists, copying, stories and notes, and words that mean nothing."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from asks import ASKS
from problem import words

EN_WORDS = words(
    """red|green|blue|yellow|white|black|cat|dog|bird|fish|horse|mouse|tree|leaf|grass|stone|river
    sea|sun|moon|star|rain|snow|wind|cloud|house|door|window|table|chair|lamp|book|pen|paper|clock
    bread|milk|apple|pear|rice|soup|tea|salt|sugar|cake|one|two|three|four|five|six|seven|eight
    big|small|old|new|warm|cold|fast|slow|long|short|happy|quiet|the|a|and|or|in|on|under|over|we
    they|you|see|run|walk|sing|read|write|sleep|open|close|hello|good|night|day|year|north|south"""
)
ZH_WORDS = words(
    """红|绿|蓝|猫|狗|鸟|鱼|马|树|花|草|石头|河|海|太阳|月亮|星星|雨|雪|风|云|房子|门|窗|桌子|书|笔|纸
    面包|牛奶|苹果|米饭|汤|茶|盐|糖|一|二|三|大|小|新|旧|冷|热|快|慢|你|我|他们|看|跑|走|唱歌|读|写|早上
    晚上|今天|明天|北|南|朋友|老师|学生|火车|自行车"""
)


def invented(rng: Random) -> str:
    """A word that means nothing, so that unknown words become familiar as such."""
    count = rng.randint(1, 4)
    word = "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(count))
    return word + rng.choice(("", "", "n", "r", "st", "ck", "m", "l"))


@cache
def met(lang: str) -> tuple[str, ...]:
    """Every English word, or Chinese character, that people use in the lessons."""
    said = " ".join(" ".join(asks) for asks in ASKS[lang].values())
    return tuple(
        sorted(set(re.findall(r"[A-Za-z]{2,}" if lang == "en" else r"[\u4e00-\u9fff]", said)))
    )


def something(lang: str, rng: Random) -> str:
    """What can be copied only by looking: any word, two halves of words, or some characters."""
    if lang == "zh":
        return "".join(rng.choices(met("zh"), k=rng.randint(1, 4)))
    one, other = rng.choices(met("en"), k=2)
    word = one if rng.random() < 0.4 else one[: 1 + len(one) // 2] + other[len(other) // 2 :]
    return word.capitalize() if rng.random() < 0.4 else word
