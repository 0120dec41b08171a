"""The decoder: embedding, blocks, final norm, head.

One block, for dense and MoE alike:

    h = x + out(attend(rope(qk_norm(qkv(norm(x))))))
    y = h + mlp(norm(h))
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from qwen3_mlx.model.attention import Attention, KVStore
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.linear import Embedding, Matrix, QuantizedEmbedding
from qwen3_mlx.model.mlp import Mlp
from qwen3_mlx.model.moe import Experts, MoE, combine

__all__ = ["Block", "Patience", "Qwen3Model"]


class Block:
    """One layer, cut where the KV cache is written, so that the rest can be compiled."""

    __slots__ = ("attention", "input_norm", "mlp", "mlp_norm", "norm_eps")

    def __init__(
        self,
        attention: Attention,
        mlp: Mlp | MoE,
        input_norm: mx.array,
        mlp_norm: mx.array,
        norm_eps: float,
    ) -> None:
        self.attention, self.mlp = attention, mlp
        self.input_norm, self.mlp_norm, self.norm_eps = input_norm, mlp_norm, norm_eps

    def before(
        self, x: mx.array, offset: int | mx.array, *, last_only: bool = False
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Up to the cache: x (B, L, D) -> q (B, H, L, C), k and v (B, K, L, C).

        With `last_only` q is that of the last position, (B, H, 1, C).
        """
        normed = mx.fast.rms_norm(x, self.input_norm, self.norm_eps)
        project = self.attention.project_last if last_only else self.attention.project
        return project(normed, offset)

    def after(self, x: mx.array, mixed: mx.array, *, decoding: bool = False) -> mx.array:
        """From the attention's values (B, L, H C) to the next layer's input (B, L, D).

        Whether that is a step of decoding is for streamed experts to know, and changes no number.
        """
        h = x + self.attention.out(mixed)
        normed, mlp = mx.fast.rms_norm(h, self.mlp_norm, self.norm_eps), self.mlp
        return h + (mlp(normed, decoding=decoding) if isinstance(mlp, MoE) else mlp(normed))

    def choose(self, x: mx.array, mixed: mx.array) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """The first part of `after` in a sparse layer: residual (B, L, D) and `MoE.choose`."""
        h = x + self.attention.out(mixed)
        return h, *self._moe.choose(mx.fast.rms_norm(h, self.mlp_norm, self.norm_eps))

    def combine(self, h: mx.array, out: mx.array, weights: mx.array) -> mx.array:
        """The last part: residual, expert outputs (N, T, D) and their weights -> (B, L, D)."""
        return h + combine(out, weights).reshape(h.shape)

    @property
    def experts(self) -> Experts:
        """The experts of a sparse layer, which run between `choose` and `combine`."""
        return self._moe.experts

    @property
    def _moe(self) -> MoE:
        assert isinstance(self.mlp, MoE)
        return self.mlp

    def arrays(self) -> list[mx.array]:
        """Every array of weights."""
        return [*self.trunk(), *(self.mlp.experts.arrays() if isinstance(self.mlp, MoE) else [])]

    def trunk(self) -> list[mx.array]:
        """Every array of weights but the experts'."""
        mlp = self.mlp.router.arrays() if isinstance(self.mlp, MoE) else self.mlp.arrays()
        return [*self.attention.arrays(), *mlp, self.input_norm, self.mlp_norm]

    @property
    def streamed(self) -> bool:
        """Whether this layer waits for its router, to read experts."""
        return isinstance(self.mlp, MoE) and self.mlp.experts.streamed


class Patience:
    """Until when somebody waits for this model, time.monotonic(); None for as long as it takes.

    Layers that read experts from disk give up then, with a TimeoutError.
    """

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline: float | None = None


class Qwen3Model:
    """A whole decoder. It holds weights and no state: the state of a text is its KV cache."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Embedding | QuantizedEmbedding,
        blocks: Sequence[Block],
        final_norm: mx.array,
        head: Matrix,
    ) -> None:
        self.config = config
        self.embedding, self.blocks = embedding, tuple(blocks)
        self.patience = Patience()
        self.final_norm, self.head = final_norm, head

    def hidden(self, ids: mx.array, cache: KVStore, *, last_only: bool = False) -> mx.array:
        """Token ids (B, L) -> the last layer's output (B, L, D), final norm not applied.

        With `last_only` it is that of the last position alone, (B, 1, D). The last layer then
        only keeps the keys and values of the others; nobody reads what else it would make.
        """
        x = self.embedding.rows(ids)
        offset, mask = cache.offset, cache.mask(ids.shape[1])
        decoding = ids.shape[1] == 1  # of x it would not be known: a prompt's last row is alone too
        for layer, block in enumerate(self.blocks):
            alone = last_only and ids.shape[1] > 1 and layer == len(self.blocks) - 1
            q, k, v = block.before(x, offset, last_only=alone)
            held = cache.update(layer, k, v)
            if alone:
                x, mask = x[:, -1:], None  # the last may see all before it
            x = block.after(x, block.attention.attend(q, held, mask), decoding=decoding)
        return x

    def logits(self, hidden: mx.array) -> mx.array:
        """(…, D) -> (…, V), every entry of the padded vocabulary included."""
        return self.head(self.normed(hidden))

    def normed(self, hidden: mx.array) -> mx.array:
        """The final norm of (…, D), which the head reads, and of which vectors are made."""
        return mx.fast.rms_norm(hidden, self.final_norm, self.config.norm_eps)

    @property
    def dtype(self) -> mx.Dtype:
        """The type of activations, and so of the KV cache."""
        return self.final_norm.dtype

    def arrays(self) -> list[mx.array]:
        """Every array of weights, each once."""
        head = [] if self.head is self.embedding else self.head.arrays()
        layers = [a for block in self.blocks for a in block.arrays()]
        return [*self.embedding.arrays(), *layers, self.final_norm, *head]
