"""What a request may draw: a hook that is asked before each of its draws.

The pipeline is one step deep: when the hook is asked about a token, the listener has heard
all tokens but the last. A mask that must know that one as well has to be part of a directive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import mlx.core as mx

__all__ = ["Ban", "Mask", "masked"]


class Mask(Protocol):
    """Says, on the engine thread and once for each draw, which ids may come next."""

    def allowed(self) -> mx.array | None:
        """True for each id (V,) that may be drawn; None for all of them."""


class Ban:
    """A mask that forbids a few ids; `ids` may be changed at any time."""

    def __init__(self, vocab: int, ids: Iterable[int] = ()) -> None:
        self._vocab = vocab
        self.ids = frozenset(ids)
        self._made_for: frozenset[int] = frozenset()
        self._row: mx.array | None = None

    def allowed(self) -> mx.array | None:
        ids = self.ids
        if ids != self._made_for:
            self._made_for, self._row = ids, None
            if ids:
                row = mx.ones(self._vocab, mx.bool_)
                row[mx.array(sorted(ids))] = False
                self._row = row
        return self._row


def masked(logits: mx.array, masks: Sequence[Mask | None]) -> mx.array:
    """Logits (B, V) with what each row's mask forbids at minus infinity."""
    rows = [None if mask is None else mask.allowed() for mask in masks]
    if all(row is None for row in rows):
        return logits
    free = mx.ones(logits.shape[1], mx.bool_)
    allowed = mx.stack([free if row is None else row for row in rows])
    return mx.where(allowed, logits, -mx.inf)
