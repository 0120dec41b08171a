"""How long a text may be: the native length, YaRN beyond it, and how small the cache is kept."""

from __future__ import annotations

from dataclasses import replace

from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.config import ModelConfig, YarnConfig

__all__ = ["MOST_STRETCH", "longest_context", "trained_length", "with_context", "with_kv_bits"]

#: Qwen's cards go to four times the trained length with YaRN.
MOST_STRETCH = 4.0
# The 2504 models were trained on 32,768 positions. Their config.json adds 8,192 for the prompt,
# which they bear without YaRN; factors are of what they were trained on (the cards' 4.0 is
# 131,072 tokens).
_TRAINED = {40_960: 32_768}


def trained_length(config: ModelConfig) -> int:
    """Positions that the model was trained on, of which YaRN's factor is a multiple."""
    if config.yarn is not None:
        return config.yarn.original_max_positions
    return _TRAINED.get(config.max_positions, config.max_positions)


def longest_context(config: ModelConfig) -> int:
    """The most tokens of a context that may be asked for."""
    return int(max(MOST_STRETCH * trained_length(config), _native(config)))


def with_context(config: ModelConfig, context: int) -> tuple[ModelConfig, str]:
    """The config for a context of so many tokens, and what is to be said about it.

    Up to the native length positions stay as they were trained, since a stretched model is
    worse at short texts; beyond it YaRN's factor is the context over the trained length. A
    factor in config.json is for a length that somebody else had in mind, and is replaced.

    Raises:
        OptionError: the context is not from 1 to four times the trained length.
    """
    trained, native = trained_length(config), _native(config)
    if not 0 < context <= longest_context(config):
        raise OptionError(
            f"the context is {context:,} tokens, and must be from 1 to "
            f"{longest_context(config):,}: the model was trained on {trained:,}, "
            f"and YaRN stretches that by at most {MOST_STRETCH:g}"
        )
    if context <= native:
        if config.yarn is None:
            return config, ""
        return replace(config, yarn=None), (
            f"config.json turns on YaRN, which a context of {context:,} does not need: it is off"
        )
    yarn = YarnConfig(context / trained, trained)
    if config.yarn is not None:
        own = config.yarn
        yarn = replace(own, factor=yarn.factor, attention_factor=None)
        if own.factor == yarn.factor:
            return config, ""
    return replace(config, yarn=yarn, max_positions=context), (
        f"a context of {context:,} tokens is beyond the native {native:,}: YaRN is on with "
        f"factor {yarn.factor:.4g}, which may cost a little quality in short texts"
    )


def with_kv_bits(config: ModelConfig, bits: int | None) -> ModelConfig:
    """The config with a KV cache of 8 or 4 bits; None keeps it as it is computed.

    Raises:
        OptionError: another number of bits, or heads that are no whole groups.
    """
    if bits is None:
        return config
    if bits not in (4, 8):
        raise OptionError(f"kv_bits is {bits}, and must be 8 or 4 (or left out for no packing)")
    if not config.kv_group:
        raise OptionError(
            f"kv_bits is {bits}, and this model's heads have {config.head_dim} channels: packing "
            "needs a multiple of 32, leave it out"
        )
    return replace(config, kv_bits=bits)


def _native(config: ModelConfig) -> int:
    """What the model reads without YaRN."""
    if config.yarn is None:
        return config.max_positions
    trained = config.yarn.original_max_positions
    return next((most for most, less in _TRAINED.items() if less == trained), trained)
