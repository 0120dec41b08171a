"""What the engine is asked to do, and whom it tells."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from qwen3_mlx.events import FinishReason

if TYPE_CHECKING:
    from qwen3_mlx.engine.mask import Mask
    from qwen3_mlx.engine.odds import ComingOdds, Odds

__all__ = ["Directive", "DrawRule", "Force", "Listener", "Request", "RequestStats", "Stop"]


@dataclass(frozen=True, slots=True)
class DrawRule:
    """How a request draws its tokens; every value is final, none is left to a default.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off; penalties of
    1 (repetition) and 0 (presence, frequency) are off.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @property
    def penalises(self) -> bool:
        """Whether the history of the text changes its logits."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )


@dataclass(slots=True)
class RequestStats:
    """Clock readings (time.perf_counter, seconds) and counts of one request.

    `tokens` were drawn and are in the text; `forced` were put into it by a `Force`.
    `cached` tokens of the prompt were known from earlier texts. `guessed` ones came beside
    another in one pass (`speculation.py`).
    """

    submitted: float = 0.0
    started: float = 0.0
    first_token: float = 0.0
    decode_seconds: float = 0.0
    tokens: int = 0
    forced: int = 0
    cached: int = 0
    guessed: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """A listener's wish: the text ends here."""

    reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Force:
    """A listener's wish: forget the last `cut` drawn tokens, put these ids there, go on."""

    ids: Sequence[int]
    cut: int = 0


#: What a listener answers to a token: None to go on. True is short for Stop(), False for None.
Directive: TypeAlias = Stop | Force | bool | None


class Listener(Protocol):
    """The other end of a request. All calls come from the engine thread, in order."""

    def prefill(self, done: int, total: int) -> None:
        """So many tokens of the prompt have been read."""

    def token(self, token: int) -> Directive:
        """The next token of the text; the answer says how it goes on."""

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        """The request is over."""

    def failed(self, error: Exception) -> None:
        """The request met a fault and is over."""


@dataclass(eq=False, slots=True)
class Request:
    """One text to be continued.

    Args:
        prompt: token ids, at least one.
        rule: how to draw.
        listener: whom to tell.
        max_tokens: the most tokens to draw.
        eos: ids that end the text (they are not delivered to the listener).
        seed: of this request's own random numbers; the same seed means the same draws in
            any company.
        deadline: time.monotonic() at which to end; None for never.
        room: the most tokens that may follow the prompt, drawn or forced; None for any.
        mask: what may be drawn; asked before each draw.
        logprobs: tell the log-probability of each token, beside so many of the likeliest;
            None for nothing. They come in `odds`, one for each id of `said`.
    """

    prompt: Sequence[int]
    rule: DrawRule
    listener: Listener
    max_tokens: int
    eos: frozenset[int] = frozenset()
    seed: int | None = None
    deadline: float | None = None
    room: int | None = None
    mask: Mask | None = None
    logprobs: int | None = None
    cancelled: bool = False
    stats: RequestStats = field(default_factory=RequestStats)
    said: list[int] = field(init=False, default_factory=list)
    end: list[int] = field(init=False, default_factory=list)
    odds: list[Odds | None] = field(init=False, default_factory=list)
    coming: deque[ComingOdds] = field(init=False, default_factory=deque)
    _random: random.Random = field(init=False)
    _returned: deque[float] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def uniform(self) -> float:
        """The next random number in [0, 1), exact in float32."""
        if self._returned:
            return self._returned.popleft()
        return self._random.getrandbits(24) / (1 << 24)

    def give_back(self, numbers: Sequence[float]) -> None:
        """These numbers, the last ones, were not needed: `uniform` tells them again."""
        self._returned.extendleft(reversed(numbers))

    @property
    def left(self) -> int:
        """How many more tokens may be drawn."""
        drawn = self.max_tokens - self.stats.tokens
        return drawn if self.room is None else min(drawn, self.room - len(self.said))

    @property
    def restricted(self) -> bool:
        """Whether its mask forbids something now, or may after the next token."""
        return self.mask is not None and (self.mask.needs_last or self.mask.allowed() is not None)

    def fits(self, ids: int, cut: int = 0) -> bool:
        """Whether so many ids can be forced and a token be drawn after them."""
        if not 0 <= cut <= self.stats.tokens:
            raise ValueError(f"cannot cut {cut} of {self.stats.tokens} drawn tokens")
        room = self.room is None or self.room - len(self.said) + cut > ids
        return room and self.left > 0

    @property
    def text(self) -> list[int]:
        """Every id so far: prompt, drawn, forced, and the one that ended the text."""
        return [*self.prompt, *self.said, *self.end]

    def add(self, token: int) -> None:
        """A token was drawn and belongs to the text."""
        self.said.append(token)
        self.stats.tokens += 1
        if self.logprobs is not None:
            self.odds.append(self.coming.popleft().read(token))

    def force(self, wish: Force) -> None:
        """The text changes as a listener wished."""
        kept = len(self.said) - wish.cut
        self.said[kept:] = wish.ids
        if self.logprobs is not None:
            self.odds[kept:] = [None] * len(wish.ids)
            self.coming.clear()
        self.stats.tokens -= wish.cut
        self.stats.forced += len(wish.ids)

    def interruption(self) -> FinishReason | None:
        """Why this request should end now, if it should."""
        if self.cancelled:
            return "cancelled"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "timeout"
        return None
