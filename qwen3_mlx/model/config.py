"""config.json in either of its dialects becomes one frozen `ModelConfig`.

The axis letters of this package, defined here once:

    B  batch rows          L  positions of this step     S  positions in the cache
    D  hidden size         H  query heads                K  key/value heads
    C  channels of a head  E  experts                    T  experts chosen per token (top-k)
    F  width of an MLP or of one expert                  V  vocabulary, padding included

Two dialects are in use. Hub files of 2025 are flat (`rope_theta`, `rope_scaling`,
`num_experts`); files that Transformers 5 saves nest them (`rope_parameters`) and rename
the experts (`num_local_experts`). A checkpoint's own file is always believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_mlx.checkpoint import short
from qwen3_mlx.errors import CheckpointError, UnsupportedModelError

__all__ = ["PACKINGS", "ModelConfig", "Quantization", "YarnConfig"]

#: What `mx.quantize` can do: by mode, the bits and the group sizes.
PACKINGS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((1, 2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}

#: More of anything than this is no model but a way to fill memory: 480B has 9,920 experts.
_MOST_LAYERS, _MOST_EXPERTS = 10_000, 1_000_000

_FAMILIES_NOT_YET = {
    "qwen3_next": "Qwen3-Next",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL",
    "qwen3_omni_moe": "Qwen3-Omni",
}


@dataclass(frozen=True, slots=True)
class YarnConfig:
    """Static YaRN (Peng et al. 2023, arXiv 2309.00071), as `rope_scaling` states it."""

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Quantization:
    """How one matrix is stored: `bits` per weight, one scale per `group_size` of a row."""

    bits: int
    group_size: int
    mode: str = "affine"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The numbers that define a Qwen3 decoder, dense or MoE.

    >>> config = ModelConfig.from_dict({
    ...     "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128,
    ...     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    ...     "head_dim": 32, "vocab_size": 256, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    ...     "max_position_embeddings": 4096, "tie_word_embeddings": True})
    >>> config.kv_bytes_per_token(2)   # 2 layers x 2 heads x 32 channels x (k, v) x bf16
    512
    """

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    max_positions: int
    tied: bool
    yarn: YarnConfig | None = None
    experts: int = 0
    top_k: int = 0
    expert_width: int = 0
    normalise_top_k: bool = True
    sparse_step: int = 1
    dense_layers: tuple[int, ...] = ()
    quantization: Quantization | None = None
    quantization_overrides: tuple[tuple[str, Quantization | None], ...] = ()
    #: How the KV cache is kept: None as it is computed, or packed to 8 or 4 bits.
    kv_bits: int | None = None

    def is_moe(self, layer: int) -> bool:
        """Whether this layer's MLP is a router with experts (the rule of Transformers)."""
        return (
            self.experts > 0
            and layer not in self.dense_layers
            and (layer + 1) % self.sparse_step == 0
        )

    def kv_bytes_per_token(self, itemsize: int = 2) -> int:
        """Bytes that one token takes in the KV cache, all layers together.

        `itemsize` is that of the activations; packed, a group has a scale and a bias of 2 bytes.
        """
        head = self.head_dim * itemsize
        if self.kv_bits is not None:
            head = self.head_dim * self.kv_bits // 8 + 4 * (self.head_dim // self.kv_group)
        return 2 * self.layers * self.kv_heads * head

    @property
    def kv_group(self) -> int:
        """Channels that share a scale in a packed KV cache; 0 if the heads cannot be packed."""
        return next((size for size in (64, 32) if self.head_dim % size == 0), 0)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """Read either dialect.

        Raises:
            UnsupportedModelError: another architecture, or a feature that Qwen3 never uses.
            CheckpointError: a key is missing or has a value that makes no model.
        """
        model_type = _check_family(raw)
        theta, yarn = _rope(raw)
        experts = _count(raw, "num_experts") or _count(raw, "num_local_experts")
        if model_type == "qwen3_moe" and not experts:
            raise CheckpointError("config.json says qwen3_moe but names no num_experts")
        heads = _whole(raw, "num_attention_heads")
        hidden = _whole(raw, "hidden_size")
        quantization, overrides = _quantization(raw)
        config = cls(
            model_type=model_type,
            hidden_size=hidden,
            layers=_whole(raw, "num_hidden_layers"),
            heads=heads,
            kv_heads=_count(raw, "num_key_value_heads") or heads,
            head_dim=_count(raw, "head_dim") or hidden // heads,
            mlp_width=_whole(raw, "intermediate_size"),
            vocab_size=_whole(raw, "vocab_size"),
            norm_eps=_number(raw, "rms_norm_eps", 1e-6),
            rope_theta=theta,
            max_positions=_count(raw, "max_position_embeddings") or 32768,
            tied=bool(raw.get("tie_word_embeddings", False)),
            yarn=yarn,
            experts=experts if model_type == "qwen3_moe" else 0,
            top_k=_count(raw, "num_experts_per_tok"),
            expert_width=_count(raw, "moe_intermediate_size"),
            normalise_top_k=bool(raw.get("norm_topk_prob", False)),
            sparse_step=_count(raw, "decoder_sparse_step") or 1,
            dense_layers=_layers(raw.get("mlp_only_layers") or ()),
            quantization=quantization,
            quantization_overrides=overrides,
        )
        config._check()
        return config

    def quantization_of(self, path: str) -> Quantization | None:
        """How the matrix at `path` ("model.layers.0.mlp.gate") is stored; None if it is plain."""
        for name, choice in self.quantization_overrides:
            if name == path:
                return choice
        return self.quantization

    def _check(self) -> None:
        if self.layers > _MOST_LAYERS or self.layers * self.experts > _MOST_EXPERTS:
            raise CheckpointError(
                f"config.json asks for {self.layers:,} layers (num_hidden_layers) of "
                f"{self.experts:,} experts (num_experts), which is no model: download it again"
            )
        if self.heads % self.kv_heads:
            raise CheckpointError(
                f"config.json has {self.heads} query heads for {self.kv_heads} key/value heads: "
                "the first must be a multiple of the second"
            )
        if self.head_dim % 2:
            raise CheckpointError(f"config.json has an odd head_dim, {self.head_dim}")
        if self.experts and not (0 < self.top_k <= self.experts and self.expert_width > 0):
            raise CheckpointError(
                f"config.json routes each token to {self.top_k} of {self.experts} experts "
                f"of width {self.expert_width}, which makes no model"
            )


def _check_family(raw: Mapping[str, Any]) -> str:
    model_type = str(raw.get("model_type", ""))
    if model_type in ("qwen3", "qwen3_moe"):
        if raw.get("attention_bias"):
            raise UnsupportedModelError("attention_bias is on: no released Qwen3 has it")
        if raw.get("use_sliding_window"):
            raise UnsupportedModelError("use_sliding_window is on: no released Qwen3 has it")
        if raw.get("hidden_act", "silu") != "silu":
            raise UnsupportedModelError(f"hidden_act is {raw['hidden_act']!r}; Qwen3 uses 'silu'")
        return model_type
    if model_type in _FAMILIES_NOT_YET:
        raise UnsupportedModelError(
            f"this is a {_FAMILIES_NOT_YET[model_type]} checkpoint (model_type {model_type!r}), "
            "which is not supported yet: choose a Qwen3 text model, `qwen3-mlx models` lists them"
        )
    named = repr(model_type) if model_type else "no model_type"
    raise UnsupportedModelError(
        f"config.json has {named}; supported are 'qwen3' and 'qwen3_moe' "
        "(`qwen3-mlx models` lists the checkpoints)"
    )


def _rope(raw: Mapping[str, Any]) -> tuple[float, YarnConfig | None]:
    """Base frequency and scaling, from `rope_parameters` and the older flat keys.

    A file may have both: the model cards have people add `rope_scaling` to whatever is there.
    """
    blocks = _block(raw, "rope_parameters"), _block(raw, "rope_scaling")
    thetas = [_number(keys, "rope_theta", 0) for keys in (*blocks, raw)]
    stated = {yarn for keys in blocks if (yarn := _yarn(keys, raw)) is not None}
    if len(stated) > 1:
        raise CheckpointError(
            f"config.json describes YaRN twice, and differently: {short(dict(blocks[0]))} as "
            f"rope_parameters, {short(dict(blocks[1]))} as rope_scaling; remove the wrong one"
        )
    return next(filter(None, thetas), 1e6), next(iter(stated), None)


def _yarn(scaling: Mapping[str, Any], raw: Mapping[str, Any]) -> YarnConfig | None:
    """What one of the blocks says of scaling, which may be nothing."""
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return None
    if kind != "yarn":
        raise UnsupportedModelError(f"rope scaling of type {kind!r}; Qwen3 uses 'yarn' or none")
    factor = _number(scaling, "factor", 0)
    if factor < 1:
        raise CheckpointError(f"the YaRN factor in config.json is {factor:g}; it must be >= 1")
    original = _count(scaling, "original_max_position_embeddings")
    return YarnConfig(
        factor=factor,
        original_max_positions=original or _count(raw, "max_position_embeddings") or 32768,
        beta_fast=_number(scaling, "beta_fast", 0) or 32.0,
        beta_slow=_number(scaling, "beta_slow", 0) or 1.0,
        attention_factor=_number(scaling, "attention_factor", 0) or None,
        truncate=bool(scaling.get("truncate", True)),
    )


def _quantization(
    raw: Mapping[str, Any],
) -> tuple[Quantization | None, tuple[tuple[str, Quantization | None], ...]]:
    """The block that MLX folders carry: one default, and entries by matrix path."""
    block = _block(raw, "quantization")
    if not block:
        other = _block(raw, "quantization_config")
        if "quant_method" in other:
            raise UnsupportedModelError(
                f"the weights are stored as {other['quant_method']!r}, which is not run as it is: "
                "convert the folder first (qwen3-mlx convert FOLDER --q4)"
            )
        block = other if "bits" in other else {}
    if not block:
        return None, ()
    default = _packing(block, None)
    overrides: list[tuple[str, Quantization | None]] = []
    for path, entry in block.items():
        if isinstance(entry, Mapping):
            overrides.append((path, _packing(entry, default)))
        elif entry is False:
            overrides.append((path, None))
    return default, tuple(overrides)


def _packing(entry: Mapping[str, Any], default: Quantization | None) -> Quantization:
    """`bits`, `group_size` and `mode`, which is affine where it is left out, as mlx has it."""
    if default is not None:
        entry = {"bits": default.bits, "group_size": default.group_size, **entry}
    mode = entry.get("mode", "affine")
    if not isinstance(mode, str):
        raise CheckpointError(f"quantization in config.json has the mode {mode!r}: it is a word")
    how = Quantization(_whole(entry, "bits"), _whole(entry, "group_size"), mode)
    bits, groups = PACKINGS.get(mode, ((), ()))
    if how.bits not in bits or how.group_size not in groups:
        raise UnsupportedModelError(
            f"the quantization of config.json is {how.bits} bits in groups of {how.group_size}, "
            f"mode {mode!r}, which MLX does not have: convert the original checkpoint again"
        )
    return how


def _block(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A block of keys, empty where there is none."""
    value = raw.get(key)
    if value is None or value == {}:
        return {}
    if not isinstance(value, Mapping):
        raise CheckpointError(f"config.json needs a block of keys for {key}, has {short(value)}")
    return value


def _layers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(item) is int for item in value):
        raise CheckpointError(
            f"config.json needs layer numbers for mlp_only_layers, has {short(value)}"
        )
    return tuple(value)


def _count(raw: Mapping[str, Any], key: str) -> int:
    """A whole number that may be left out, which counts as 0."""
    return _whole(raw, key) if raw.get(key) else 0


def _number(raw: Mapping[str, Any], key: str, default: float) -> float:
    """A finite number."""
    value = raw.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"config.json needs a number for {key}, has {short(value)}")
    return float(value)


def _whole(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise CheckpointError(
            f"config.json needs a positive whole number for {key}, has {short(value)}"
        )
    return value
