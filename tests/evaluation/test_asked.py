"""Asking tiny its examination, with few problems; and the arithmetic of shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qwen3_mlx
from qwen3_mlx import OptionError
from qwen3_mlx.evaluation import run
from qwen3_mlx.evaluation.experts import expert_use, information
from qwen3_mlx.evaluation.problems import Problem, read_problems, select
from qwen3_mlx.evaluation.run import Answer, ask_all, interval, score


@pytest.fixture(scope="module")
def tiny() -> qwen3_mlx.Qwen3:
    with qwen3_mlx.load("tiny") as model:
        yield model


def test_sums_in_both_modes(tiny: qwen3_mlx.Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_WINDOW", 3)  # some wait while others run
    problems = select(read_problems(), ("sums",), 4)
    done: list[int] = []

    direct = ask_all(tiny, problems, mode="direct", told=done.append)
    cut = ask_all(tiny, problems[:2], mode="thinking", budget=5)

    assert done == [1, 2, 3, 4]
    assert [answer.problem for answer in direct] == problems
    assert all("=" in answer.text for answer in direct)
    assert sum(answer.right for answer in direct) >= 2
    assert [answer.thinking_tokens for answer in direct] == [0] * 4
    assert [answer.thinking_tokens for answer in cut] == [5, 5]


def test_tools_are_asked_through_the_template(tiny: qwen3_mlx.Qwen3) -> None:
    problem = select(read_problems(), ("tools",), 1)[0]
    (answer,) = ask_all(tiny, [problem], mode="thinking", max_tokens=3)

    assert answer.finish_reason == "length"
    assert not answer.right


def test_expert_use(tiny: qwen3_mlx.Qwen3) -> None:
    problems = [
        Problem("a", "en", ({"role": "user", "content": "1 + 1"},)),
        Problem("b", "zh", ({"role": "user", "content": "你好"},)),
    ]
    answers = [Answer(problem, "2", True, "stop", 0) for problem in problems]

    use = expert_use(tiny, [*answers, answers[0]])

    assert set(use) == {("a", "en"), ("b", "zh")}
    assert use["a", "en"].shape == (4, 16)
    ids = tiny.encode(tiny.render(problems[0].messages, thinking=False) + "2")
    assert use["a", "en"].sum() == 2 * len(ids) * 4 * 4  # twice, four experts in four layers
    assert all(0 < bits < 1 for bits in information(use))


def test_information_of_specialists() -> None:
    alike = {("a", "en"): np.array([[1, 1]]), ("b", "en"): np.array([[5, 5]])}
    apart = {("a", "en"): np.array([[1, 0]]), ("b", "en"): np.array([[0, 9]])}

    assert information(alike) == [0.0]
    assert information(apart) == [1.0]


@given(st.integers(1, 2000), st.data())
def test_the_interval_holds_the_share(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    low, high = interval(right, count)

    assert 0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1
    assert low < high


def test_no_share_of_nothing() -> None:
    with pytest.raises(OptionError):
        interval(0, 0)


def test_a_score() -> None:
    problem = Problem("a", "en", ())
    answers = [Answer(problem, "", right, "stop", 10) for right in (True, False, True, True)]

    assert score(answers).share == 0.75
    assert score(answers).thinking_tokens == 10
