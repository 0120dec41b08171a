"""Which Hugging Face tensor becomes which MLX tensor, as a table.

Paths in MLX are module paths without `.weight`, because a packed matrix has three tensors:
`.weight`, `.scales` and `.biases`. The experts of a layer are stacked in the order of their
numbers: `mlp.experts.7.up_proj` is row 7 of `mlp.switch_mlp.up_proj`, (E, F, D).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["TABLE", "Kind", "Place", "place"]


class Kind(Enum):
    """What is done with a tensor."""

    MATRIX = "quantised as the recipe says"
    ROUTER = "quantised finer than the rest, since it decides which experts run"
    VECTOR = "kept: a norm's weight"


_LAYER = r"model\.layers\.(?P<layer>\d+)\."

#: (name in the checkpoint without `.weight`, path in MLX, kind), tried from the top.
TABLE: tuple[tuple[str, str, Kind], ...] = (
    (
        _LAYER + r"mlp\.experts\.(?P<expert>\d+)\.(?P<part>gate_proj|up_proj|down_proj)",
        "model.layers.{layer}.mlp.switch_mlp.{part}",
        Kind.MATRIX,
    ),
    (
        _LAYER + r"self_attn\.(?P<part>q_proj|k_proj|v_proj|o_proj)",
        "model.layers.{layer}.self_attn.{part}",
        Kind.MATRIX,
    ),
    (
        _LAYER + r"mlp\.(?P<part>gate_proj|up_proj|down_proj)",
        "model.layers.{layer}.mlp.{part}",
        Kind.MATRIX,
    ),
    (_LAYER + r"mlp\.gate", "model.layers.{layer}.mlp.gate", Kind.ROUTER),
    (
        _LAYER + r"(?P<part>self_attn\.[qk]_norm|input_layernorm|post_attention_layernorm)",
        "model.layers.{layer}.{part}",
        Kind.VECTOR,
    ),
    (r"model\.embed_tokens", "model.embed_tokens", Kind.MATRIX),
    (r"lm_head", "lm_head", Kind.MATRIX),
    (r"model\.norm", "model.norm", Kind.VECTOR),
)

_COMPILED = tuple((re.compile(pattern), path, kind) for pattern, path, kind in TABLE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor goes: `path` in the MLX model, and its row there if it is an expert."""

    path: str
    kind: Kind
    expert: int | None = None


def place(name: str) -> Place | None:
    """The place of a checkpoint tensor; None if the table does not know it.

    >>> place("model.layers.3.mlp.experts.7.up_proj.weight")
    Place(path='model.layers.3.mlp.switch_mlp.up_proj', kind=<Kind.MATRIX: ...>, expert=7)
    """
    if not name.endswith(".weight"):
        return None
    for pattern, path, kind in _COMPILED:
        match = pattern.fullmatch(name.removesuffix(".weight"))
        if match:
            fields = match.groupdict()
            expert = fields.get("expert")
            return Place(path.format(**fields), kind, None if expert is None else int(expert))
    return None
