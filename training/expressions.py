"""Expressions of three to six terms with + - × and brackets; every value is from 0 to 200."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Self

from problem import Problem, words

Token = int | str
MOST = 200  # no value on the way is larger, and none is negative
ASK = {
    "en": words(
        """{e}|{e} =|{e}=?|{e}?|What is {e}?|What's {e}?|How much is {e}?|Calculate {e}|Compute {e}
        Calculate {e}.|Evaluate {e}|Solve {e}|Please calculate {e}|Work out {e}|Tell me {e}.
        What does {e} make?|Can you calculate {e}?|What is the value of {e}?|And {e}?|Now {e}"""
    ),
    "zh": words(
        """{e}|{e}=|{e}=?|{e}等于多少？|{e}是多少？|{e}等于几？|计算{e}|请计算{e}|算一下{e}|帮我算{e}
        请问{e}等于多少？|求{e}的值|那{e}呢？|{e}得多少？|请算{e}。"""
    ),
}


@dataclass(frozen=True)
class Expression(Problem):
    """Numbers, operations and brackets, in the order of writing."""

    tokens: tuple[Token, ...]

    @classmethod
    def draw(cls, rng: Random) -> Self:
        while True:
            tokens = _draw_tokens(rng.randint(3, 6), rng)
            if _is_modest(tokens):
                return cls(tuple(tokens))

    @property
    def key(self) -> str:
        """Its numbers and its operations, in no order and with no brackets."""
        return " ".join(sorted(str(token) for token in self.tokens if token not in ("(", ")")))

    @property
    def terms(self) -> int:
        """How many numbers it has."""
        return sum(isinstance(token, int) for token in self.tokens)

    def ask(self, lang: str, rng: Random) -> str:
        shown = _spaced(self.tokens) if rng.random() < 0.5 else text(self.tokens)
        return rng.choice(ASK[lang]).format(e=shown.replace("×", rng.choice("×*x×*")))

    def answer(self, lang: str) -> str:
        return str(self.lines[-1])

    def thought(self, lang: str) -> str:
        """The expression, then after each operation what is left of it."""
        return "\n".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """From the whole expression to its value, one operation at a time."""
        tokens, lines = list(self.tokens), [text(self.tokens)]
        while len(tokens) > 1:
            tokens = reduce_once(tokens)[0]
            lines.append(text(tokens))
        return lines


def text(tokens: tuple[Token, ...] | list[Token]) -> str:
    """Without spaces, as in a thought."""
    return "".join(map(str, tokens))


def _spaced(tokens: tuple[Token, ...]) -> str:
    return "".join(f" {token} " if token in ("+", "-", "×") else str(token) for token in tokens)


def reduce_once(tokens: list[Token]) -> tuple[list[Token], tuple[int, str, int]]:
    """One operation done: in the first bracket if there is one, × before + and -, from the left.

    Returns what is left and the operation.
    """
    start, end = 0, len(tokens)
    if ")" in tokens:
        end = tokens.index(")")
        start = end - tokens[:end][::-1].index("(")
    inner = tokens[start:end]
    place = inner.index("×") if "×" in inner else 1
    a, op, b = inner[place - 1 : place + 2]
    assert isinstance(a, int)
    assert isinstance(b, int)
    value = a + b if op == "+" else a - b if op == "-" else a * b
    inner[place - 1 : place + 2] = [value]
    if len(inner) == 1 and end < len(tokens):
        start, end = start - 1, end + 1  # the brackets go with the last operation in them
    return [*tokens[:start], *inner, *tokens[end:]], (a, str(op), b)


def _draw_tokens(terms: int, rng: Random) -> list[Token]:
    ops = rng.choices("+-×", (4, 3, 3), k=terms - 1)
    near = [("×" in ops[max(0, place - 1) : place + 1]) for place in range(terms)]
    tokens: list[Token] = [rng.randint(2, 9) if close else rng.randint(1, 20) for close in near]
    spans = []
    if rng.random() < 0.6:
        length = rng.randint(2, min(3, terms - 1))
        first = rng.randint(0, terms - length)
        spans.append((first, first + length - 1))
        if terms - first - length >= 2 and rng.random() < 0.4:
            spans.append((first + length, min(terms - 1, first + length + rng.randint(1, 2))))
    for first, last in spans:
        tokens[first], tokens[last] = f"({tokens[first]}", f"{tokens[last]})"
    flat: list[Token] = []
    for place, token in enumerate(tokens):
        flat += _split(token) + ([ops[place]] if place < len(ops) else [])
    return flat


def _split(token: Token) -> list[Token]:
    """Take a bracket off its number."""
    if isinstance(token, int):
        return [token]
    number: list[Token] = [int(token.strip("()"))]
    return ["(", *number] if token[0] == "(" else [*number, ")"]


def _is_modest(tokens: list[Token]) -> bool:
    """Whether every operation stays within what tiny can do at once."""
    while len(tokens) > 1:
        tokens, (a, op, b) = reduce_once(tokens)
        if op == "×" and (min(a, b) > 9 or max(a, b) > 30 or a * b > MOST):
            return False
        if (op == "-" and b > a) or (op == "+" and a + b > MOST):
            return False
    return True
