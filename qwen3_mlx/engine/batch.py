"""The step: requests that decode together, and a text that is still being read.

The pipeline is one step deep. The next step is issued with tokens that are still being
computed, and only then are those read; while the host looks at them (stop rules, text), the
device works. A request that stops therefore costs at most one step for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import mlx.core as mx

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.mask import masked
from qwen3_mlx.engine.prefix import PrefixTree
from qwen3_mlx.engine.request import Force, Request
from qwen3_mlx.engine.sampling import Penalties, Sampler, odds_of
from qwen3_mlx.engine.speculation import Speculation, Verified
from qwen3_mlx.memory import chunk_at
from qwen3_mlx.model.compiled import CompiledStep
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["Batch", "Prefilling"]

# Compiling costs seconds where a C++ compiler is part of it (Linux) and a few steps' time
# elsewhere. So nothing is compiled for the first token, nor for the short answer of a script.
_COMPILE_AFTER = 32


class Prefilling:
    """A text being read, chunk by chunk, into a cache of its own.

    Args:
        request: its prompt and what it has said; what `kv` holds already is not read again.
        kv: keys and values of the beginning of the text; by default there are none.
        penalties: the history of a text that has begun.
        drawn: its next token, where that was drawn before; by default it is drawn at the end.
    """

    def __init__(
        self,
        model: Qwen3Model,
        vocab: int,
        request: Request,
        chunk: int,
        kv: KVCache | None = None,
        penalties: Penalties | None = None,
        drawn: int | None = None,
    ) -> None:
        self.request, self._text, self._drawn = request, request.text, drawn
        self.kv = kv or KVCache(model.config, room=len(self._text))
        self.begins = not request.said and drawn is None
        self._model, self._vocab, self._chunk = model, vocab, chunk
        if penalties is None and request.rule.penalises:
            penalties = Penalties([request.rule], [request.prompt], vocab)
        self.penalties = penalties
        if self.begins:
            request.stats.started = time.perf_counter()

    def look_up(self, tree: PrefixTree) -> None:
        """Begin with what the tree knows; the last token is read in any case, to draw the next."""
        self.kv = tree.take(self._text, len(self._text) - 1) or self.kv
        if self.begins:
            self.request.stats.cached = self.kv.length

    def advance(self) -> mx.array | None:
        """Read one chunk; after the last, the first drawn token (1,), not yet evaluated."""
        start = self.kv.length
        chunk = mx.array([self._text[start : start + chunk_at(start, self._chunk)]])
        hidden = self._model.hidden(chunk, self.kv, last_only=True)
        drawn = None
        if self.kv.length < len(self._text):
            mx.eval(self.kv.arrays())
        elif self._drawn is not None:
            drawn = mx.array([self._drawn])
            mx.async_eval(self.kv.arrays())
        else:
            logits = self._model.logits(hidden[:, -1])
            drawn = _draw(logits[:, : self._vocab], [self.request],
                          Sampler([self.request.rule], self._vocab), self.penalties)  # fmt: skip
            mx.async_eval(drawn)
        return drawn


class Batch:
    """Requests that decode together; none, one or many.

    Args:
        model: the weights.
        vocab: ids below this may be drawn; the padding of the vocabulary has no text.
        compile_after: decode steps until the step is compiled; None for never.
        speculate: guess what a text that is alone repeats.
    """

    def __init__(
        self,
        model: Qwen3Model,
        vocab: int,
        compile_after: int | None = _COMPILE_AFTER,
        speculate: bool = False,
    ) -> None:
        self._model, self._vocab = model, vocab
        self._speculation = Speculation(model, vocab) if speculate else None
        self._verified: Verified | None = None  # a guess whose tokens are handed over
        self._plain_steps_left = compile_after
        self._compiled: CompiledStep | None = None
        self.requests: list[Request] = []
        self._kv: KVCache | None = None
        self._drawn: mx.array | None = None
        self._undrawn: mx.array | None = None  # logits of a step that waits for `draw`
        self._sampler: Sampler | None = None
        self._penalties: Penalties | None = None

    def add(self, ready: Prefilling, first: mx.array) -> None:
        """Take in a request whose prompt has been read and whose first token is drawn."""
        request = ready.request
        if self._kv is None or self._drawn is None:
            self._kv, self._drawn, self._penalties = ready.kv, first, ready.penalties
            self.requests = [request]
        else:
            self._kv = self._kv.join(ready.kv)
            self._drawn = mx.concatenate([self._drawn, first])
            self._join_penalties(request, ready.penalties)
            self.requests = [*self.requests, request]
        self._sampler = Sampler([each.rule for each in self.requests], self._vocab)
        self._begin_guesses()

    def keep(self, rows: Sequence[int]) -> None:
        """Let all other rows go."""
        if len(rows) == len(self.requests):
            return
        self.requests = [self.requests[row] for row in rows]
        if not rows or self._kv is None or self._drawn is None:
            self._kv = self._drawn = self._sampler = self._penalties = None
            return
        self._kv = self._kv.keep(rows)
        self._drawn = self._drawn[mx.array(list(rows))]
        rules = [each.rule for each in self.requests]
        self._sampler = Sampler(rules, self._vocab)
        if self._penalties is not None:
            self._penalties = self._penalties.keep(rules, rows)
        self._begin_guesses()

    def _begin_guesses(self) -> None:
        if self._speculation is not None:
            self._speculation.begin()

    def interrupted(self) -> None:
        """Something else was computed since the last step: its time says nothing of a step's."""
        if self._speculation is not None:
            self._speculation.interrupted()

    def cache(self, row: int) -> KVCache:
        """The keys and values of one row; of the only row, the cache itself."""
        assert self._kv is not None
        return self._kv if len(self.requests) == 1 else self._kv.keep([row])

    def reread(self, row: int, wish: Force, chunk: int) -> Prefilling:
        """A row whose text is to change, on a cache of its own; `keep` must then drop the row.

        The step under way has read the row's last token and drawn one that nobody will see:
        the cache is cut back to where the text changes, and the history forgets that token.
        """
        assert self._drawn is not None
        request, kv = self.requests[row], self.cache(row)
        kept = len(request.said) - wish.cut
        kv.trim(len(request.prompt) + kept)
        penalties = self._penalties and self._penalties.keep([request.rule], [row])
        if penalties is not None:
            penalties.count(self._drawn[row : row + 1], -1)
            if wish.cut:
                penalties.count(mx.array(request.said[kept:]), -1)
            penalties.count(mx.array(list(wish.ids)))
        request.force(wish)
        return Prefilling(self._model, self._vocab, request, chunk, kv, penalties)

    def step_back(self, row: int, chunk: int) -> Prefilling:
        """A row that will be read again later; `keep` must then drop it.

        The token that it has drawn is kept, as is where its random numbers are: read again it
        says what it would have said.
        """
        assert self._drawn is not None
        request = self.requests[row]
        drawn: int = self._drawn[row].item()  # type: ignore[assignment]
        penalties = self._penalties and self._penalties.keep([request.rule], [row])
        if penalties is not None:
            mx.eval(penalties.counts, penalties.in_prompt)  # or they would hold those of all rows
        return Prefilling(self._model, self._vocab, request, chunk, None, penalties, drawn)

    def step(self) -> list[list[int]]:
        """Issue the next step, then read the tokens of the last one: one for each request.

        Of a request that is alone they may be more, where a guess was right. Where a mask has to
        know these tokens first, the next ones are drawn by `heard`, which has to follow.
        """
        assert self._drawn is not None
        assert self._kv is not None
        assert self._sampler is not None
        drawn = self._drawn
        guesses = self._speculation if len(self.requests) == 1 else None
        if guesses is not None:
            self._verified = guesses.verify(
                self.requests[0], self._kv, drawn, self._sampler, self._penalties
            )
            if self._verified is not None:
                return [self._verified.tokens]
        if any(each.left > 1 for each in self.requests):
            self._undrawn = self._logits(drawn[:, None], self._kv)[:, : self._vocab]
            if any(each.mask is not None and each.mask.needs_last for each in self.requests):
                mx.async_eval(self._undrawn)
            else:
                self._draw()
        tokens: list[int] = drawn.tolist()  # type: ignore[assignment]
        if guesses is not None:
            guesses.stepped()
        return [[token] for token in tokens]

    def heard(self, counts: Sequence[int]) -> None:
        """So many tokens of each row were handed over: settle what comes next.

        What was guessed behind them is forgotten; what the step has left undrawn is drawn.
        """
        verified, self._verified = self._verified, None
        if verified is not None:
            assert self._kv is not None
            self._drawn = verified.cut(counts[0], self._kv, self.requests[0], self._penalties)
        self._draw()

    def _draw(self) -> None:
        logits, self._undrawn = self._undrawn, None
        if logits is None:
            return
        assert self._sampler is not None
        self._drawn = _draw(logits, self.requests, self._sampler, self._penalties)
        mx.async_eval(self._drawn)

    def _logits(self, ids: mx.array, kv: KVCache) -> mx.array:
        """One step: ids (B, 1) -> logits (B, V), compiled once there was enough to do."""
        if self._compiled is not None:
            return self._compiled(ids, kv)
        if self._plain_steps_left is not None:
            self._plain_steps_left -= 1
            if self._plain_steps_left <= 0:
                self._compiled = CompiledStep(self._model)
        return self._model.logits(self._model.hidden(ids, kv)[:, -1])

    def _join_penalties(self, request: Request, new: Penalties | None) -> None:
        if self._penalties is None and new is None:
            return
        old_rules = [each.rule for each in self.requests]
        old = self._penalties or Penalties(old_rules, [], self._vocab)
        new = new or Penalties([request.rule], [], self._vocab)
        self._penalties = Penalties.combine([*old_rules, request.rule], [old, new])


def _draw(
    logits: mx.array, requests: Sequence[Request], sampler: Sampler, penalties: Penalties | None
) -> mx.array:
    raw = logits
    if penalties is not None:
        logits = penalties.apply(logits)
    logits = masked(logits, [request.mask for request in requests])
    uniforms = [] if sampler.greedy else [request.uniform() for request in requests]
    drawn = sampler.draw(logits, uniforms)
    for row, request in enumerate(requests):
        if request.logprobs is not None:
            part = slice(row, row + 1)
            request.coming.append(odds_of(raw[part], drawn[part], request.logprobs))
    if penalties is not None:
        penalties.count(drawn)
    return drawn
