"""Drawing tokens from logits, for a batch whose rows may all have rules of their own.

The order is the one that Qwen's published settings assume (Transformers' and vLLM's):
penalties, temperature, top-k, top-p, min-p. The vocabulary is never sorted unless top-p is
asked for without top-k: the k best are found among block maxima, and everything after that
works on k survivors. Random numbers come from the request, one uniform a token, so a text
does not depend on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from qwen3_mlx.engine.request import DrawRule

__all__ = ["Penalties", "Sampler", "top_k"]

_BLOCK = 128


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
        nucleus, floor = [rule.top_p for rule in rules], [rule.min_p for rule in rules]
        self._top_p = _column(nucleus) if min(nucleus) < 1 else None
        self._min_p = _column(floor) if max(floor) > 0 else None

    def draw(self, logits: mx.array, uniforms: Sequence[float]) -> mx.array:
        if self._depth == _GREEDY:
            return mx.argmax(logits, axis=-1)
        ids, survivors = self._candidates(logits.astype(mx.float32) / self._temperature)
        p = self._probabilities(survivors)
        cumulative = mx.cumsum(p, axis=-1)
        target = mx.array(list(uniforms))[:, None] * cumulative[:, -1:]
        # Entries of probability 0 add nothing to the sum, so the count never stops at one.
        rank = (cumulative <= target).sum(axis=-1, keepdims=True)
        if ids is None:
            return mx.minimum(rank, self._vocab - 1)[:, 0]
        last = (p > 0).sum(axis=-1, keepdims=True) - 1
        return mx.take_along_axis(ids, mx.minimum(rank, last), axis=-1)[:, 0]

    def _candidates(self, scaled: mx.array) -> tuple[mx.array | None, mx.array]:
        """Ids (B, k) and their logits in falling order; ids None means the whole vocabulary."""
        if self._depth == _UNSORTED:
            return None, scaled
        if self._depth < self._vocab:
            return top_k(scaled, self._depth)
        ids = mx.argsort(-scaled, axis=-1)
        return ids, mx.take_along_axis(scaled, ids, axis=-1)

    def _probabilities(self, survivors: mx.array) -> mx.array:
        """Softmax, with the tail beyond top-p and everything below min-p set to 0."""
        p = mx.softmax(survivors, axis=-1)
        if self._top_p is not None:
            before = mx.cumsum(p, axis=-1, inclusive=False)
            p = mx.where(before < self._top_p, p, 0.0)
        if self._min_p is not None:
            p = mx.where(p >= self._min_p * p.max(axis=-1, keepdims=True), p, 0.0)
        return p


def top_k(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The k largest of (B, V), in falling order: ids (B, k) and values (B, k). Exact.

    Each of the k largest is in one of the k blocks whose maxima are largest, so a partition
    of V / 128 maxima and one of 128 k candidates replace one of V.
    """
    B, V = logits.shape
    if 2 * k * _BLOCK < V:
        if V % _BLOCK:
            logits = mx.pad(logits, [(0, 0), (0, -V % _BLOCK)], constant_values=-mx.inf)
        blocks = logits.reshape(B, -1, _BLOCK)
        best = mx.argpartition(blocks.max(axis=-1), -k, axis=-1)[:, -k:]
        candidates = mx.take_along_axis(blocks, best[:, :, None], axis=1).reshape(B, -1)
        numbers = (best[:, :, None] * _BLOCK + mx.arange(_BLOCK)).reshape(B, -1)
    else:
        candidates, numbers = logits, None
    picked = mx.argpartition(candidates, -k, axis=-1)[:, -k:]
    values = mx.take_along_axis(candidates, picked, axis=-1)
    order = mx.argsort(-values, axis=-1)
    picked = mx.take_along_axis(picked, order, axis=-1)
    ids = picked if numbers is None else mx.take_along_axis(numbers, picked, axis=-1)
    return ids, mx.take_along_axis(values, order, axis=-1)


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

    def count(self, tokens: mx.array) -> None:
        """Add the tokens (B,) that were drawn to the history, without reading them."""
        self.counts = self.counts.at[self._rows, tokens].add(1)

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


def _column(values: Sequence[float], kind: type = float) -> mx.array:
    return mx.array([kind(value) for value in values])[:, None]
