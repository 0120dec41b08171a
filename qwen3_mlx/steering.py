"""What one answer may draw: bans, and a guide from where the answer begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from qwen3_mlx.engine.mask import Ban
from qwen3_mlx.events import FinishReason
from qwen3_mlx.grammar.guide import Guide
from qwen3_mlx.text.budget import EarlyStop
from qwen3_mlx.text.thinking import ThinkingParser
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Limits", "Steering"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a thought must end, and when it may.

    Args:
        early_stop: what ends a thought from outside; None where there are no thoughts.
        budget: the most tokens of a thought; None for any number.
        minimum: the least tokens of a thought, if there is one.
        answer_room: tokens to keep for the answer when the context gets full.
        loop_guard: whether a text that goes round in circles is ended.
        asked_tokens: max_tokens, where the caller gave it; a quarter is kept for the answer.
    """

    early_stop: EarlyStop | None = None
    budget: int | None = None
    minimum: int = 0
    answer_room: int = 0
    loop_guard: bool = True
    asked_tokens: int | None = None


@dataclass(slots=True)
class Steering:
    """The mask of a request, in three parts: before the thought, in it, and in the answer.

    Args:
        ban: ids that are forbidden now.
        guide: follows the answer; None for a free one.
        parser: tells where the answer begins; None where there are no thoughts.
        opening: the id that begins a thought, where the answer must not come without one.
        reserve: tokens that a thought must leave for the answer.
    """

    ban: Ban
    guide: Guide | None = None
    parser: ThinkingParser | None = None
    opening: int | None = None
    reserve: int = 0
    #: While a thought is held open, each draw waits until the token before it has been heard.
    holds: bool = False
    #: Ids between the end of a thought and a guided answer, still to be drawn.
    gap: list[int] = field(default_factory=list)

    @classmethod
    def free(cls, tokenizer: Tokenizer) -> Steering:
        """Nothing is forbidden, at first."""
        return cls(Ban(tokenizer.size))

    @property
    def needs_last(self) -> bool:
        return self.guide is not None or self.holds

    @property
    def in_answer(self) -> bool:
        """Whether the next token belongs to the answer."""
        return self.parser is None or self.parser.closed

    def guides_all(self, token: int) -> bool:
        """Whether the next token, this one, belongs to an answer all of which is guided."""
        guide = self.guide
        return guide is not None and guide.whole and self.in_answer and not guide.frees(token)

    @property
    def needs_answer(self) -> bool:
        """Whether the text must not end with its thought."""
        return self.guide is not None and self.guide.demands

    def hear(self, token: int) -> None:
        """The next token of a text that is guided, before it is read."""
        if self.guide is None:
            return
        if self.gap:
            self.gap.pop(0)
            return
        outside = self.parser is None or not self.parser.inside
        # An answer may begin with a call, and before that token nobody knows that it begins.
        if self.in_answer or (outside and not self.guide.demands):
            self.guide.take(token, 0)

    def part(self, tokenizer: Tokenizer) -> None:
        """The model has ended its thought: what parts it from the answer comes next."""
        if self.needs_answer:
            self.gap = tokenizer.encode("\n\n")

    def fits(self, reason: FinishReason) -> bool | None:
        """Whether an answer that ended so is whole and fits; None if it had nothing to fit."""
        if self.guide is None or not self.guide.whole:
            return None
        whole = self.in_answer and not self.gap and self.guide.fits
        return whole and reason in ("stop", "length", "repetition")

    def allowed(self) -> mx.array | None:
        guide = self.guide
        if guide is None:
            return self.ban.allowed()
        if not self.in_answer:
            before = self.parser is not None and not self.parser.inside and guide.demands
            return self._only(self.opening) if before else self.ban.allowed()
        if self.gap:
            return self._only(self.gap[0])
        bits = guide.allowed()
        if bits is None:
            return self.ban.allowed()
        words: Any = memoryview(bits).cast("i")  # mlx reads buffers, but does not say so
        return mx.array(words)

    def _only(self, id: int | None) -> mx.array | None:
        return None if id is None else mx.arange(self.ban.vocab) == id
