"""What a request may draw: a hook that is asked before each of its draws.

The pipeline is one step deep: when the hook is asked about a token, the listener has heard
all tokens but the last. For a mask that `needs_last` the draw waits until that one has been
heard too; the layers of the step run in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Protocol, TypeAlias, cast

import mlx.core as mx

__all__ = ["Ban", "Mask", "masked"]

#: Logits (B, V) and words (B, W) -> logits, those of ids whose bit is 0 at minus infinity.
_Apply: TypeAlias = Callable[[mx.array, mx.array], mx.array]


class Mask(Protocol):
    """Says, on the engine thread and once for each draw, which ids may come next."""

    @property
    def needs_last(self) -> bool:
        """Whether it can only be asked after the listener has heard the last token."""

    def allowed(self) -> mx.array | None:
        """True for each id (V,) that may be drawn; None for all of them.

        Or the same as bits, int32 (W,), 32 ids to a word and the lowest first.
        """


class Ban:
    """A mask that forbids a few ids; `ids` may be changed at any time."""

    needs_last = False

    def __init__(self, vocab: int, ids: Iterable[int] = ()) -> None:
        self.vocab = vocab
        self.ids = frozenset(ids)
        self._made_for: frozenset[int] = frozenset()
        self._row: mx.array | None = None

    def allowed(self) -> mx.array | None:
        ids = self.ids
        if ids != self._made_for:
            self._made_for, self._row = ids, None
            if ids:
                row = mx.ones(self.vocab, mx.bool_)
                row[mx.array(sorted(ids))] = False
                self._row = row
        return self._row


def masked(logits: mx.array, masks: Sequence[Mask | None]) -> mx.array:
    """Logits (B, V) with what each row's mask forbids at minus infinity."""
    rows = [None if mask is None else mask.allowed() for mask in masks]
    bits = [row is not None and row.dtype == mx.int32 for row in rows]
    if any(bits):
        free = mx.full((-(-logits.shape[1] // 32),), -1, mx.int32)
        words = [
            row if own and row is not None else free for row, own in zip(rows, bits, strict=True)
        ]
        logits = _apply()(logits, mx.stack(words))
        rows = [None if own else row for row, own in zip(rows, bits, strict=True)]
    if all(row is None for row in rows):
        return logits
    free = mx.ones(logits.shape[1], mx.bool_)
    allowed = mx.stack([free if row is None else row for row in rows])
    return mx.where(allowed, logits, -mx.inf)


@cache
def _apply() -> _Apply:
    """How bits are applied, chosen once: with llguidance's kernel where there is Metal."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return _where
    from llguidance.mlx import apply_token_bitmask_kernel

    return cast(_Apply, apply_token_bitmask_kernel)


def _where(logits: mx.array, words: mx.array) -> mx.array:
    """The same without a GPU: llguidance's kernel raises there."""
    bits = (words[:, :, None] >> mx.arange(32, dtype=mx.int32)) & 1
    allowed = bits.reshape(words.shape[0], -1)[:, : logits.shape[1]]
    return mx.where(allowed != 0, logits, mx.array(-mx.inf, logits.dtype))
