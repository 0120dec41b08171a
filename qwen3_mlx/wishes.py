"""What callers may wish for, checked: lengths, limits, times. Errors name the number."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from qwen3_mlx.errors import OptionError, PromptError
from qwen3_mlx.steering import Limits
from qwen3_mlx.text.budget import EarlyStop

__all__ = ["deadline", "limits", "logprobs", "must_agree", "room", "room_to_make", "strings"]


def must_agree(
    *, raw: bool, chat: object, form: bool, stop: object, tools: object, forced: bool = False
) -> None:
    """Refuse wishes that cannot go together; what is true or not empty is wished for.

    Args:
        chat: a system prompt, or anything about thoughts.
        form: that the answer keeps to a grammar.
        forced: that a tool is called.

    Raises:
        OptionError: two of them cannot.
    """
    if raw and chat:
        raise OptionError("a raw prompt is one text, without system prompt or thinking=")
    if form and stop:
        raise OptionError("an answer that keeps to a grammar ends where that does: no stop=")
    if tools and raw:
        raise OptionError("tools do not go with a raw prompt: leave out one")
    if forced and not tools:
        raise OptionError("a call is required, and there are no tools: pass tools=")


def limits(
    early_stop: EarlyStop | None,
    context: int,
    *,
    budget: int | None,
    minimum: int,
    loop_guard: bool,
    can_hold: bool,
    max_tokens: int | None = None,
) -> Limits:
    """The limits of a thought; `can_hold` is whether its end is a token that can be refused."""
    if budget is not None and budget < 0:
        raise OptionError(f"thinking_budget is {budget}, and must be 0 (no thought) or more")
    if minimum < 0 or (budget is not None and minimum > budget):
        most = "" if budget is None else f" of {budget}"
        raise OptionError(f"min_thinking is {minimum}, and must be from 0 to the budget{most}")
    if minimum and not can_hold:
        raise OptionError(
            f"min_thinking is {minimum}, and this model has no thought to hold open: leave it out"
        )
    return Limits(early_stop, budget, minimum, min(512, context // 8), loop_guard, max_tokens)


def room(
    context: int, prompt_tokens: int, max_tokens: int | None, recommended: int, turns: int
) -> int:
    """How many tokens may follow the prompt."""
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise OptionError(f"max_tokens is {max_tokens!r}, and must be a whole number from 1 on")
    left = context - prompt_tokens
    if left < 1:
        hint = ', or let old turns go with overflow="drop-oldest"' if turns > 1 else ""
        raise PromptError(
            f"the prompt has {prompt_tokens:,} tokens and the context {context:,}: "
            f"shorten it, or split it into parts{hint}"
        )
    return min(left, recommended) if max_tokens is None else left


def room_to_make(overflow: str, context: int, max_tokens: int | None) -> int | None:
    """How many tokens must be left when old turns are dropped, None to drop none."""
    if overflow not in ("error", "drop-oldest"):
        raise OptionError(f"overflow is {overflow!r}, and must be error or drop-oldest")
    if overflow == "error":
        return None
    quarter = max(1, context // 4)
    return quarter if max_tokens is None else min(max_tokens, quarter)


def deadline(timeout: float | None) -> float | None:
    """The time.monotonic() at which so many seconds are over."""
    if timeout is None:
        return None
    if not timeout > 0:  # nor is "not a number"
        raise OptionError(f"timeout is {timeout:g} seconds, and must be above 0")
    # No lock can wait for longer than that, which is centuries.
    return None if timeout > threading.TIMEOUT_MAX / 2 else time.monotonic() + timeout


def logprobs(asked: int | None) -> int | None:
    """How many of the likeliest tokens to tell; as many as OpenAI's interface allows."""
    if asked is not None and (not isinstance(asked, int) or not 0 <= asked <= 20):
        raise OptionError(f"logprobs is {asked!r}, and must be a whole number from 0 to 20")
    return asked


def strings(stop: Sequence[str]) -> list[str]:
    """One string is short for a list of it."""
    return [stop] if isinstance(stop, str) else list(stop)
