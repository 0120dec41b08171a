"""Log-probabilities of drawn tokens, for requests that ask for them; nobody else pays.

They are of the model's own distribution: the log-softmax of its logits in float32, before
penalties, masks, temperature and everything else that decides what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

__all__ = ["ComingOdds", "Odds"]


@dataclass(frozen=True, slots=True)
class Odds:
    """A drawn token with its log-probability, and those of the likeliest: (id, log-probability)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class ComingOdds:
    """The odds of one row's token, being computed beside the draw.

    Args:
        logprob: of the token, (1, 1).
        ids: the likeliest tokens, (1, n), and
        top: their log-probabilities, (1, n).
    """

    logprob: mx.array
    ids: mx.array
    top: mx.array

    def read(self, token: int) -> Odds:
        """Wait for them; `token` is the one that was drawn."""
        ids: list[int] = self.ids[0].tolist()  # type: ignore[assignment]
        values: list[float] = self.top[0].tolist()  # type: ignore[assignment]
        logprob: float = self.logprob.item()  # type: ignore[assignment]
        return Odds(token, logprob, tuple(zip(ids, values, strict=True)))
