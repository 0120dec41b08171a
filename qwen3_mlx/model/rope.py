"""Rotary positions: plain RoPE, and YaRN for contexts beyond the native length.

Qwen3 rotates the halves of a head (channel c with channel c + C/2) by position times
theta^(-2c/C). YaRN (arXiv 2309.00071) divides the slow frequencies by its factor, keeps
the fast ones, blends between, and multiplies the attention scores by a constant.
"""

from __future__ import annotations

import math

import mlx.core as mx

from qwen3_mlx.model.config import ModelConfig, YarnConfig

__all__ = ["Rope", "yarn_attention_factor", "yarn_wavelengths"]


class Rope:
    """Rotates heads by their position; `score_scale` is what YaRN adds to the scores.

    YaRN multiplies both rotated queries and keys by its attention factor. Only their
    product is ever used, so the square goes into the softmax scale and costs nothing.
    """

    __slots__ = ("base", "head_dim", "score_scale", "wavelengths")

    def __init__(self, config: ModelConfig) -> None:
        self.head_dim = config.head_dim
        self.base: float | None = config.rope_theta
        self.wavelengths: mx.array | None = None
        self.score_scale = 1.0
        if config.yarn is not None:
            self.base = None
            self.wavelengths = mx.array(
                yarn_wavelengths(config.head_dim, config.rope_theta, config.yarn)
            )
            self.score_scale = yarn_attention_factor(config.yarn) ** 2

    def __call__(self, heads: mx.array, offset: int | mx.array) -> mx.array:
        """(B, H, L, C) at positions offset … offset + L - 1; offset is a number or (B,)."""
        return mx.fast.rope(
            heads, self.head_dim, traditional=False, base=self.base, scale=1.0,
            offset=offset, freqs=self.wavelengths,
        )  # fmt: skip


def yarn_attention_factor(yarn: YarnConfig) -> float:
    """0.1 ln(factor) + 1 (equation 22 of the paper), unless the checkpoint states its own.

    >>> round(yarn_attention_factor(YarnConfig(4.0, 32768)), 6)
    1.138629
    """
    if yarn.attention_factor is not None:
        return yarn.attention_factor
    return 0.1 * math.log(yarn.factor) + 1.0 if yarn.factor > 1 else 1.0


def yarn_wavelengths(head_dim: int, theta: float, yarn: YarnConfig) -> list[float]:
    """The C/2 divisors of position that `mx.fast.rope` takes as `freqs`.

    A channel that turns more than `beta_fast` times within the original context keeps its
    frequency, one that turns less than `beta_slow` times is slowed by the factor, and a
    linear ramp over channel numbers joins the two (equations 17-20 of the paper).
    """
    low = _channel_turning(yarn.beta_fast, head_dim, theta, yarn.original_max_positions)
    high = _channel_turning(yarn.beta_slow, head_dim, theta, yarn.original_max_positions)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = max(high - low, 0.001)
    wavelengths = []
    for channel in range(head_dim // 2):
        plain = theta ** (2 * channel / head_dim)
        slowed = min(max((channel - low) / width, 0.0), 1.0)
        frequency = (1 - slowed) / plain + slowed / (plain * yarn.factor)
        wavelengths.append(1.0 / frequency)
    return wavelengths


def _channel_turning(turns: float, head_dim: int, theta: float, context: int) -> float:
    """The (fractional) channel that completes `turns` rotations over `context` positions."""
    return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))
