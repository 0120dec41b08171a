"""Reading ahead: what the next layer may want, told by its own router.

The residual stream changes little from one layer to the next, so the next router is asked
with the present stream. This layer's router saw x = norm(h) * w, so x * (v / w), v being the
next norm's weight, is what the next router would see if nothing were added in between. What
it names is read into the scratch bank; nothing is evicted for a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

from qwen3_mlx.model.moe import MoE
from qwen3_mlx.model.qwen3 import Block

if TYPE_CHECKING:
    from qwen3_mlx.experts.streamed import Shared, StreamedExperts

__all__ = ["Oracle"]


class Oracle:
    """Guesses the experts of the layer after `block`."""

    def __init__(self, block: Block, following: Block, experts: StreamedExperts) -> None:
        assert isinstance(following.mlp, MoE)
        self._experts, self._router, self._top_k = (
            experts, following.mlp.router, following.mlp.top_k,
        )  # fmt: skip
        weight = mx.where(block.mlp_norm == 0, 1, block.mlp_norm)
        self._ratio = following.mlp_norm / weight
        mx.eval(self._ratio)

    def __call__(self, x: mx.array) -> mx.array:
        """This layer's normed tokens (N, D) -> experts (N, T) of the next, likeliest first.

        They are read in that order, so that what there is no time for is what is least likely
        to be wanted. Not evaluated.
        """
        logits = self._router(x * self._ratio)
        return mx.argsort(-logits, axis=-1)[:, : self._top_k]

    def read_ahead(self, guess: mx.array, shared: Shared) -> None:
        """Begin to read those that are not in slots."""
        experts = self._experts
        named: list[list[int]] = guess.tolist()  # type: ignore[assignment]
        wanted = dict.fromkeys(expert for rank in zip(*named, strict=True) for expert in rank)
        missing = [expert for expert in wanted if expert not in experts.where]
        shared.guess(experts.layer % 2, experts.layer, missing)
