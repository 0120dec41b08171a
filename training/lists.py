"""Short lists to sort and to reverse, and texts to repeat word for word."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Self

from problem import Problem, words
from vocabulary import EN_WORDS, ZH_WORDS, invented, something

SORT = {
    ("en", True): words(
        """sort {l}|Sort: {l}|Sort {l} from small to large|sort these numbers: {l}
        Please sort {l}.|put {l} in order|Order these: {l}|arrange {l} in ascending order
        Sort in ascending order: {l}|sort the list {l}|{l}, sorted"""
    ),
    ("en", False): words(
        """sort {l} from large to small|Sort in descending order: {l}|largest first: {l}
        Sort {l} in descending order|Sort {l}, the largest first|put {l} in falling order
        order these from large to small: {l}"""
    ),
    ("zh", True): words(
        """把 {l} 排序|排序：{l}|请把 {l} 从小到大排列|从小到大排序：{l}|给 {l} 排序|升序排列：{l}
        请给这些数排序：{l}|把这些数从小到大排：{l}"""
    ),
    ("zh", False): words(
        "把 {l} 从大到小排列|从大到小排序：{l}|降序排列：{l}|请把 {l} 从大到小排序|从大到小排：{l}"
    ),
}
REVERSE = {
    "en": words(
        """reverse {l}|Reverse: {l}|Reverse the list {l}|turn {l} around|write {l} backwards
        {l} in reverse order|Please reverse {l}.|give me {l} in reverse|say {l} backwards"""
    ),
    "zh": words("把 {l} 倒过来|倒序：{l}|请把 {l} 反过来|反转列表：{l}|倒着写 {l}|反过来写：{l}"),
}
REPEAT = {
    "en": words(
        """repeat: {t}|Repeat this: {t}|Repeat after me: {t}|say: {t}|Please repeat: {t}
        Say exactly this: {t}|copy this text: {t}|echo: {t}|Write this again: {t}|repeat "{t}"
        Can you repeat this? {t}|say "{t}\""""
    ),
    "zh": words(
        """重复：{t}|请重复：{t}|跟我说：{t}|照着说：{t}|请说：{t}|复述：{t}|抄写：{t}|请把这句话重复一遍：{t}"""
    ),
}


@dataclass(frozen=True)
class Sorting(Problem):
    """Three to six different numbers from 0 to 99."""

    items: tuple[int, ...]
    rising: bool

    @classmethod
    def draw(cls, rng: Random) -> Self:
        items = rng.sample(range(100), rng.randint(3, 6))
        return cls(tuple(items), rng.random() < 0.6)

    @property
    def key(self) -> str:
        """The numbers in no order: sorted and reversed lists share their split."""
        return " ".join(map(str, sorted(self.items)))

    def ask(self, lang: str, rng: Random) -> str:
        return rng.choice(SORT[lang, self.rising]).format(l=_written(self.items, lang, rng))

    def answer(self, lang: str) -> str:
        return ", ".join(map(str, sorted(self.items, reverse=not self.rising)))

    def thought(self, lang: str) -> str:
        """The first of the order, and what is left of the list; then again."""
        left, lines = list(self.items), [" ".join(map(str, self.items))]
        for item in sorted(self.items, reverse=not self.rising)[:-1]:
            left.remove(item)
            lines.append(f"{item}: {' '.join(map(str, left))}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Reversing(Problem):
    """Three to six numbers, letters or words to be said from the end."""

    items: tuple[str, ...]

    @classmethod
    def draw(cls, rng: Random) -> Self:
        count, kind = rng.randint(3, 6), rng.random()
        if kind < 0.5:
            return cls(tuple(map(str, rng.sample(range(100), count))))
        source = tuple("abcdefghijklmnopqrstuvwxyz") if kind < 0.75 else EN_WORDS
        return cls(tuple(rng.sample(source, count)))

    @property
    def key(self) -> str:
        """The items in no order."""
        return " ".join(sorted(self.items, key=lambda item: (len(item), item)))

    def ask(self, lang: str, rng: Random) -> str:
        return rng.choice(REVERSE[lang]).format(l=_written(self.items, lang, rng))

    def answer(self, lang: str) -> str:
        return ", ".join(reversed(self.items))

    def thought(self, lang: str) -> str:
        """The items with their places, to be read from the last place on."""
        return " ".join(f"{place}:{item}" for place, item in enumerate(self.items, 1))


@dataclass(frozen=True)
class Copying(Problem):
    """Some words, known or not, or digits."""

    text: str

    @classmethod
    def draw(cls, rng: Random) -> Self:
        kind, count = rng.random(), rng.randint(2, 12)
        if kind < 0.15:
            return cls("".join(rng.choices("0123456789", k=count + 1)))
        if kind < 0.40:
            return cls("".join(rng.choice(ZH_WORDS) for _ in range((count + 1) // 2)))
        return cls(
            " ".join(
                invented(rng) if rng.random() < 0.25 else rng.choice(EN_WORDS) for _ in range(count)
            )
        )

    @classmethod
    def practise(cls, rng: Random) -> Self:
        """As often with words from everywhere, so that there is none that cannot be said again."""
        if rng.random() < 0.5:
            return cls.draw(rng)
        lang = rng.choice(("en", "zh"))
        said = (something(lang, rng) for _ in range(rng.randint(2, 6)))
        return cls((" " if lang == "en" else "").join(said))

    @property
    def key(self) -> str:
        return self.text

    def ask(self, lang: str, rng: Random) -> str:
        return rng.choice(REPEAT[lang]).format(t=self.text)

    def answer(self, lang: str) -> str:
        return self.text

    def thought(self, lang: str) -> str:
        return "我照着说。" if lang == "zh" else "I say it again."


def _written(items: tuple[int, ...] | tuple[str, ...], lang: str, rng: Random) -> str:
    between = rng.choice((", ", ", ", " ", ",") if lang == "en" else ("、", "，", " ", ", "))
    listed = between.join(map(str, items))
    return f"[{listed}]" if between == ", " and rng.random() < 0.1 else listed
