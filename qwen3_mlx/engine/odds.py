"""Log-probabilities of drawn tokens, for requests that ask for them; nobody else pays.

They are of the model's own distribution: the log-softmax of its logits in float32, before
penalties, masks, temperature and everything else that decides what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from qwen3_mlx.engine.sampling import top_k

__all__ = ["ComingOdds", "Odds"]


@dataclass(frozen=True, slots=True)
class Odds:
    """A drawn token with its log-probability, and those of the likeliest: (id, log-probability)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class ComingOdds:
    """The odds of one row's token, being computed beside the draw.

    Args:
        logits: of the row, (1, V).
        drawn: the token, (1,), not yet evaluated.
        top: how many of the likeliest to tell, from 0.
    """

    __slots__ = ("_ids", "_logprob", "_top")

    def __init__(self, logits: mx.array, drawn: mx.array, top: int) -> None:
        logits = logits.astype(mx.float32)
        total = mx.logsumexp(logits, axis=-1, keepdims=True)
        self._logprob = mx.take_along_axis(logits, drawn[:, None], axis=-1) - total
        ids, values = top_k(logits, max(1, top))
        self._ids, self._top = ids[:, :top], (values - total)[:, :top]
        mx.async_eval(self._logprob, self._ids, self._top)

    def read(self, token: int) -> Odds:
        """Wait for them; `token` is the one that was drawn."""
        ids: list[int] = self._ids[0].tolist()  # type: ignore[assignment]
        values: list[float] = self._top[0].tolist()  # type: ignore[assignment]
        return Odds(token, self._logprob.item(), tuple(zip(ids, values, strict=True)))  # type: ignore[arg-type]
