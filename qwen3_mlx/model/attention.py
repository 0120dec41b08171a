"""Grouped-query attention with QK-norm, written for joined projections.

qkv    (B, L, (H + 2K) C)   one product for queries, keys and values
norm   q and k heads        each head divided by its RMS, times a weight per channel
rope   q and k heads        one rotation for both
scores softmax(q kᵀ / √C)   each group of H / K query heads shares a key/value head
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import mlx.core as mx

from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.linear import Matrix
from qwen3_mlx.model.packed import PackedKV, attend_packed
from qwen3_mlx.model.rope import Rope

__all__ = ["Attention", "Held", "KVStore"]

#: Keys and values (B, K, S, C) of a layer, as they are or packed.
Held: TypeAlias = tuple[mx.array, mx.array] | PackedKV


class KVStore(Protocol):
    """What attention needs of a KV cache; the engine owns the real one."""

    @property
    def offset(self) -> int | mx.array:
        """The position of the first new token: one number, or one for each row (B,)."""

    def update(self, layer: int, keys: mx.array, values: mx.array) -> Held:
        """Append (B, K, L, C) and return everything so far, (B, K, S, C)."""

    def mask(self, length: int) -> mx.array | str | None:
        """What the new tokens may see, in the terms of scaled_dot_product_attention."""


class Attention:
    """The attention of one layer.

    Args:
        qkv: the joined projection, rows in the order q heads, k heads, v heads.
        out: the output projection, (H C) -> D.
        qk_weight: QK-norm weights by head, (H + K, 1, C): H times q_norm, K times k_norm.
    """

    __slots__ = (
        "head_dim",
        "heads",
        "kv_heads",
        "norm_eps",
        "out",
        "qk_weight",
        "qkv",
        "rope",
        "scale",
    )  # fmt: skip

    def __init__(
        self, config: ModelConfig, rope: Rope, qkv: Matrix, out: Matrix, qk_weight: mx.array
    ) -> None:
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.head_dim, self.norm_eps = config.head_dim, config.norm_eps
        self.rope, self.qkv, self.out, self.qk_weight = rope, qkv, out, qk_weight
        self.scale = rope.score_scale * config.head_dim**-0.5

    def project(self, x: mx.array, offset: int | mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Normed input (B, L, D) -> rotated q (B, H, L, C), rotated k and plain v (B, K, L, C)."""
        joined, H, HK = self._by_head(self.qkv(x)), self.heads, self.heads + self.kv_heads
        qk = self._turn(joined[:, :HK], self.qk_weight, offset)
        return qk[:, :H], qk[:, H:], joined[:, HK:]

    def project_last(
        self, x: mx.array, offset: int | mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """`project` with the query of the last position alone, (B, H, 1, C)."""
        H, K = self.heads, self.kv_heads
        kv = self._by_head(self.qkv.tail(H * self.head_dim)(x))
        q, _, _ = self.project(x[:, -1:], offset + (x.shape[1] - 1))
        return q, self._turn(kv[:, :K], self.qk_weight[H:], offset), kv[:, K:]

    def _by_head(self, joined: mx.array) -> mx.array:
        """(B, L, heads C) -> (B, heads, L, C)."""
        return joined.reshape(*joined.shape[:2], -1, self.head_dim).swapaxes(1, 2)

    def _turn(self, heads: mx.array, weight: mx.array, offset: int | mx.array) -> mx.array:
        return self.rope(mx.fast.rms_norm(heads, None, self.norm_eps) * weight, offset)

    def attend(self, q: mx.array, held: Held, mask: mx.array | str | None) -> mx.array:
        """Mix the values: (B, H, L, C) over (B, K, S, C) -> (B, L, H C), before `out`."""
        B, _, L, _ = q.shape
        if isinstance(held, PackedKV):
            mixed = attend_packed(q, held, self.scale, mask)
        else:
            mixed = mx.fast.scaled_dot_product_attention(q, *held, scale=self.scale, mask=mask)
        return mixed.swapaxes(1, 2).reshape(B, L, -1)

    def arrays(self) -> list[mx.array]:
        return [*self.qkv.arrays(), *self.out.arrays(), self.qk_weight]
