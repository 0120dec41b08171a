"""What all exercises have in common: a question, an answer, a thought, and a side of the split.

The split is by problem and not by wording: everything that has the same `key` is either in the
lessons or in the examination, in every language and way to ask. What is measured is therefore
about unseen problems and not about remembered lines.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar, Self, TypeVar

LANGUAGES = ("en", "zh")
Kind = TypeVar("Kind", bound="Problem")


class Problem(ABC):
    """An exercise with one right answer."""

    exam_share: ClassVar[int] = 20  # one key in so many belongs to the examination

    @classmethod
    @abstractmethod
    def draw(cls, rng: Random) -> Self:
        """Any problem of the kind."""

    @classmethod
    def practise(cls, rng: Random) -> Self:
        """A problem for a lesson, where some kinds need more of what is hard."""
        return cls.draw(rng)

    @property
    @abstractmethod
    def key(self) -> str:
        """What makes this problem; wordings and orders that do not matter are not in it."""

    @abstractmethod
    def ask(self, lang: str, rng: Random) -> str:
        """One of the ways to ask for it."""

    @abstractmethod
    def answer(self, lang: str) -> str:
        """The whole reply."""

    @abstractmethod
    def thought(self, lang: str) -> str:
        """The working, short: every line needs only what stands above it."""

    @property
    def in_exam(self) -> bool:
        """True when the lessons never hold this problem."""
        return zlib.crc32(self.key.encode()) % self.exam_share == 0


def draw_problem(kind: type[Kind], rng: Random, exam: bool = False) -> Kind:
    """A problem of the kind, from the wanted side of the split."""
    while True:
        problem = kind.draw(rng) if exam else kind.practise(rng)
        if problem.in_exam == exam:
            return problem


def language(asked: str) -> str:
    """The language of the reply: Chinese only where the question shows it."""
    return "zh" if any("\u4e00" <= char <= "\u9fff" for char in asked) else "en"


def words(text: str) -> tuple[str, ...]:
    """Split a compact list: parts are divided by | or by a new line."""
    return tuple(part.strip() for part in text.replace("\n", "|").split("|") if part.strip())
