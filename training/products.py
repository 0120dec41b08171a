"""Products: two numbers of two digits, and the facts that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Self

from problem import Problem, words

ASK = {
    "en": words(
        """{a} × {b}|{a} x {b}|{a} * {b}|{a}*{b}|{a}×{b}|{a}x{b}|{a} × {b} =|{a}*{b}=?|{a} times {b}
        What is {a} × {b}?|What is {a} * {b}?|What is {a} times {b}?|How much is {a} times {b}?
        Multiply {a} by {b}.|Multiply {a} and {b}|Calculate {a} × {b}|Calculate {a} * {b}
        the product of {a} and {b}|What is the product of {a} and {b}?|Compute {a} x {b}
        What's {a} times {b}?|How much is {a} * {b}?|Tell me {a} × {b}.|{a} multiplied by {b}
        Please multiply {a} by {b}.|And {a} times {b}?|Work out {a} × {b}|I need {a} times {b}"""
    ),
    "zh": words(
        """{a}×{b}|{a}*{b}|{a}×{b}=?|{a}乘{b}|{a}乘以{b}|{a}乘{b}等于多少？|{a}乘以{b}等于多少？
        {a}乘以{b}是多少？|计算{a}×{b}|请计算 {a} × {b}|算一下{a}乘{b}|帮我算{a}乘以{b}
        {a}和{b}的积是多少？|{a} × {b} 等于几？
        求{a}与{b}的积|请问{a}×{b}是多少？|那{a}乘{b}呢？|{a}乘{b}得多少？"""
    ),
}


@dataclass(frozen=True)
class Product(Problem):
    """Two numbers from 10 to 99."""

    exam_share = 8

    a: int
    b: int

    @classmethod
    def draw(cls, rng: Random) -> Self:
        return cls(rng.randrange(10, 100), rng.randrange(10, 100))

    @property
    def key(self) -> str:
        """The pair, in both orders."""
        return f"{min(self.a, self.b)}×{max(self.a, self.b)}"

    def ask(self, lang: str, rng: Random) -> str:
        return rng.choice(ASK[lang]).format(a=self.a, b=self.b)

    def answer(self, lang: str) -> str:
        return f"{self.a} × {self.b} = {self.a * self.b}"

    def thought(self, lang: str) -> str:
        """The first factor times tens and ones of the second, and their sum."""
        tens, ones = self.b // 10 * 10, self.b % 10
        parts = [self.a * part for part in (tens, ones) if part]
        lines = [f"{self.a}×{part}={self.a * part}" for part in (tens, ones) if part]
        if len(parts) > 1:
            lines.append(f"{parts[0]}+{parts[1]}={sum(parts)}")
        return "\n".join([f"{self.a}×{self.b}", *lines])


@dataclass(frozen=True)
class Fact(Product):
    """A factor of one digit: what the working of a product looks up. Never in the examination."""

    @classmethod
    def draw(cls, rng: Random) -> Self:
        a, b = rng.randrange(0, 100), rng.randrange(0, 10)
        return cls(a, b) if rng.random() < 0.7 else cls(b, a)

    @property
    def in_exam(self) -> bool:
        return False

    def thought(self, lang: str) -> str:
        return f"{self.a}×{self.b}={self.a * self.b}"
