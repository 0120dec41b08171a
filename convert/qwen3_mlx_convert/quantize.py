"""The recipe: which matrix gets how many bits, and the packing itself.

Affine quantisation by groups along a row: w ~ scale * q + bias, with q of `bits` bits, as
`mx.quantize` defines it. Rows are independent of each other, so packing a matrix block by
block, or an expert at a time, gives the same bits as packing it whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.config import PACKINGS, Quantization
from qwen3_mlx_convert.names import Kind

if TYPE_CHECKING:
    import mlx.core as mx

__all__ = ["BITS", "GROUP_SIZES", "PARTS", "Recipe", "config_block", "pack"]

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

#: The tensors of a packed matrix; floating modes have no biases.
PARTS = ("weight", "scales", "biases")

#: A router is small, and one wrong choice of expert costs more than its bits.
ROUTER = Quantization(bits=8, group_size=64)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How matrices are packed: all alike, but routers at 8 bits, and but for what `spend` buys.

    `bits=None` stores bf16. `spend` is the share of bytes that may be added, 0.08 for 8 %, to
    give the matrices that matter most more bits (`qwen3_mlx.model.allocation` says which).

    Raises:
        OptionError: mlx has no such bits, group size or mode.
    """

    bits: int | None = 4
    group_size: int = 64
    mode: str = "affine"
    spend: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in PACKINGS:
            raise OptionError(f"mode {self.mode!r}: mlx has {', '.join(PACKINGS)}")
        if self.mode != "affine":
            bits, groups = PACKINGS[self.mode]
            if (self.bits,) != bits or (self.group_size,) != groups or self.spend:
                raise OptionError(
                    f"{self.mode} has {bits[0]} bits in groups of {groups[0]}: leave the others out"
                )
            return
        if self.bits is not None and self.bits not in BITS:
            raise OptionError(f"{self.bits} bits: mlx packs {_list(BITS)} bits")
        if self.group_size not in GROUP_SIZES:
            raise OptionError(f"group size {self.group_size}: choose {_list(GROUP_SIZES)}")

    @property
    def name(self) -> str:
        """Short form, used in folder names: "q4", "q4-plain", "q8", "mxfp4", "bf16"."""
        if self.bits is None:
            return "bf16"
        if self.mode != "affine":
            return self.mode
        return f"q{self.bits}" + ("-plain" if self.bits == 4 and not self.spend else "")

    @property
    def words(self) -> str:
        """A line for the model card."""
        if self.bits is None:
            return "bf16, not quantised"
        more = f", up to {100 * self.spend:g} % more bytes where it matters" if self.spend else ""
        return (
            f"{self.bits} bits, {self.mode}, groups of {self.group_size}{more}; routers "
            f"{ROUTER.bits} bits"
        )

    def choose(self, where: Kind, columns: int, bits: int | None = None) -> Quantization | None:
        """How to store a tensor whose rows have this many columns; None is plain.

        `bits` replace the recipe's own. A row that does not divide into whole groups cannot be
        packed, and mlx-lm leaves such a matrix as it is too.
        """
        if self.bits is None or where is Kind.VECTOR or columns % self.group_size:
            return None
        choice = Quantization(bits or self.bits, self.group_size, self.mode)
        choice = ROUTER if where is Kind.ROUTER else choice
        return None if columns % choice.group_size else choice


def config_block(
    recipe: Recipe, matrices: Mapping[str, Quantization | None]
) -> dict[str, Any] | None:
    """The `quantization` block of config.json: one default, and the paths that differ.

    `matrices` maps the path of every matrix to how it is stored.
    """
    if recipe.bits is None:
        return None
    default = Quantization(recipe.bits, recipe.group_size, recipe.mode)
    block: dict[str, Any] = {
        "group_size": default.group_size,
        "bits": default.bits,
        "mode": default.mode,
    }
    for path, choice in matrices.items():
        if choice is None:
            block[path] = False
        elif choice != default or path.endswith(".mlp.gate"):
            block[path] = {"group_size": choice.group_size, "bits": choice.bits}
    return block


def pack(rows: mx.array, choice: Quantization) -> tuple[mx.array, ...]:
    """Rows (…, in) to words (…, in * bits / 32), scales and biases (…, in / group_size)."""
    import mlx.core as mx

    return tuple(
        mx.quantize(rows, group_size=choice.group_size, bits=choice.bits, mode=choice.mode)
    )


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
