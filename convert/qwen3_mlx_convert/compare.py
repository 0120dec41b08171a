"""The proof after writing: source and result are read again, tensor by tensor, and compared.

The result is read as any MLX folder is, by its own index, headers and config.json, and experts
in records by their manifest, from where loading takes them. So a tensor that was written to a
wrong place, under a wrong name or with a wrong format shows here. What is not packed must be
equal to the bit after its cast. What is packed may differ by rounding: the error is measured in
steps, a step being the range of the source's group over its codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from qwen3_mlx.checkpoint import TensorInfo, open_checkpoint
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.experts.layout import MATRICES, ExpertFormat, tensor_name
from qwen3_mlx.experts.records import Records, open_records
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx_convert.dialects import plain_tensors
from qwen3_mlx_convert.plan import Job, Plan
from qwen3_mlx_convert.read import Reader
from qwen3_mlx_convert.sources import Packed, Plain, Rows, blocks, part_of, shape_of

__all__ = ["Comparison", "compare"]

#: Root mean square error, in steps: rounding to the nearest code has 0.29, feedback up to 0.7.
_MOST_STEPS = 1.0
#: The floating formats have no even steps: this share of the source's root mean square.
_MOST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared: tensors, the largest error relative to the weights and where, seconds."""

    tensors: int
    worst: float
    worst_name: str
    seconds: float


def compare(plan: Plan, folder: Path, done: Callable[[Job], None] = lambda job: None) -> Comparison:
    """Compare every tensor of `folder` with its source. `done` hears of each.

    Raises:
        CheckpointError: one is missing, or differs by more than its packing explains.
    """
    begun = time.monotonic()
    result = open_checkpoint(folder)
    config = ModelConfig.from_dict(result.config)
    found = plain_tensors(result, config)
    records = open_records(folder, config)
    if records is not None:
        found |= dict(_experts(records))
    count, worst, worst_name = 0, 0.0, ""
    with Reader() as reader, Reader() as other:
        for job in plan.jobs:
            written = found.get(job.name)
            if written is None:
                raise CheckpointError(f"{job.name} is not in what was written to {folder}")
            share = _error(job, written, plan.dtype, reader, other)
            count += 1
            if share > worst:
                worst, worst_name = share, job.name
            done(job)
    return Comparison(count, worst, worst_name, time.monotonic() - begun)


def _experts(records: Records) -> Iterator[tuple[str, Rows]]:
    """The matrices of each expert by their plain names, where a record has them."""
    for layer, known in records.layers.items():
        for expert in range(len(known.checksums)):
            start = expert * known.stride
            for matrix, rows in _matrices(known.file, start, known.format):
                yield tensor_name(layer, matrix, "weight", expert), rows


def _matrices(file: Path, start: int, format: ExpertFormat) -> Iterator[tuple[str, Rows]]:
    """What is in the record that begins at `start`: its parts lie one behind the other."""
    found: dict[tuple[str, str], TensorInfo] = {}
    for part in format.parts:
        info = TensorInfo(file, part.dtype, part.shape, start, part.nbytes)
        found[part.matrix, part.kind] = info
        start += part.nbytes
    for matrix, how in zip(MATRICES, format.hows, strict=True):
        weight, scales = found[matrix, "weight"], found.get((matrix, "scales"))
        if scales is None or how is None:
            yield matrix, Plain(weight)
        else:
            yield matrix, Packed(weight, scales, found.get((matrix, "biases")), how)


def _error(job: Job, written: Rows, dtype: str, reader: Reader, other: Reader) -> float:
    """The error relative to the weights; refused beyond what the packing explains."""
    if shape_of(written) != shape_of(job.source):
        raise _wrong(job, f"has the shape {list(shape_of(written))}")
    error = steps = size = 0.0
    count = 0
    for first, _, rows in blocks(job.source, dtype, reader):
        part = _rows(written, first, rows.shape[0])
        made = mx.concatenate([block for _, _, block in blocks(part, "F32", other)])
        values = np.asarray(rows.astype(mx.float32))
        off = np.asarray(made) - values
        if job.choice is None and off.any():
            raise _wrong(job, f"differs by up to {np.abs(off).max():.3g}")
        if not np.isfinite(off).all():
            raise _wrong(job, "has numbers that are not finite")
        error += float(np.square(off).sum())
        size += float(np.square(values).sum())
        count += off.size
        if job.choice is not None:
            steps += float(np.square(_steps(values, off, job.choice)).sum())
    share = (error / size) ** 0.5 if size else 0.0
    if job.choice is not None and job.choice.mode != "affine" and share > _MOST_SHARE:
        raise _wrong(job, f"is off by {100 * share:.0f} % of its weights")
    if (steps / max(count, 1)) ** 0.5 > _MOST_STEPS:
        raise _wrong(job, f"is off by {(steps / count) ** 0.5:.1f} steps of its quantisation")
    return share


def _steps(values: Any, off: Any, how: Quantization) -> Any:
    """Errors in steps of the affine code; nothing for the floating formats."""
    if how.mode != "affine":
        return np.zeros(1)
    groups = values.reshape(-1, how.group_size)
    step = (groups.max(-1) - groups.min(-1)) / (2**how.bits - 1)
    floor = np.abs(groups).max(-1) * 2.0**-8 + 1e-12  # what bf16 scales lose on equal weights
    return off.reshape(-1, how.group_size) / np.maximum(step, floor)[:, None]


def _rows(source: Rows, first: int, count: int) -> Rows:
    """Some rows of a tensor of an MLX folder."""
    info = part_of(source.info, first, count)
    if isinstance(source, Packed):
        biases = None if source.biases is None else part_of(source.biases, first, count)
        return Packed(info, part_of(source.scales, first, count), biases, source.how)
    return Plain(info)  # nothing else is in an MLX folder


def _wrong(job: Job, what: str) -> CheckpointError:
    return CheckpointError(
        f"{job.name} {what} after writing: the disk, the memory or this program is at fault; "
        "nothing was kept, run the command again, and on another disk if it comes back"
    )
