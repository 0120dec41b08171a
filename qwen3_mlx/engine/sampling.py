"""Drawing tokens from logits, for a batch whose rows may all have rules of their own.

The order is the one that Qwen's published settings assume (Transformers' and vLLM's):
penalties, temperature, top-k, top-p, min-p. The vocabulary is never sorted unless top-p is
asked for without top-k: the k best are found among block maxima, and everything after that
works on k survivors. Random numbers come from the request, one uniform a token, so a text
does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy

import mlx.core as mx

from qwen3_mlx.engine.odds import ComingOdds
from qwen3_mlx.engine.request import DrawRule

__all__ = ["Penalties", "Sampler", "odds_of", "top_k"]

# With 96, both partitions of a search for 20 of Qwen3's 151,936 tokens look at fewer than
# 2,048 entries, which a GPU sorts in one launch.
_BLOCK = 96


class Sampler:
    """The rules of a batch, ready to draw with. Made anew when rows join or leave.

    Rows that find their candidates in the same way draw together, the others apart. A row
    therefore maps its random number to a token exactly as it would alone.
    """

    def __init__(self, rules: Sequence[DrawRule], vocab: int) -> None:
        self.greedy = all(rule.temperature == 0 for rule in rules)
        by_depth: dict[int, list[int]] = {}
        for row, rule in enumerate(rules):
            by_depth.setdefault(_depth(rule, vocab), []).append(row)
        self._groups = [
            (rows, _Group([rules[row] for row in rows], depth, vocab))
            for depth, rows in by_depth.items()
        ]
        grouped = [row for rows in by_depth.values() for row in rows]
        self._back = mx.array([grouped.index(row) for row in range(len(rules))])

    def draw(self, logits: mx.array, uniforms: Sequence[float]) -> mx.array:
        """Logits (B, V) and one uniform for each row -> token ids (B,)."""
        if len(self._groups) == 1:
            return self._groups[0][1].draw(logits, uniforms)
        drawn = [
            group.draw(logits[mx.array(rows)], [uniforms[row] for row in rows] if uniforms else [])
            for rows, group in self._groups
        ]
        return mx.concatenate(drawn)[self._back]


_GREEDY, _UNSORTED = 0, -1


def _depth(rule: DrawRule, vocab: int) -> int:
    """How many candidates must be known in order: top_k, all, or none (the two constants)."""
    if rule.temperature == 0:
        return _GREEDY
    if 0 < rule.top_k < vocab:
        return rule.top_k
    return vocab if rule.top_p < 1 else _UNSORTED


class _Group:
    """Rows with the same depth of candidates."""

    def __init__(self, rules: Sequence[DrawRule], depth: int, vocab: int) -> None:
        self._depth, self._vocab = depth, vocab
        self._temperature = _column([rule.temperature for rule in rules])
        # A sum of probabilities may exceed 1 by a rounding; "off" must be above all sums.
        nucleus = [rule.top_p if rule.top_p < 1 else math.inf for rule in rules]
        floor = [rule.min_p for rule in rules]
        self._top_p = _column(nucleus) if min(nucleus) < 1 else None
        self._min_p = _column(floor) if max(floor) > 0 else None

    def draw(self, logits: mx.array, uniforms: Sequence[float]) -> mx.array:
        if self._depth == _GREEDY:
            return mx.argmax(logits, axis=-1)
        numbers = mx.array(list(uniforms))[:, None]
        if self._depth == _UNSORTED:
            return self._draw_unsorted(logits, numbers)
        if self._depth < self._vocab:
            ids, values = top_k(logits, self._depth)
        else:
            ids = mx.argsort(-logits, axis=-1)
            values = mx.take_along_axis(logits, ids, axis=-1)
        return mx.take_along_axis(ids, self._rank(values, numbers), axis=-1)[:, 0]

    def _rank(self, values: mx.array, numbers: mx.array) -> mx.array:
        """Which of the candidates (B, k), in falling order, is drawn: (B, 1).

        Top-p and min-p keep a beginning of the order, so each is a count. Drawing from what
        is kept means scaling the random number to its sum.
        """
        p = mx.softmax(values.astype(mx.float32) / self._temperature, axis=-1)
        cumulative = mx.cumsum(p, axis=-1)
        if self._top_p is None and self._min_p is None:
            return _first_above(cumulative, numbers * cumulative[:, -1:])
        last = mx.array(p.shape[1] - 1)
        if self._top_p is not None:
            last = (cumulative[:, :-1] < self._top_p).sum(axis=-1, keepdims=True)
        if self._min_p is not None:
            high_enough = (p >= self._min_p * p[:, :1]).sum(axis=-1, keepdims=True)
            last = mx.minimum(last, high_enough - 1)
        kept = mx.take_along_axis(cumulative, last, axis=-1)
        return mx.minimum(_first_above(cumulative, numbers * kept), last)

    def _draw_unsorted(self, logits: mx.array, numbers: mx.array) -> mx.array:
        p = mx.softmax(logits.astype(mx.float32) / self._temperature, axis=-1)
        if self._min_p is not None:
            p = mx.where(p >= self._min_p * p.max(axis=-1, keepdims=True), p, 0.0)
        cumulative = mx.cumsum(p, axis=-1)
        return _first_above(cumulative, numbers * cumulative[:, -1:])[:, 0]


def _first_above(cumulative: mx.array, target: mx.array) -> mx.array:
    """The first place (B, 1) whose sum exceeds the target; one of probability 0 never does."""
    place = (cumulative <= target).sum(axis=-1, keepdims=True)
    return mx.minimum(place, cumulative.shape[1] - 1)


def top_k(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The k largest of (B, V), in falling order: ids (B, k) and values (B, k). Exact.

    Each of the k largest is in one of the k blocks whose maxima are largest, so a partition
    of V / 96 maxima and one of 96 k candidates replace one of V. What is left over behind the
    last whole block is a candidate as it is, so nothing of the size of V is copied.
    """
    B, V = logits.shape
    if 2 * k * _BLOCK >= V:
        ids = _largest(logits, k)
        return ids, mx.take_along_axis(logits, ids, axis=-1)
    whole = V // _BLOCK * _BLOCK
    blocks = logits[:, :whole].reshape(B, -1, _BLOCK)
    best = mx.argpartition(blocks.max(axis=-1), -k, axis=-1)[:, -k:]
    candidates = mx.take_along_axis(blocks, best[:, :, None], axis=1).reshape(B, -1)
    if whole < V:
        candidates = mx.concatenate([candidates, logits[:, whole:]], axis=-1)
    picked = _largest(candidates, k)
    within = mx.take_along_axis(best, mx.minimum(picked // _BLOCK, k - 1), axis=-1)
    ids = mx.where(
        picked < k * _BLOCK, within * _BLOCK + picked % _BLOCK, picked + (whole - k * _BLOCK)
    )
    return ids, mx.take_along_axis(candidates, picked, axis=-1)


def odds_of(logits: mx.array, drawn: mx.array, top: int) -> ComingOdds:
    """Begin to compute the odds of one row: logits (1, V), its token (1,), how many likeliest."""
    logits = logits.astype(mx.float32)
    total = mx.logsumexp(logits, axis=-1, keepdims=True)
    ids, values = top_k(logits, max(1, top))
    coming = ComingOdds(
        mx.take_along_axis(logits, drawn[:, None], axis=-1) - total,
        ids[:, :top],
        (values - total)[:, :top],
    )
    mx.async_eval(coming.logprob, coming.ids, coming.top)
    return coming


def _largest(values: mx.array, k: int) -> mx.array:
    """Places (B, k) of the k largest of (B, N), in falling order."""
    picked = mx.argpartition(values, -k, axis=-1)[:, -k:]
    order = mx.argsort(-mx.take_along_axis(values, picked, axis=-1), axis=-1)
    return mx.take_along_axis(picked, order, axis=-1)


class Penalties:
    """Penalties of a batch, with the history they need kept on the device.

    Repetition counts the prompt and the answer (Keskar et al. 2019, as in Transformers);
    presence and frequency count the answer alone (as in OpenAI's interface and vLLM).
    """

    def __init__(self, rules: Sequence[DrawRule], prompts: Sequence[Sequence[int]], vocab: int):
        self._repetition = _column([rule.repetition_penalty for rule in rules])
        self._presence = _column([rule.presence_penalty for rule in rules])
        self._frequency = _column([rule.frequency_penalty for rule in rules])
        self._rows = mx.arange(len(rules))
        self.counts = mx.zeros((len(rules), vocab), mx.int32)
        self.in_prompt = mx.zeros((len(rules), vocab), mx.bool_)
        for row, prompt in enumerate(prompts):
            known = mx.array([token for token in set(prompt) if token < vocab], mx.int32)
            self.in_prompt[row, known] = True

    def apply(self, logits: mx.array) -> mx.array:
        """Logits (B, V) as the history changes them, in float32."""
        logits = logits.astype(mx.float32)
        said = self.counts > 0
        pushed = mx.where(logits > 0, logits / self._repetition, logits * self._repetition)
        logits = mx.where(said | self.in_prompt, pushed, logits)
        return logits - self._presence * said - self._frequency * self.counts

    def count(self, tokens: mx.array, times: int = 1) -> None:
        """Add the tokens (B,) that were drawn to the history, without reading them.

        A history of one row also takes several tokens at once. `times=-1` takes tokens back.
        """
        self.counts = self.counts.at[self._rows, tokens].add(times)

    def along(self, tokens: Sequence[int]) -> Penalties:
        """Of a history of one row: what it is behind the first, second, ... of these tokens.

        The first has been counted already, as the token that was drawn last.
        """
        made, rows = copy(self), len(tokens)
        pairs = [(row, token) for row in range(rows) for token in tokens[1 : row + 1]]
        made.counts = mx.repeat(self.counts, rows, axis=0)
        if pairs:
            at, ids = (mx.array(list(each)) for each in zip(*pairs, strict=True))
            made.counts = made.counts.at[at, ids].add(1)
        return made

    @classmethod
    def combine(cls, rules: Sequence[DrawRule], histories: Sequence[Penalties]) -> Penalties:
        """The histories of several batches as one."""
        made = cls(rules, [], 0)
        made.counts = mx.concatenate([history.counts for history in histories])
        made.in_prompt = mx.concatenate([history.in_prompt for history in histories])
        return made

    def keep(self, rules: Sequence[DrawRule], rows: Sequence[int]) -> Penalties:
        """The history of these rows only."""
        made, index = Penalties(rules, [], 0), mx.array(list(rows))
        made.counts, made.in_prompt = self.counts[index], self.in_prompt[index]
        return made


def _column(values: Sequence[float]) -> mx.array:
    return mx.array([float(value) for value in values])[:, None]
