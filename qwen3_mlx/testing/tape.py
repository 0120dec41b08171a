"""What a scripted model is to say, and what it was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwen3_mlx.events import FinishReason, Timing
from qwen3_mlx.interface import Message, Sampling

if TYPE_CHECKING:
    from qwen3_mlx.grammar.grammar import Grammar

__all__ = ["Answer", "Call", "pieces"]

_PIECE = re.compile(r"\s*\S{1,6}|\s+\Z")


def pieces(text: str) -> list[str]:
    """Cut a text the way a tokenizer would, roughly: words with their space, six letters at most.

    >>> pieces("Hello world, again")
    ['Hello', ' world,', ' again']
    """
    return _PIECE.findall(text)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer on the tape.

    `tokens_per_second=0` streams as fast as it is read. `error` is met after `error_after`
    tokens. `pause_after` holds the stream after so many tokens until `FakeModel.go_on()`,
    which lets a test look at a half-said answer without racing it. `timing` replaces the
    measured one where a test compares pictures. `calls` are the tool calls of the answer, each a
    name and arguments.
    """

    text: str = ""
    thinking: str = ""
    tokens_per_second: float = 0.0
    finish_reason: FinishReason = "stop"
    error: Exception | None = None
    error_after: int = 0
    pause_after: int | None = None
    notices: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    timing: Timing | None = None
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    thinking_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What `FakeModel.stream` was asked for; a string prompt is kept as one user message."""

    messages: tuple[Message, ...]
    thinking: bool | None
    system: str | None
    sampling: Sampling | None
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    timeout: float | None
    thinking_budget: int | None = None
    grammar: Grammar | None = None
    tools: tuple[Any, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return str(self.messages[-1].get("content", "")) if self.messages else ""
