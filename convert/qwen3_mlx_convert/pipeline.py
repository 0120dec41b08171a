"""The conversion itself: plan, then one block of rows after another from disk to disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qwen3_mlx.checkpoint import open_checkpoint, read_config
from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx_convert.folder import target_config, write_side_files
from qwen3_mlx_convert.plan import Job, Plan, make_plan
from qwen3_mlx_convert.quantize import Recipe, pack
from qwen3_mlx_convert.records import RecordWriter
from qwen3_mlx_convert.write import ShardWriter, refuse_existing, staged

if TYPE_CHECKING:
    import mlx.core as mx

    from qwen3_mlx_convert.read import Reader

__all__ = ["LAYOUTS", "ConvertProgress", "ConvertReport", "convert"]

#: How experts may be stored; see `convert`.
LAYOUTS = ("stacked", "records")

#: config.json, tokenizer and card: room beside the weights that is asked for up front.
_SIDE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class ConvertProgress:
    """How far a conversion is: source bytes done and in all, and the seconds so far."""

    done_bytes: int
    total_bytes: int
    tensor: str
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Speed so far, in source bytes."""
        return self.done_bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """The rest at this speed."""
        speed = self.bytes_per_second
        return (self.total_bytes - self.done_bytes) / speed if speed else 0.0


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What was written. Bytes are of the weights; the folder has a few MB beside them."""

    target: Path
    params: int
    source_bytes: int
    target_bytes: int
    files: int
    seconds: float

    @property
    def bits_per_weight(self) -> float:
        """Everything counted: packed weights, scales, biases, norms."""
        return 8 * self.target_bytes / self.params


def convert(
    source: Path,
    target: Path,
    *,
    bits: int | None,
    group_size: int = 64,
    layout: str = "stacked",
    progress: Callable[[ConvertProgress], None] | None = None,
) -> ConvertReport:
    """Turn a Hugging Face checkpoint into an MLX folder.

    `bits` is 4 or 8 (2, 3, 5 and 6 work too), None stores bf16. Scales and norms keep the type
    of the source, and with it the model computes. Memory holds one block of at most 64 MB
    and its packed form, whatever the size of the model. `target` appears whole, or not at all.
    `layout` says how experts are stored: "stacked", as mlx-lm has them, or "records", which
    cost less to read from disk and load only here.

    Raises:
        ModelNotFoundError, CheckpointError, UnsupportedModelError: about `source`.
        OutputExistsError: `target` is there already; it is not touched.
        OptionError: no such bits or group size.
        Qwen3Error: the disk is full or cannot be written.
    """
    begun = time.monotonic()
    if layout not in LAYOUTS:
        raise OptionError(f"layout is {layout!r}, and must be one of {', '.join(LAYOUTS)}")
    recipe = Recipe(bits, group_size)
    refuse_existing(target)
    config = ModelConfig.from_dict(read_config(source))  # another family is told first
    checkpoint = open_checkpoint(source)
    plan = make_plan(checkpoint, config, recipe)
    with staged(target, plan.target_bytes + _SIDE_BYTES) as folder:
        written = target_config(checkpoint.config, config, plan.block, plan.dtype)
        with _writer(folder, plan, written, layout) as writer:
            _write_weights(plan, writer, progress, begun)
            writer.write_index(plan.params)
        write_side_files(folder, checkpoint, written, recipe, plan.target_bytes, layout)
    return ConvertReport(
        target=target,
        params=plan.params,
        source_bytes=plan.source_bytes,
        target_bytes=plan.target_bytes,
        files=writer.count,
        seconds=time.monotonic() - begun,
    )


def _writer(
    folder: Path, plan: Plan, config: dict[str, Any], layout: str
) -> ShardWriter | RecordWriter:
    """Of records where there are experts and they are wanted."""
    target = ModelConfig.from_dict(config)
    if layout == "records" and target.experts:
        return RecordWriter(folder, plan.outputs, target)
    return ShardWriter(folder, plan.outputs)


def _write_weights(
    plan: Plan,
    writer: ShardWriter | RecordWriter,
    progress: Callable[[ConvertProgress], None] | None,
    begun: float,
) -> None:
    from qwen3_mlx_convert.read import Reader

    done = 0
    with Reader() as reader:
        for job in plan.jobs:
            done = _write_tensor(job, plan.dtype, reader, writer, done)
            if progress is not None:
                seconds = time.monotonic() - begun
                progress(ConvertProgress(done, plan.source_bytes, job.name, seconds))


def _write_tensor(
    job: Job, dtype: str, reader: Reader, writer: ShardWriter | RecordWriter, done: int
) -> int:
    """One tensor, block by block; the count of source bytes with it."""
    for first, nbytes, rows in reader.blocks(job.source, dtype):
        row = job.first_row + first
        if job.choice is None:
            _write_rows(writer, f"{job.path}.weight", row, rows)
        else:
            _write_packed(writer, job, row, rows, job.choice)
        done += nbytes
    return done


def _write_packed(
    writer: ShardWriter | RecordWriter, job: Job, row: int, rows: mx.array, choice: Quantization
) -> None:
    for suffix, part in zip(("weight", "scales", "biases"), pack(rows, choice), strict=True):
        _write_rows(writer, f"{job.path}.{suffix}", row, part)


def _write_rows(writer: ShardWriter | RecordWriter, name: str, row: int, rows: mx.array) -> None:
    """Rows of a matrix, packed or plain, to their place from row `row` on."""
    import mlx.core as mx

    row_bytes = prod(rows.shape[1:]) * rows.itemsize
    if rows.dtype == mx.bfloat16:  # bf16 has no buffer format; its bits do
        rows = rows.view(mx.uint16)
    writer.write(name, row * row_bytes, memoryview(cast(Any, rows)))
