"""Put problems to a model, many at a time, and count what it gets right."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Literal

from qwen3_mlx.errors import OptionError
from qwen3_mlx.evaluation.problems import Problem
from qwen3_mlx.events import Reply
from qwen3_mlx.interface import Sampling
from qwen3_mlx.text.thinking import strip_thinking

if TYPE_CHECKING:
    from qwen3_mlx.api import Qwen3
    from qwen3_mlx.generation import TextGeneration

__all__ = ["Answer", "Mode", "Score", "ask_all", "interval", "score"]

Mode = Literal["direct", "thinking"]
_WINDOW = 32  # conversations under way: twice what the engine decodes at once


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a problem. `thinking_tokens` counts only thoughts that were told apart
    while they streamed, not those before tool calls.
    """

    problem: Problem
    text: str
    right: bool
    finish_reason: str
    thinking_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """How many of some answers are right."""

    right: int
    count: int
    thinking_tokens: float  # mean

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.right / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share is, with 95 % confidence."""
        return interval(self.right, self.count)


def interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927): honest near 0 and 1, where most shares lie.

    >>> tuple(round(end, 3) for end in interval(97, 100))
    (0.915, 0.99)
    """
    if count < 1:
        raise OptionError("there is no share of nothing")
    share = right / count
    whole = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / whole
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / whole
    return max(0.0, middle - spread), min(1.0, middle + spread)


def score(answers: Sequence[Answer]) -> Score:
    """The score of some answers, at least one."""
    tokens = sum(answer.thinking_tokens for answer in answers) / len(answers)
    return Score(sum(answer.right for answer in answers), len(answers), tokens)


def ask_all(
    model: Qwen3,
    problems: Iterable[Problem],
    *,
    mode: Mode,
    budget: int | None = None,
    sampling: Sampling | None = None,
    max_tokens: int = 300,
    told: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """The model's answers, in the order of the problems.

    Args:
        model: what `qwen3_mlx.load` returned.
        problems: what to ask.
        mode: with the thought switched on or off.
        budget: the most tokens of a thought. Problems with tools are asked without one.
        sampling: how tokens are drawn; greedily unless it is given.
        max_tokens: a reply that is not over by then is wrong.
        told: called with the number of answers so far.
    """
    drawn = sampling or Sampling(temperature=0)

    def start(problem: Problem, seed: int) -> TextGeneration:
        thinking = mode == "thinking"
        if problem.tools:
            prompt = model.render(problem.messages, tools=problem.tools, thinking=thinking)
            return model.stream(prompt, raw=True, sampling=drawn, max_tokens=max_tokens, seed=seed)
        return model.stream(
            problem.messages, thinking=thinking, sampling=drawn, max_tokens=max_tokens, seed=seed,
            thinking_budget=budget if thinking else None,
        )  # fmt: skip

    answers = []
    for problem, reply in _side_by_side(problems, start):
        answers.append(_judge(problem, reply))
        told(len(answers))
    return answers


def _side_by_side(
    problems: Iterable[Problem], start: Callable[[Problem, int], TextGeneration]
) -> Iterator[tuple[Problem, Reply]]:
    """Replies in order, with some conversations always under way."""
    running: deque[tuple[Problem, TextGeneration]] = deque()
    for number, problem in enumerate(problems):
        running.append((problem, start(problem, number)))
        if len(running) == _WINDOW:
            asked, generation = running.popleft()
            yield asked, generation.result()
    for asked, generation in running:
        yield asked, generation.result()


def _judge(problem: Problem, reply: Reply) -> Answer:
    text = strip_thinking(reply.text)[1] if problem.tools else reply.text
    over = reply.finish_reason == "stop"
    right = over and problem.is_right(text)
    return Answer(problem, text, right, reply.finish_reason, reply.usage.thinking_tokens)
