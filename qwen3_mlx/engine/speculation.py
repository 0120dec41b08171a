"""N-gram speculation: text that repeats itself is read several tokens at a time.

Where the last three tokens stood before, what followed them then is a guess at what comes now
(prompt lookup decoding, Saxena 2023). One pass over the last token and the guess gives the
logits of all those places, and where a model's time goes into fetching its weights, that costs
little more than a pass over one token. Each place draws by the rules and with the random number
that it would have had in a pass of its own; a draw that differs from the guess is right, and what
was computed behind it is forgotten. So the text is the same, as far as a pass over several tokens
rounds like one over one, and only the time differs.

    earlier     ... the cat sat on the mat . It ...
    heard       ... the cat sat on             guessed: the mat . It
    on its way  the                            drawn by the step before, as guessed
    one pass    the mat . It                   draws: mat . And ...
    handed on   the mat .                      comes next: And

Whether that pays depends on the machine, the model and the text. `Gain` measures it.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from statistics import median

import mlx.core as mx

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.request import Request
from qwen3_mlx.engine.sampling import Penalties, Sampler
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["Gain", "Lookup", "Speculation", "Verified"]

_GRAM = 3  # tokens that must have stood before
_LEAST, _MOST = 2, 8  # tokens of a guess; two more each time that all were right
_MOST_OF_PROMPT = 32_768  # its end is looked through: some 5 MB
_STEPS = 9  # plain steps whose median is the time of one
_PAUSE, _LONGEST_PAUSE = 32, 1024  # tokens without guesses, after they have not paid


class Lookup:
    """Where each three tokens of a text stood last.

    >>> lookup = Lookup([7, 1, 2, 3, 8, 9])
    >>> lookup.extend([1, 2, 3])
    >>> lookup.after(6)
    [8, 9, 1, 2, 3, 8]
    """

    def __init__(self, text: list[int]) -> None:
        self._text: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}
        self.extend(text)

    @property
    def length(self) -> int:
        return len(self._text)

    def extend(self, tokens: list[int]) -> None:
        """The text goes on."""
        start = max(_GRAM, len(self._text))
        self._text.extend(tokens)
        for place in range(start, len(self._text)):
            self._places[tuple(self._text[place - _GRAM : place])] = place

    def after(self, count: int) -> list[int]:
        """What followed the last three tokens before, so many; nothing if they are new.

        What stood there so short ago that the text ends first is repeated.
        """
        place = self._places.get(tuple(self._text[-_GRAM:]))
        if place is None:
            return []
        period = len(self._text) - place
        return [self._text[place + number % period] for number in range(count)]


class Gain:
    """Whether guessing saves time, by the clock and against what plain steps take.

    >>> gain = Gain()
    >>> for _ in range(9):
    ...     gain.plain(0.010)
    >>> gain.guessed(tokens=5, seconds=0.015)
    >>> gain.pays
    True
    >>> gain.guessed(tokens=1, seconds=0.090)
    >>> gain.pays
    False
    """

    def __init__(self) -> None:
        self._plain: deque[float] = deque(maxlen=_STEPS)
        self._saved = 0.0  # seconds; of older guesses ever less
        self._pause, self._left = _PAUSE, 0

    def plain(self, seconds: float) -> None:
        """A step of one token, behind another one."""
        self._plain.append(seconds)
        if self._left:
            self._left -= 1
            self._saved = 0.0

    def guessed(self, tokens: int, seconds: float) -> None:
        """A guess was looked at: how many tokens that gave."""
        self._saved = 0.9 * self._saved + tokens * median(self._plain) - seconds
        if self._saved < 0:
            self._left, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._pause = _PAUSE

    @property
    def pays(self) -> bool:
        """False until there is something to compare with, and for a while after a loss."""
        return len(self._plain) == _STEPS and not self._left


@dataclass(frozen=True, slots=True)
class Verified:
    """A pass over a guess.

    Args:
        start: positions of the KV cache before it.
        tokens: the last token, and as much of the guess as the draws confirmed.
        next: the draw behind each of these tokens.
        numbers: the random number of each draw, also of those that are forgotten.
    """

    start: int
    tokens: list[int]
    next: list[int]
    numbers: list[float]

    def cut(
        self, heard: int, kv: KVCache, request: Request, penalties: Penalties | None
    ) -> mx.array:
        """Forget all behind the first so many tokens; the draw that comes next, (1,)."""
        kv.trim(self.start + heard)
        if penalties is not None:
            penalties.count(mx.array(self.next[:heard]))
        request.give_back(self.numbers[heard:])
        request.stats.guessed += heard - 1
        return mx.array(self.next[heard - 1 : heard])


class Speculation:
    """Guesses for the only text of a batch.

    Args:
        model: a dense one: of a mixture, each guessed token would fetch experts of its own.
        vocab: ids below this may be drawn.
    """

    def __init__(self, model: Qwen3Model, vocab: int) -> None:
        self.gain = Gain()
        self._model, self._vocab = model, vocab
        self._lookup: Lookup | None = None
        self._known = 0  # tokens of the answer that the lookup has
        self._length = _LEAST
        self._last = 0.0  # when the last step returned
        self._kind = ""  # of the step under way: "plain", or "missed" after a wrong guess

    def begin(self) -> None:
        """The batch has changed: another text is alone, or this one is again."""
        self._lookup, self._kind, self._length = None, "", _LEAST

    def interrupted(self) -> None:
        """The time since the last step was not that step's alone."""
        self._kind = ""

    def verify(
        self,
        request: Request,
        kv: KVCache,
        drawn: mx.array,
        sampler: Sampler,
        penalties: Penalties | None,
    ) -> Verified | None:
        """Guess, and read the guess; None where there is none, or its first token is wrong.

        Args:
            drawn: the token (1,) that comes next, perhaps still being computed. `kv` has all
                that the listener has heard.
            penalties: with a history that has `drawn` too.
        """
        guess = self._guess(request)
        if not guess:
            return None
        first: int = drawn.item()  # type: ignore[assignment]
        if first != guess[0]:
            # Behind another guess nothing is under way that had to be waited for.
            self._kind = "missed" if self._kind == "plain" else ""
            return None
        began = time.perf_counter()
        verified = self._read(guess, request, kv, sampler, penalties)
        count = len(verified.tokens)
        self.gain.guessed(count, time.perf_counter() - began)
        self._length = min(_MOST, self._length + 2) if count == len(guess) else max(_LEAST, count)
        self._kind = ""
        return verified

    def stepped(self) -> None:
        """A step of one token returns."""
        now = time.perf_counter()
        if self._kind == "missed":  # it was waited for, which a plain step does not do
            self.gain.guessed(1, now - self._last)
        elif self._kind == "plain":
            self.gain.plain(now - self._last)
        self._last, self._kind = now, "plain"

    def _guess(self, request: Request) -> list[int]:
        count = min(self._length, request.left - 1)
        if count < 2 or not self.gain.pays:
            return []
        if request.logprobs is not None or request.restricted:
            return []  # a draw gives more than a token, or hangs on those before it
        if self._lookup is None:
            self._lookup = Lookup([*request.prompt[-_MOST_OF_PROMPT:], *request.said])
        else:
            self._lookup.extend(request.said[self._known :])
        self._known = len(request.said)
        return self._lookup.after(count)

    def _read(
        self,
        guess: list[int],
        request: Request,
        kv: KVCache,
        sampler: Sampler,
        penalties: Penalties | None,
    ) -> Verified:
        start = kv.length
        logits = self._model.logits(self._model.hidden(mx.array([guess]), kv))[0, :, : self._vocab]
        if penalties is not None:
            logits = penalties.along(guess).apply(logits)
        numbers = [] if sampler.greedy else [request.uniform() for _ in guess]
        draws: list[int] = sampler.draw(logits, numbers).tolist()  # type: ignore[assignment]
        count = 1
        while count < len(guess) and draws[count - 1] == guess[count]:
            count += 1
        return Verified(start, guess[:count], draws[:count], numbers)
