"""Sums and differences of whole numbers with up to four digits."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Self

from problem import Problem

PLACES = {
    "en": ("ones", "tens", "hundreds", "thousands", "ten-thousands"),
    "zh": ("个位", "十位", "百位", "千位", "万位"),
}

ASK = {
    ("en", "+"): (
        "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=", "{a}+{b}=?", "{a} + {b}?",
        "{a} plus {b}", "What is {a} + {b}?", "What is {a} plus {b}?", "What's {a} + {b}?",
        "What's {a} plus {b}?", "How much is {a} + {b}?", "How much is {a} plus {b}?",
        "How much is {a}+{b}?", "Add {a} and {b}.", "Add {a} to {b}", "Please add {a} and {b}.",
        "Can you add {a} and {b}?", "Sum of {a} and {b}", "Calculate {a} + {b}",
        "Calculate {a}+{b}.", "Compute {a} + {b}", "Compute {a} plus {b}.",
        "What is the sum of {a} and {b}?", "Can you compute {a} + {b}?",
        "Could you work out {a} plus {b}?", "Tell me {a} + {b}.", "Tell me the sum of {a} and {b}.",
        "I need {a} + {b}.", "Solve {a}+{b}", "Please calculate {a} + {b}.",
        "Do you know what {a} + {b} is?", "What does {a} + {b} make?",
        "What do {a} and {b} make together?", "{a} and {b} together?", "Now {a} + {b}",
        "And {a} + {b}?", "Then what is {a} + {b}?", "Work out {a} + {b} for me",
        "{a} added to {b}", "Evaluate {a} + {b}.",
    ),
    ("en", "-"): (
        "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=", "{a}-{b}=?", "{a} - {b}?",
        "{a} minus {b}", "What is {a} - {b}?", "What is {a} minus {b}?", "What's {a} - {b}?",
        "What's {a} minus {b}?", "How much is {a} - {b}?", "How much is {a} minus {b}?",
        "How much is {a}-{b}?", "Subtract {b} from {a}.", "Please subtract {b} from {a}.",
        "Can you subtract {b} from {a}?", "Take {b} away from {a}", "Take {b} from {a}.",
        "Calculate {a} - {b}", "Calculate {a}-{b}.", "Compute {a} - {b}", "Compute {a} minus {b}.",
        "Can you compute {a} - {b}?", "{a} − {b}", "Could you work out {a} minus {b}?",
        "Tell me {a} - {b}.", "I need {a} - {b}.", "Solve {a}-{b}", "Please calculate {a} - {b}.",
        "Do you know what {a} - {b} is?", "{a} less {b}", "Now {a} - {b}",
        "What is left of {a} after taking {b} away?", "And {a} - {b}?", "Then what is {a} - {b}?",
        "Work out {a} - {b} for me", "What does {a} - {b} make?", "Evaluate {a} - {b}.",
    ),
    ("zh", "+"): (
        "{a}+{b}", "{a}+{b}=", "{a}+{b}=?", "{a} + {b} 等于多少？", "{a}加{b}",
        "{a}加{b}等于多少？", "{a}加{b}等于几？", "{a}加上{b}是多少？", "{a} 加 {b} 是多少？",
        "计算{a}+{b}", "请计算 {a} + {b}", "请计算{a}加{b}。", "帮我算一下{a}+{b}",
        "帮我算{a}加{b}", "算一下 {a} + {b}", "{a}与{b}的和是多少？", "{a}和{b}加起来是多少？",
        "求{a}加{b}的和", "请问{a}+{b}是多少？", "{a}加{b}得多少？", "那{a}+{b}呢？",
        "{a}+{b}等于几", "请把{a}和{b}加起来。", "告诉我{a}+{b}的结果",
    ),
    ("zh", "-"): (
        "{a}-{b}", "{a}-{b}=", "{a}-{b}=?", "{a} - {b} 等于多少？", "{a}减{b}",
        "{a}减{b}等于多少？", "{a}减{b}等于几？", "{a}减去{b}是多少？", "{a} 减 {b} 是多少？",
        "计算{a}-{b}", "请计算 {a} - {b}", "请计算{a}减{b}。", "帮我算一下{a}-{b}",
        "帮我算{a}减{b}", "算一下 {a} - {b}", "{a}与{b}的差是多少？", "从{a}里减去{b}是多少？",
        "求{a}减{b}的差", "请问{a}-{b}是多少？", "{a}减{b}得多少？", "那{a}-{b}呢？",
        "{a}-{b}等于几", "请用{a}减去{b}。", "告诉我{a}-{b}的结果",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Sum(Problem):
    """Two whole numbers and the operation between them."""

    exam_share = 40

    a: int
    b: int
    op: str

    @classmethod
    def draw(cls, rng: Random) -> Self:
        return cls(*draw_operands(rng), rng.choice("+-"))

    @property
    def key(self) -> str:
        """The pair of operands, for both orders and both operations."""
        return f"{min(self.a, self.b)},{max(self.a, self.b)}"

    @property
    def result(self) -> int:
        """The right answer."""
        return self.a + self.b if self.op == "+" else self.a - self.b

    def ask(self, lang: str, rng: Random) -> str:
        return rng.choice(ASK[lang, self.op]).format(a=self.a, b=self.b)

    def answer(self, lang: str) -> str:
        """Repeating the problem first brings every wording into one form."""
        return f"{self.a} {self.op} {self.b} = {self.result}"

    def thought(self, lang: str) -> str:
        """The working in the order of paper: a digit needs only what stands above it."""
        a, b = self.a, self.b
        head = f"{a} {self.op} {b}"
        if self.op == "+":
            return "\n".join([head, *_add_lines(a, b, lang)])
        compared = _compare(a, b)
        if a >= b:
            return "\n".join([head, compared, *_subtract_lines(a, b, lang)])
        return "\n".join([head, f"{compared}: -({b} - {a})", *_subtract_lines(b, a, lang)])


class CloseSum(Sum):
    """The hard ones: which of two like numbers is the greater takes longest to learn, and long
    chains of carries and borrows. Every second one is a difference of two that are nearly equal.
    """

    @classmethod
    def practise(cls, rng: Random) -> Self:
        if rng.random() < 0.5:
            width = rng.choice((12, 12, 100, 1000))
            return cls(*draw_operands(rng, like=1 / 3, width=width), rng.choice("+-"))
        a = draw_number(rng)
        return cls(a, min(9999, max(0, a + rng.randrange(-30, 31))), "-")


def draw_number(rng: Random) -> int:
    """A number of one to four digits, long ones more often because they need more practice."""
    digits = rng.choices((1, 2, 3, 4), (1, 2, 3, 4))[0]
    return rng.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def draw_operands(rng: Random, like: float = 1 / 6, width: int = 12) -> tuple[int, int]:
    """A pair of operands. A share of them is alike, or near a round sum, by up to a width: the long
    chains of carries and borrows, which are the hard case.
    """
    a = draw_number(rng)
    if rng.random() < like:
        limit = 10 ** len(str(a))
        near = limit - a if rng.random() < 0.5 else a
        return a, min(9999, max(0, near + rng.randrange(-width, width + 1)))
    return a, draw_number(rng)


def _digits(number: int, width: int) -> list[int]:
    """Digits from the ones upwards, filled with zeros to the width."""
    return [int(d) for d in reversed(str(number).zfill(width))]


def _compare(a: int, b: int) -> str:
    """Digit against digit from the top, as far as they are equal: `3=3 0=0 5<9`."""
    width, pairs = max(len(str(a)), len(str(b))), []
    for x, y in zip(str(a).zfill(width), str(b).zfill(width), strict=True):
        pairs.append(f"{x}{'=' if x == y else '<' if x < y else '>'}{y}")
        if x != y:
            break
    return " ".join(pairs)


def _add_lines(a: int, b: int, lang: str) -> list[str]:
    """Written addition, a line for each place; two digits in a result are a carry."""
    carry, lines = 0, []
    width = max(len(str(a)), len(str(b)))
    for place, (x, y) in enumerate(zip(_digits(a, width), _digits(b, width), strict=True)):
        total = x + y + carry
        lines.append(f"{PLACES[lang][place]} {x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return lines


def _subtract_lines(a: int, b: int, lang: str) -> list[str]:
    """Written subtraction of a smaller number; two digits at the front of a line are a borrow."""
    borrow, lines = 0, []
    width = len(str(a))
    for place, (x, y) in enumerate(zip(_digits(a, width), _digits(b, width), strict=True)):
        shown = x + 10 if x - y - borrow < 0 else x
        left = shown - y - borrow
        lines.append(f"{PLACES[lang][place]} {shown}-{y}{'-1' if borrow else ''}={left}")
        borrow = int(shown > 9)
    return lines
