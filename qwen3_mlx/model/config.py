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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_mlx.errors import CheckpointError, UnsupportedModelError

__all__ = ["ModelConfig", "Quantization", "YarnConfig"]

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
        experts = int(raw.get("num_experts") or raw.get("num_local_experts") or 0)
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
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or hidden // heads),
            mlp_width=_whole(raw, "intermediate_size"),
            vocab_size=_whole(raw, "vocab_size"),
            norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            rope_theta=theta,
            max_positions=int(raw.get("max_position_embeddings", 32768)),
            tied=bool(raw.get("tie_word_embeddings", False)),
            yarn=yarn,
            experts=experts if model_type == "qwen3_moe" else 0,
            top_k=int(raw.get("num_experts_per_tok") or 0),
            expert_width=int(raw.get("moe_intermediate_size") or 0),
            normalise_top_k=bool(raw.get("norm_topk_prob", False)),
            sparse_step=int(raw.get("decoder_sparse_step", 1)),
            dense_layers=tuple(raw.get("mlp_only_layers") or ()),
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
    """Base frequency and scaling, from `rope_parameters` or the older flat keys."""
    nested = raw.get("rope_parameters")
    scaling: Mapping[str, Any] = nested or raw.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 1e6)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return theta, None
    if kind != "yarn":
        raise UnsupportedModelError(f"rope scaling of type {kind!r}; Qwen3 uses 'yarn' or none")
    factor = float(scaling.get("factor", 0))
    if factor < 1:
        raise CheckpointError(f"the YaRN factor in config.json is {factor:g}; it must be >= 1")
    attention = scaling.get("attention_factor")
    original = scaling.get("original_max_position_embeddings")
    return theta, YarnConfig(
        factor=factor,
        original_max_positions=int(original or raw.get("max_position_embeddings", 32768)),
        beta_fast=float(scaling.get("beta_fast") or 32.0),
        beta_slow=float(scaling.get("beta_slow") or 1.0),
        attention_factor=None if attention is None else float(attention),
        truncate=bool(scaling.get("truncate", True)),
    )


def _quantization(
    raw: Mapping[str, Any],
) -> tuple[Quantization | None, tuple[tuple[str, Quantization | None], ...]]:
    """The block that MLX folders carry: one default, and entries by matrix path."""
    block = raw.get("quantization")
    if block is None:
        other = raw.get("quantization_config") or {}
        if "quant_method" in other:
            raise UnsupportedModelError(
                f"the weights are stored as {other['quant_method']!r}; this version reads "
                "bf16, f16 and f32 checkpoints and MLX-quantised folders"
            )
        block = other if "bits" in other else None
    if block is None:
        return None, ()
    default = Quantization(
        int(block["bits"]), int(block["group_size"]), block.get("mode", "affine")
    )
    overrides: list[tuple[str, Quantization | None]] = []
    for path, entry in block.items():
        if isinstance(entry, Mapping):
            overrides.append(
                (
                    path,
                    Quantization(
                        int(entry.get("bits", default.bits)),
                        int(entry.get("group_size", default.group_size)),
                        entry.get("mode", default.mode),
                    ),
                )
            )
        elif entry is False:
            overrides.append((path, None))
    return default, tuple(overrides)


def _whole(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise CheckpointError(f"config.json needs a positive whole number for {key}, has {value!r}")
    return value
