"""Many questions at once, without a model: their order, their errors, their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from qwen3_mlx.batching import ask_many
from qwen3_mlx.errors import EngineError


class Answered:
    """A generation that is over before anybody asks."""

    def __init__(self, prompt: str) -> None:
        self.prompt, self.cancelled = prompt, False

    def when_done(self, function: Callable[[], None]) -> None:
        function()

    def cancel(self) -> None:
        self.cancelled = True

    def result(self) -> str:
        return self.prompt.upper()


def run(prompts: list[str], **options: Any) -> tuple[Any, list[Answered]]:
    begun: list[Answered] = []

    def begin(prompt: Any, wishes: Any) -> Any:
        begun.append(Answered(prompt))
        return begun[-1]

    return ask_many(begin, prompts, {}, **options), begun


def test_more_questions_than_run_at_once_come_back_in_order() -> None:
    prompts = [f"a{number}" for number in range(200)]
    found, begun = run(prompts)
    assert found == [prompt.upper() for prompt in prompts]
    assert len(begun) == 200


def test_cancelling_ends_it_though_answers_never_pause() -> None:
    cancelled = threading.Event()
    prompts = [f"a{number}" for number in range(500)]

    def progress(done: int, total: int) -> None:
        if done == 3:
            cancelled.set()

    found, begun = run(prompts, progress=progress, cancelled=cancelled)
    assert sum(reply is not None for reply in found) == 3
    assert len(begun) < 100
    assert sum(each.cancelled for each in begun) == len(begun) - 3


@pytest.mark.parametrize("keep", [False, True])
def test_questions_that_cannot_begin(keep: bool) -> None:
    def begin(prompt: Any, wishes: Any) -> Any:
        raise EngineError(f"no {prompt}")

    if keep:
        errors = ask_many(begin, ["a", "b"], {}, keep=True)
        assert [str(each) for each in errors] == ["no a", "no b"]
    else:
        with pytest.raises(EngineError, match="no a"):
            ask_many(begin, ["a", "b"], {})
