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

__all__ = ["SORT_FROM", "Experts", "MoE", "ResidentExperts", "combine", "route"]

# From this many (token, expert) pairs on, sorting the pairs by expert pays: each expert's
# weights are then read once for all its tokens.
SORT_FROM = 64


class Experts(Protocol):
    """Where expert outputs come from: all in memory, or read from disk on demand."""

    @property
    def streamed(self) -> bool:
        """Whether a call waits for the router's choice, so that it cannot be compiled."""

    def __call__(self, x: mx.array, chosen: mx.array, *, decoding: bool = False) -> mx.array:
        """Tokens (N, D) and their experts (N, T) -> outputs (N, T, D).

        `decoding` says that each row of the batch has one token; it changes no number.
        """

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


def combine(out: mx.array, weights: mx.array) -> mx.array:
    """Expert outputs (N, T, D) and weights (N, T) -> their weighted sums (N, 1, D)."""
    return weights[:, None].astype(out.dtype) @ out


class ResidentExperts:
    """All experts of a layer in memory, gate|up joined where their formats agree."""

    __slots__ = ("down", "gate_up")

    streamed = False

    def __init__(self, gate_up: tuple[ExpertMatrix, ...], down: ExpertMatrix) -> None:
        self.gate_up, self.down = gate_up, down

    def __call__(self, x: mx.array, chosen: mx.array, *, decoding: bool = False) -> mx.array:
        N, T = chosen.shape
        if N * T < SORT_FROM:
            rows = x.reshape(N, 1, 1, -1)
            return self.run(rows, chosen, is_sorted=False).squeeze(2)
        flat = chosen.flatten()
        order = mx.argsort(flat)
        rows = x[order // T][:, None]
        out = self.run(rows, flat[order], is_sorted=True).squeeze(1)
        return out[mx.argsort(order)].reshape(N, T, -1)

    def run(self, rows: mx.array, experts: mx.array, *, is_sorted: bool) -> mx.array:
        """Rows (n, 1, D) with an expert each (n,), or (N, 1, 1, D) with (N, T)."""
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

    def __call__(self, x: mx.array, *, decoding: bool = False) -> mx.array:
        """(B, L, D) -> (B, L, D). `decoding` is for the experts, and changes no number."""
        tokens, chosen, weights = self.choose(x)
        out = self.experts(tokens, chosen, decoding=decoding)
        return combine(out, weights).reshape(x.shape)

    def choose(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """(B, L, D) -> tokens (N, D), their experts (N, T) and the weights of those (N, T)."""
        tokens = x.reshape(-1, x.shape[-1])
        return tokens, *route(self.router(tokens), self.top_k, self.normalise)

    def arrays(self) -> list[mx.array]:
        return [*self.router.arrays(), *self.experts.arrays()]
