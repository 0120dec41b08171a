"""What a conversion will write, known to the byte before the first weight is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from qwen3_mlx.checkpoint import ITEM_BYTES, Checkpoint
from qwen3_mlx.errors import UnsupportedModelError
from qwen3_mlx.model.allocation import allocate
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx.model.shapes import check_shapes, expected_shapes, mlx_shapes
from qwen3_mlx_convert.dialects import plain_tensors, refuse_records, without_packing
from qwen3_mlx_convert.names import Kind, Place, place
from qwen3_mlx_convert.quantize import Recipe, config_block
from qwen3_mlx_convert.sources import Rows, dtype_of, nbytes_of, place_of, shape_of, weights_in

__all__ = ["Job", "Output", "Plan", "forecast_config", "make_plan"]


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Job:
    """One source tensor, and where its rows go. Row r lands in row `first_row + r`."""

    name: str
    source: Rows
    path: str
    choice: Quantization | None
    first_row: int

    @property
    def nbytes(self) -> int:
        """Bytes that are read for it."""
        return nbytes_of(self.source)


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs in the order in which they are done, and outputs in the order of the file.

    `dtype` is that of everything that is not packed: norms, scales, biases.
    """

    dtype: str
    jobs: tuple[Job, ...]
    outputs: tuple[Output, ...]
    block: dict[str, Any] | None

    @property
    def source_bytes(self) -> int:
        """Bytes that will be read."""
        return sum(job.nbytes for job in self.jobs)

    @property
    def target_bytes(self) -> int:
        """Bytes of weights that will be written."""
        return sum(output.nbytes for output in self.outputs)

    @property
    def params(self) -> int:
        """Weights of the model."""
        return sum(weights_in(job.source) for job in self.jobs)


def make_plan(
    checkpoint: Checkpoint, config: ModelConfig, recipe: Recipe, force: bool = False
) -> Plan:
    """Check every tensor against the config, and lay out the result.

    Raises:
        CheckpointError: a tensor is missing, unexpected or of another shape.
        UnsupportedModelError: the weights are of an unknown dtype, or of fewer bits than asked
            for and not `force`, or the experts are records.
    """
    refuse_records(checkpoint.path)
    _check_upwards(checkpoint, config, recipe, force)
    sources = plain_tensors(checkpoint, config)
    config = without_packing(config)
    check_shapes({name: shape_of(source) for name, source in sources.items()}, config)
    stored = dtype_of(sources["model.embed_tokens.weight"])
    dtype = "BF16" if recipe.bits is None else stored
    jobs: list[Job] = []
    outputs: list[Output] = []
    matrices: dict[str, Quantization | None] = {}
    extra = _extra(config, recipe, dtype)
    for name, shape in expected_shapes(config).items():
        where = place(name)
        assert where is not None, f"the table of names lacks {name}"
        choice = recipe.choose(where.kind, shape[-1], extra.get(where.path))
        first_row = (where.expert or 0) * shape[0]
        jobs.append(Job(name, sources[name], where.path, choice, first_row))
        if not where.expert:  # None, or the first of a stack
            outputs += _outputs(where, shape, choice, config.experts, dtype)
            if where.kind is not Kind.VECTOR:
                matrices[where.path] = choice
    jobs.sort(key=_reading_order)
    return Plan(dtype, tuple(jobs), tuple(outputs), config_block(recipe, matrices))


def forecast_config(config: ModelConfig, recipe: Recipe) -> ModelConfig:
    """The config of the folder that a recipe would make of a model, from its shapes alone."""
    if recipe.bits is None:
        return config
    plain = replace(config, quantization=None, quantization_overrides=())
    extra = _extra(plain, recipe, "BF16")
    choices = []
    for name, shape in mlx_shapes(plain).items():
        where = place(name.replace(".switch_mlp.", ".experts.0."))
        assert where is not None, f"the table of names lacks {name}"
        choice = recipe.choose(where.kind, shape[-1], extra.get(where.path))
        if where.kind is not Kind.VECTOR:
            choices.append((where.path, choice))
    usual = Quantization(recipe.bits, recipe.group_size, recipe.mode)
    others = tuple((path, choice) for path, choice in choices if choice != usual)
    return replace(config, quantization=usual, quantization_overrides=others)


def _reading_order(job: Job) -> tuple[str, int]:
    """Along the files, so that a disk is read from front to back."""
    file, offset = place_of(job.source)
    return file.name, offset


def _outputs(
    where: Place, shape: tuple[int, ...], choice: Quantization | None, experts: int, dtype: str
) -> list[Output]:
    full = shape if where.expert is None else (experts, *shape)
    if choice is None:
        return [Output(f"{where.path}.weight", dtype, full)]
    *rows, columns = full
    groups = (*rows, columns // choice.group_size)
    words = Output(f"{where.path}.weight", "U32", (*rows, columns * choice.bits // 32))
    if choice.mode != "affine":  # a scale is an 8-bit float, and there is no bias
        return [words, Output(f"{where.path}.scales", "U8", groups)]
    return [
        words,
        Output(f"{where.path}.scales", dtype, groups),
        Output(f"{where.path}.biases", dtype, groups),
    ]


def _extra(config: ModelConfig, recipe: Recipe, dtype: str) -> dict[str, int]:
    """The paths that get more bits than the recipe's own."""
    if recipe.bits is None or not recipe.spend:
        return {}
    item = ITEM_BYTES[dtype]
    return allocate(config, recipe.bits, recipe.group_size, recipe.spend, item)


def _check_upwards(
    checkpoint: Checkpoint, config: ModelConfig, recipe: Recipe, force: bool
) -> None:
    """Packing what is packed already loses twice; more bits than before lose nothing."""
    before = config.quantization
    if before is None or recipe.bits is None or force:
        return
    if (recipe.bits, -recipe.group_size) <= (before.bits, -before.group_size):
        raise UnsupportedModelError(
            f"{checkpoint.path} is quantised already ({before.bits} bits, group "
            f"{before.group_size}): nothing was written; it can be used as it is, give the "
            "original bf16 checkpoint, or pass --force to lose quality twice"
        )
