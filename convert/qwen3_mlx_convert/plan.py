"""What a conversion will write, known to the byte before the first weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from qwen3_mlx.checkpoint import ITEM_BYTES, Checkpoint, TensorInfo
from qwen3_mlx.errors import UnsupportedModelError
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx.model.shapes import check_shapes, expected_shapes
from qwen3_mlx_convert.names import Kind, Place, place
from qwen3_mlx_convert.quantize import Recipe, config_block

__all__ = ["Job", "Output", "Plan", "make_plan"]

_SOURCE_DTYPES = ("BF16", "F16", "F32")


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
    source: TensorInfo
    path: str
    choice: Quantization | None
    first_row: int


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
        return sum(job.source.nbytes for job in self.jobs)

    @property
    def target_bytes(self) -> int:
        """Bytes of weights that will be written."""
        return sum(output.nbytes for output in self.outputs)

    @property
    def params(self) -> int:
        """Weights of the model."""
        return sum(prod(job.source.shape) for job in self.jobs)


def make_plan(checkpoint: Checkpoint, config: ModelConfig, recipe: Recipe) -> Plan:
    """Check every tensor against the config, and lay out the result.

    Raises:
        CheckpointError: a tensor is missing, unexpected or of another shape.
        UnsupportedModelError: the weights are packed already, or of an unknown dtype.
    """
    _check_source(checkpoint, config)
    stored = checkpoint.tensors["model.embed_tokens.weight"].dtype
    dtype = "BF16" if recipe.bits is None else stored
    jobs: list[Job] = []
    outputs: list[Output] = []
    matrices: dict[str, tuple[Kind, Quantization | None]] = {}
    for name, shape in expected_shapes(config).items():
        where = place(name)
        assert where is not None, f"the table of names lacks {name}"
        choice = recipe.choose(where.kind, shape[-1])
        first_row = (where.expert or 0) * shape[0]
        jobs.append(Job(name, checkpoint.tensors[name], where.path, choice, first_row))
        if not where.expert:  # None, or the first of a stack
            outputs += _outputs(where, shape, choice, config.experts, dtype)
            if where.kind is not Kind.VECTOR:
                matrices[where.path] = (where.kind, choice)
    jobs.sort(key=_reading_order)
    return Plan(dtype, tuple(jobs), tuple(outputs), config_block(recipe, matrices))


def _reading_order(job: Job) -> tuple[str, int]:
    """Along the files, so that a disk is read from front to back."""
    return job.source.file.name, job.source.offset


def _outputs(
    where: Place, shape: tuple[int, ...], choice: Quantization | None, experts: int, dtype: str
) -> list[Output]:
    full = shape if where.expert is None else (experts, *shape)
    if choice is None:
        return [Output(f"{where.path}.weight", dtype, full)]
    *rows, columns = full
    groups = (*rows, columns // choice.group_size)
    return [
        Output(f"{where.path}.weight", "U32", (*rows, columns * choice.bits // 32)),
        Output(f"{where.path}.scales", dtype, groups),
        Output(f"{where.path}.biases", dtype, groups),
    ]


def _check_source(checkpoint: Checkpoint, config: ModelConfig) -> None:
    if config.quantization is not None:
        raise UnsupportedModelError(
            f"{checkpoint.path} is quantised already ({config.quantization.bits} bits, group "
            f"{config.quantization.group_size}): nothing was written; it can be used as it is, "
            "or give the original bf16 checkpoint"
        )
    if any(".switch_mlp." in name for name in checkpoint.tensors):
        raise UnsupportedModelError(
            f"{checkpoint.path} is in MLX layout already (its experts are stacked): nothing was "
            "written; give the original Hugging Face checkpoint"
        )
    check_shapes({name: info.shape for name, info in checkpoint.tensors.items()}, config)
    for name, info in checkpoint.tensors.items():
        if info.dtype not in _SOURCE_DTYPES:
            raise UnsupportedModelError(
                f"{name} is stored as {info.dtype}; this version converts "
                f"{', '.join(_SOURCE_DTYPES)}: give the bf16 checkpoint"
            )
