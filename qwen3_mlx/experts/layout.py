"""What one expert is made of, and where its bytes lie on disk.

An expert has three matrices, each of one tensor (plain) or three (quantised). In slots, gate
and up are joined where their formats agree, so that six tensors hold an expert and not nine:

    parts     gate.weight up.weight | gate.scales up.scales | gate.biases up.biases | down …
    tensors   gate|up weight        | gate|up scales        | gate|up biases        | down …

Parts are listed in the order in which a record stores them, so a tensor is a run of parts.
Neither mlx nor numpy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from qwen3_mlx.checkpoint import ITEM_BYTES, TensorInfo
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.model.config import ModelConfig, Quantization

__all__ = [
    "CODES",
    "FLOATS",
    "MATRICES",
    "ExpertFormat",
    "Part",
    "arrange",
    "is_expert_tensor",
    "layer_format",
    "tensor_name",
]

MATRICES = ("gate_proj", "up_proj", "down_proj")
_KINDS = ("weight", "scales", "biases")

#: The dtypes that a model can be computed from: numbers, and what stands for packed ones, which
#: keeps its type whatever the model computes in (packed weights, FP4 scales).
FLOATS, CODES = ("F32", "F16", "BF16"), ("U32", "U8")


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of one expert: `kind` of `matrix`, as stored; shape (rows, columns)."""

    matrix: str
    kind: str
    dtype: str
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class ExpertFormat:
    """The experts of one layer: `hows` says how gate, up and down are quantised, if they are."""

    parts: tuple[Part, ...]
    hows: tuple[Quantization | None, ...]
    joined: bool

    @property
    def nbytes(self) -> int:
        """Bytes of one expert on disk."""
        return sum(part.nbytes for part in self.parts)

    @property
    def tensors(self) -> tuple[tuple[Part, ...], ...]:
        """The parts that share a slot tensor, their rows one below the other."""
        if not self.joined:
            return tuple((part,) for part in self.parts)
        half = len(self.parts) * 2 // 3
        pairs = tuple(self.parts[i : i + 2] for i in range(0, half, 2))
        return (*pairs, *((part,) for part in self.parts[half:]))

    def slot_bytes(self, itemsize: int | None = None) -> int:
        """Bytes of one expert in memory; floats take `itemsize` bytes, None as stored."""
        return sum(
            part.nbytes if itemsize is None or part.dtype in CODES else prod(part.shape) * itemsize
            for part in self.parts
        )


def is_expert_tensor(name: str) -> bool:
    """Whether a checkpoint tensor belongs to a single expert or to a stack of them."""
    return ".mlp.switch_mlp." in name or ".mlp.experts." in name


def tensor_name(layer: int, matrix: str, kind: str, expert: int | None = None) -> str:
    """The checkpoint's name of a stack of experts, or of one expert's tensor."""
    where = "switch_mlp" if expert is None else f"experts.{expert}"
    return f"model.layers.{layer}.mlp.{where}.{matrix}.{kind}"


def layer_format(
    config: ModelConfig, tensors: Mapping[str, TensorInfo], layer: int
) -> ExpertFormat:
    """The format of a layer's experts, from the headers of a folder of either layout.

    Raises:
        CheckpointError: a tensor is missing.
    """
    found = {matrix: _matrix_parts(tensors, layer, matrix) for matrix in MATRICES}
    hows = tuple(
        config.quantization_of(f"model.layers.{layer}.mlp.switch_mlp.{matrix}")
        if len(found[matrix]) > 1 else None
        for matrix in MATRICES
    )  # fmt: skip
    return arrange([found[matrix] for matrix in MATRICES], hows)


def arrange(
    matrices: Sequence[Sequence[Part]], hows: Sequence[Quantization | None]
) -> ExpertFormat:
    """The format of experts with these parts of gate, up and down; joined where it can be."""
    gate, up, down = (sorted(parts, key=lambda p: _KINDS.index(p.kind)) for parts in matrices)
    joined = hows[0] == hows[1] and [p.dtype for p in gate] == [p.dtype for p in up]
    if joined:
        parts = [part for pair in zip(gate, up, strict=True) for part in pair]
    else:
        parts = [*gate, *up]
    return ExpertFormat((*parts, *down), tuple(hows), joined)


def _matrix_parts(tensors: Mapping[str, TensorInfo], layer: int, matrix: str) -> list[Part]:
    parts = []
    for kind in _KINDS:
        stacked = tensors.get(tensor_name(layer, matrix, kind))
        single = tensors.get(tensor_name(layer, matrix, kind, 0))
        info = stacked or single
        if info is None:
            if kind == "weight":
                raise CheckpointError(
                    f"layer {layer} has no {matrix} of its experts: download the folder again"
                )
            continue
        rows, columns = info.shape[-2:]
        parts.append(Part(matrix, kind, info.dtype, (rows, columns)))
    return parts
