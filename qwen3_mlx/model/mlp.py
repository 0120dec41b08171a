"""SwiGLU (Shazeer 2020, arXiv 2002.05202): down(silu(gate(x)) * up(x)), gate|up as one product."""

from __future__ import annotations

import mlx.core as mx

from qwen3_mlx.model.linear import Matrix

__all__ = ["Mlp", "swiglu"]


def swiglu(gate_up: mx.array) -> mx.array:
    """(…, 2F) with gate and up side by side -> (…, F)."""
    gate, up = mx.split(gate_up, 2, axis=-1)
    return gate * mx.sigmoid(gate) * up


class Mlp:
    """The MLP of a dense layer."""

    __slots__ = ("down", "gate_up")

    def __init__(self, gate_up: Matrix, down: Matrix) -> None:
        self.gate_up, self.down = gate_up, down

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, D) -> (B, L, D)."""
        return self.down(swiglu(self.gate_up(x)))

    def arrays(self) -> list[mx.array]:
        return [*self.gate_up.arrays(), *self.down.arrays()]
