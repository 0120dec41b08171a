"""The recipe: which matrix gets how many bits, and the packing itself.

Affine quantisation by groups along a row: w ~ scale * q + bias, with q of `bits` bits, as
`mx.quantize` defines it. Rows are independent of each other, so packing a matrix block by
block, or an expert at a time, gives the same bits as packing it whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.config import Quantization
from qwen3_mlx_convert.names import Kind

if TYPE_CHECKING:
    import mlx.core as mx

__all__ = ["BITS", "GROUP_SIZES", "Recipe", "config_block", "pack"]

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

#: A router is small, and one wrong choice of expert costs more than its bits.
ROUTER = Quantization(bits=8, group_size=64)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Uniform bits for all matrices, 8 bits for routers. `bits=None` stores bf16.

    Raises:
        OptionError: mlx has no such bits or group size.
    """

    bits: int | None = 4
    group_size: int = 64

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in BITS:
            raise OptionError(f"{self.bits} bits: mlx packs {_list(BITS)} bits")
        if self.group_size not in GROUP_SIZES:
            raise OptionError(f"group size {self.group_size}: choose {_list(GROUP_SIZES)}")

    @property
    def name(self) -> str:
        """Short form, used in folder names: "q4", "q8", "bf16"."""
        return "bf16" if self.bits is None else f"q{self.bits}"

    def choose(self, kind: Kind, columns: int) -> Quantization | None:
        """How to store a tensor whose rows have this many columns; None is plain.

        A row that does not divide into whole groups cannot be packed, and mlx-lm leaves such
        a matrix as it is too.
        """
        if self.bits is None or kind is Kind.VECTOR or columns % self.group_size:
            return None
        choice = ROUTER if kind is Kind.ROUTER else Quantization(self.bits, self.group_size)
        return None if columns % choice.group_size else choice


def config_block(
    recipe: Recipe, matrices: dict[str, tuple[Kind, Quantization | None]]
) -> dict[str, Any] | None:
    """The `quantization` block of config.json: one default, and the paths that differ.

    `matrices` maps the path of every matrix to its kind and how it is stored.
    """
    if recipe.bits is None:
        return None
    block: dict[str, Any] = {
        "group_size": recipe.group_size,
        "bits": recipe.bits,
        "mode": "affine",
    }
    for path, (kind, choice) in matrices.items():
        if choice is None:
            block[path] = False
        elif kind is Kind.ROUTER:
            block[path] = {"group_size": choice.group_size, "bits": choice.bits}
    return block


def pack(rows: mx.array, choice: Quantization) -> tuple[mx.array, mx.array, mx.array]:
    """Rows (…, in) to words (…, in * bits / 32), scales and biases (…, in / group_size)."""
    import mlx.core as mx

    words, scales, biases = mx.quantize(
        rows, group_size=choice.group_size, bits=choice.bits, mode=choice.mode
    )
    return words, scales, biases


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
