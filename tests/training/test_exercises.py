"""Every problem: the answer is right, the thought leads to it, and the split holds."""

from __future__ import annotations

import re
from random import Random

import pytest
from expressions import Expression, reduce_once, text
from hypothesis import given
from hypothesis import strategies as st
from lists import Copying, Reversing, Sorting
from problem import LANGUAGES, Problem, draw_problem
from products import Fact, Product
from stories import LongStory, Story
from sums import Sum

KINDS = (Sum, Expression, Product, Fact, Story, LongStory, Sorting, Reversing, Copying)
seeds = st.integers(0, 1 << 40)


def value(calculation: str) -> int:
    """Python's opinion."""
    assert re.fullmatch(r"[\d+\-*()]+", calculation.replace("×", "*").replace(" ", ""))
    result: int = eval(calculation.replace("×", "*"))
    return result


@given(seeds)
def test_every_line_of_a_sum_is_true(seed: int) -> None:
    problem = Sum.draw(Random(seed))
    asked, answer = problem.answer("en").split(" = ")
    lines = problem.thought("zh").split("\n")[1:]

    assert value(asked) == int(answer)
    if problem.op == "-":
        compared, _, swapped = lines.pop(0).partition(": ")
        *equal, last = compared.split(" ")
        assert all(pair[0] == pair[2] and pair[1] == "=" for pair in equal)
        assert last[1] == ("<" if last[0] < last[2] else ">" if last[0] > last[2] else "=")
        assert (last[1] == "<") == (problem.a < problem.b) == bool(swapped)
        assert not swapped or value(swapped) == int(answer)
    for line in lines:
        left, _, right = line.partition(" ")[2].partition("=")
        assert value(left) == int(right)


@given(seeds)
def test_an_expression_is_worked_out_in_true_steps(seed: int) -> None:
    problem = Expression.draw(Random(seed))
    values = {value(line) for line in problem.lines}

    assert values == {int(problem.answer("en"))}
    assert 3 <= problem.terms <= 6
    assert len(problem.lines) == problem.terms


def test_the_order_of_operations() -> None:
    tokens = [2, "+", "(", 3, "-", 1, ")", "×", 4]
    seen = []
    while len(tokens) > 1:
        tokens, _ = reduce_once(tokens)
        seen.append(text(tokens))

    assert seen == ["2+2×4", "2+8", "10"]


@given(seeds)
def test_products_and_stories_in_true_lines(seed: int) -> None:
    rng = Random(seed)
    for problem in (Product.draw(rng), Fact.draw(rng), LongStory.draw(rng), Story.draw(rng)):
        lines = [line.split("=") for line in problem.thought("en").split("\n") if "=" in line]
        assert all(value(left) == int(right) for left, right in lines)
        assert lines[-1][1] in problem.answer("zh")


def test_a_thought_of_each_kind() -> None:
    assert Sum(57, 85, "+").thought("en") == "57 + 85\nones 7+5=12\ntens 5+8+1=14"
    assert Sum(3, 12, "-").thought("zh") == "3 - 12\n0<1: -(12 - 3)\n个位 12-3=9\n十位 1-0-1=0"
    assert Sum(58, 52, "-").thought("en") == "58 - 52\n5=5 8>2\nones 8-2=6\ntens 5-5=0"
    assert Product(47, 36).thought("en") == "47×36\n47×30=1410\n47×6=282\n1410+282=1692"
    assert Sorting((9, 1, 5), True).thought("en") == "9 1 5\n1: 9 5\n5: 9"
    assert Reversing(("a", "b", "c")).thought("en") == "1:a 2:b 3:c"
    assert Story(3, (("×", 4),), 1).thought("en") == "3×4=12"


@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_holds_the_problem(kind: type[Problem]) -> None:
    rng = Random(1)
    for _ in range(200):
        problem = kind.draw(rng)
        for lang in LANGUAGES:
            asked = problem.ask(lang, rng)
            assert "{" not in asked + problem.answer(lang) + problem.thought(lang)
            for number in re.findall(r"\d+", problem.key):
                assert number in asked


@pytest.mark.parametrize("kind", KINDS)
def test_the_split(kind: type[Problem]) -> None:
    """Lessons and examination share no problem; facts are never examined."""
    rng = Random(2)
    taught = {draw_problem(kind, rng).key for _ in range(1500)}
    if kind is not Fact:
        examined = {draw_problem(kind, rng, exam=True).key for _ in range(200)}
        assert not taught & examined


def test_the_order_makes_no_other_problem() -> None:
    assert Sum(1, 2, "+").key == Sum(2, 1, "-").key
    assert Product(12, 34).key == Product(34, 12).key
    assert Expression((1, "+", 2, "×", 3)).key == Expression((3, "×", "(", 2, "+", 1, ")")).key
    assert Sorting((3, 1, 2), True).key == Sorting((1, 2, 3), False).key
