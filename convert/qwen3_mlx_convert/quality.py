"""How much a packed model differs from its source, on some text, without holding either.

Both models read the text layer by layer (`forward`), and their heads meet block by block: of
the logits only some rows and some of the vocabulary are in memory at a time. Measured at every
position of the text but the last of each row:

    KL           sum over the vocabulary of p (log p - log q), p the source's probabilities; nats
    top-1        share of positions where both have the same most likely token
    perplexity   exp of the mean of -log probability of the token that follows

Sums over the vocabulary are kept relative to the largest logit so far, as in a streamed softmax.
Packed weights are unpacked and multiplied in float32, so what is measured is the packing alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.checkpoint import Checkpoint
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx_convert.forward import Floats, Forward, Weights
from qwen3_mlx_convert.read import bounded_buffers

__all__ = ["Quality", "compared", "measure"]

#: Rows of text and rows of the vocabulary that meet at a time: 4 bytes x 2 models x their product.
_TOKENS, _WORDS = 1024, 8192


@dataclass(frozen=True, slots=True)
class Quality:
    """The difference between a model and its source over `tokens` positions."""

    tokens: int
    kl: float
    top1: float
    perplexity: float
    source_perplexity: float


def measure(
    source: Checkpoint,
    packed: Checkpoint,
    ids: NDArray[np.int64],
    listener: Callable[[int, int], None] = lambda done, total: None,
) -> Quality:
    """Compare two checkpoints of the same architecture on token ids (B, L).

    `listener` hears how many layers of how many are done.

    Raises:
        CheckpointError: the two are not of the same shape.
    """
    with bounded_buffers(), Weights(source) as ours, Weights(packed) as theirs:
        if ours.config != theirs.config:
            raise CheckpointError(
                f"{packed.path} and {source.path} are not of the same architecture: give the "
                "checkpoint that the first was made of"
            )
        return compared(ours, theirs, ids, listener)


def compared(
    ours: Weights,
    theirs: Weights,
    ids: NDArray[np.int64],
    listener: Callable[[int, int], None] = lambda done, total: None,
) -> Quality:
    """`measure` for weights of the same config, wherever they come from."""
    layers = ours.config.layers
    lasts = []
    for number, weights in enumerate((ours, theirs)):
        forward = Forward(weights, ids)
        for layer in range(layers):
            forward.step()
            listener(number * layers + layer + 1, 2 * layers)
        hidden = forward.last().reshape(*ids.shape, -1)
        lasts.append(np.ascontiguousarray(hidden[:, :-1]).reshape(-1, hidden.shape[-1]))
    return _heads(ours, theirs, lasts[0], lasts[1], ids[:, 1:].reshape(-1))


def _heads(
    ours: Weights, theirs: Weights, p: Floats, q: Floats, following: NDArray[np.int64]
) -> Quality:
    """Last hidden states (N, D) of both, and the tokens that follow (N,)."""
    sums = [_Sums(len(following)), _Sums(len(following))]
    cross = np.zeros(len(following))
    step = _WORDS
    other = _Slices(theirs)
    for first, block in ours.blocks(ours.head):
        for start in range(0, len(block), step):
            words = block[start : start + step]
            twin = other.rows(first + start, len(words))
            for a in range(0, len(following), _TOKENS):
                part = slice(a, a + _TOKENS)
                left, right = p[part] @ words.T, q[part] @ twin.T
                scale, shares = sums[0].add(part, left, following[part], first + start)
                sums[1].add(part, right, following[part], first + start)
                cross[part] = cross[part] * scale + (shares * (left - right)).sum(axis=1)
    mass = [each.mass() for each in sums]
    kl = cross / sums[0].total - mass[0] + mass[1]
    return Quality(
        tokens=len(following),
        kl=float(np.maximum(kl, 0).mean()),
        top1=float((sums[0].best == sums[1].best).mean()),
        perplexity=math.exp(float((mass[1] - sums[1].following).mean())),
        source_perplexity=math.exp(float((mass[0] - sums[0].following).mean())),
    )


class _Slices:
    """Rows of the head, asked for in rising order, whatever blocks they are read in."""

    def __init__(self, weights: Weights) -> None:
        self._blocks = weights.blocks(weights.head)
        self._first, self._block = 0, np.zeros((0, weights.config.hidden_size), np.float32)

    def rows(self, first: int, count: int) -> Floats:
        parts = [self._block[first - self._first :][:count]]
        while sum(map(len, parts)) < count:
            self._first, self._block = next(self._blocks)
            parts.append(self._block[: count - sum(map(len, parts))])
        return np.concatenate(parts)


class _Sums:
    """What one model says of each position, as far as its vocabulary has been seen."""

    def __init__(self, count: int) -> None:
        self._largest = np.full(count, -np.inf)
        self.total = np.zeros(count)  # of exp(logit - largest)
        self.best = np.zeros(count, np.int64)
        self.following = np.zeros(count)  # the logit of the token that follows

    def add(
        self, part: slice, logits: Floats, following: NDArray[np.int64], first: int
    ) -> tuple[Floats, Floats]:
        """Some positions and words, the first of which is `first`.

        Returns how sums so far shrink, (n,), and exp(logit - largest), (n, words).
        """
        top = logits.max(axis=1)
        before = self._largest[part]
        self.best[part] = np.where(top > before, first + logits.argmax(axis=1), self.best[part])
        largest = np.maximum(before, top)
        scale = np.exp(before - largest)
        shares = np.exp(logits - largest[:, None])
        self._largest[part] = largest
        self.total[part] = self.total[part] * scale + shares.sum(axis=1)
        here = np.nonzero((following >= first) & (following < first + logits.shape[1]))[0]
        self.following[part][here] = logits[here, following[here] - first]
        return scale, shares

    def mass(self) -> Floats:
        """The logarithm of the sum of exp(logit)."""
        result: Floats = np.log(self.total) + self._largest
        return result
