"""Mixture of experts: a router that picks T of E experts for each token.

logits  (N, E)   router(x) for N = B L tokens
weights (N, T)   probabilities of the chosen experts, computed in float32
output  (N, D)   the sum of weight times expert output
"""

from __future__ import annotations

from typing import Protocol

import mlx.core as mx

from qwen3_mlx.model.linear import ExpertMatrix, Matrix
from qwen3_mlx.model.mlp import swiglu

__all__ = ["Experts", "MoE", "ResidentExperts", "route"]

# From this many (token, expert) pairs on, sorting the pairs by expert pays: each expert's
# weights are then read once for all its tokens.
_SORT_FROM = 64


class Experts(Protocol):
    """Where expert outputs come from: all in memory, or read from disk on demand."""

    def __call__(self, x: mx.array, chosen: mx.array) -> mx.array:
        """Tokens (N, D) and their experts (N, T) -> outputs (N, T, D)."""

    def arrays(self) -> list[mx.array]: ...


def route(logits: mx.array, top_k: int, normalise: bool) -> tuple[mx.array, mx.array]:
    """Choose experts from router logits (N, E): indices (N, T) and weights (N, T).

    The definition is: softmax over all E in float32, take the T largest, and divide them by
    their sum if `normalise` (norm_topk_prob). Normalised, that equals the softmax over the
    T largest logits alone, which is what is computed then: T exponentials instead of E.
    """
    chosen = mx.argpartition(logits, -top_k, axis=-1)[:, -top_k:]
    if normalise:
        picked = mx.take_along_axis(logits, chosen, axis=-1)
        return chosen, mx.softmax(picked, axis=-1, precise=True)
    all_weights = mx.softmax(logits, axis=-1, precise=True)
    return chosen, mx.take_along_axis(all_weights, chosen, axis=-1)


class ResidentExperts:
    """All experts of a layer in memory, gate|up joined where their formats agree."""

    __slots__ = ("down", "gate_up")

    def __init__(self, gate_up: tuple[ExpertMatrix, ...], down: ExpertMatrix) -> None:
        self.gate_up, self.down = gate_up, down

    def __call__(self, x: mx.array, chosen: mx.array) -> mx.array:
        N, T = chosen.shape
        if N * T < _SORT_FROM:
            rows = x.reshape(N, 1, 1, -1)
            return self._run(rows, chosen, is_sorted=False).squeeze(2)
        flat = chosen.flatten()
        order = mx.argsort(flat)
        rows = x[order // T][:, None]
        out = self._run(rows, flat[order], is_sorted=True).squeeze(1)
        return out[mx.argsort(order)].reshape(N, T, -1)

    def _run(self, rows: mx.array, experts: mx.array, *, is_sorted: bool) -> mx.array:
        parts = [matrix(rows, experts, is_sorted=is_sorted) for matrix in self.gate_up]
        hidden = swiglu(parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1))
        return self.down(hidden, experts, is_sorted=is_sorted)

    def arrays(self) -> list[mx.array]:
        return [a for matrix in (*self.gate_up, self.down) for a in matrix.arrays()]


class MoE:
    """The MLP of a sparse layer."""

    __slots__ = ("experts", "normalise", "router", "top_k")

    def __init__(self, router: Matrix, experts: Experts, top_k: int, normalise: bool) -> None:
        self.router, self.experts = router, experts
        self.top_k, self.normalise = top_k, normalise

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, D) -> (B, L, D)."""
        B, L, D = x.shape
        tokens = x.reshape(-1, D)
        chosen, weights = route(self.router(tokens), self.top_k, self.normalise)
        out = self.experts(tokens, chosen)
        return (weights[:, None].astype(out.dtype) @ out).reshape(B, L, D)

    def arrays(self) -> list[mx.array]:
        return [*self.router.arrays(), *self.experts.arrays()]
