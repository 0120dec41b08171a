"""The conversion itself: plan, then one block of rows after another from disk to disk."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx.checkpoint import Checkpoint, open_checkpoint, read_config
from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx.version import __version__
from qwen3_mlx_convert.compare import Comparison, compare
from qwen3_mlx_convert.dialects import plain_config
from qwen3_mlx_convert.folder import check_side_files, target_config, write_side_files
from qwen3_mlx_convert.plan import Job, Output, Plan, make_plan
from qwen3_mlx_convert.progress import Listener, Meter
from qwen3_mlx_convert.quantize import PARTS, Recipe, pack
from qwen3_mlx_convert.read import BLOCK_BYTES, Reader, bounded_buffers
from qwen3_mlx_convert.records import RecordWriter
from qwen3_mlx_convert.sources import blocks, weights_in
from qwen3_mlx_convert.texts import read_text, token_rows
from qwen3_mlx_convert.transaction import Work, journal_of, refuse_existing, transaction
from qwen3_mlx_convert.verify import write_hashes
from qwen3_mlx_convert.write import ShardWriter, write_rows

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LAYOUTS", "ConvertReport", "Preview", "convert", "existing", "forecast", "preview"]

#: How experts may be stored; see `convert`.
LAYOUTS = ("stacked", "records")

#: config.json, tokenizer and card: room beside the weights that is asked for up front.
_SIDE_BYTES = 32 << 20

#: Python, numpy and mlx; and how often a block is held: as read, as mlx's, packed, in between.
_BASE_BYTES = 110_000_000
_COPIES = 4

#: What is done is put on the disk, and into the journal, this often.
CHECKPOINT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What was written. Bytes are of the weights; the folder has a few MB beside them.

    `seconds` do not count those of the `comparison`, which is there if it was asked for.
    """

    target: Path
    params: int
    source_bytes: int
    target_bytes: int
    files: int
    seconds: float
    comparison: Comparison | None = None

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
    mode: str = "affine",
    spend: float = 0.0,
    calibrate: str | None = None,
    layout: str = "stacked",
    force: bool = False,
    verify: bool = False,
    progress: Listener | None = None,
) -> ConvertReport:
    """Turn a checkpoint of any kind that `sources` knows into an MLX folder.

    `bits` is 4 or 8 (2, 3, 5 and 6 work too), None stores bf16; `mode` is affine or one of
    mlx's floating formats; `spend` is the share of bytes that may be added for the matrices
    that matter most (see `Recipe`). Scales and norms keep the type of the source, and with it
    the model computes. Memory holds one block of at most 64 MB and its packed form, whatever
    the size of the model. `target` appears whole, or not at all; after an interruption of any
    kind the same call goes on where it stopped.
    `calibrate` is a text file, or "builtin": matrices are then packed with error feedback for
    what the model makes of that text, which takes longer, and memory for the text.
    `layout` says how experts are stored: "stacked", as mlx-lm has them, or "records", which
    cost less to read from disk and load only here. `force` allows to pack an MLX folder again
    with fewer bits than it has. `verify` reads all of it again before `target` gets its name.

    Raises:
        ModelNotFoundError, CheckpointError, UnsupportedModelError: about `source`.
        OutputExistsError: `target` is there already; it is not touched.
        OptionError: no such bits, group size, mode or text.
        Qwen3Error: the disk is full or cannot be written, or another process writes `target`.
    """
    begun = time.monotonic()
    if layout not in LAYOUTS:
        raise OptionError(f"layout is {layout!r}, and must be one of {', '.join(LAYOUTS)}")
    recipe = Recipe(bits, group_size, mode, spend)
    checkpoint, config, plan = _planned(source, target, recipe, force)
    ids = None if calibrate is None else _ids(checkpoint, config, recipe, calibrate)
    conversion = _Conversion(checkpoint, config, recipe, plan, ids, layout, verify)
    comparison = None
    with transaction(target, conversion.fingerprint(), conversion.needed_bytes()) as work:
        if not work.committed:
            with bounded_buffers():
                comparison = conversion.run(work, progress)
    return ConvertReport(
        target=target,
        params=plan.params,
        source_bytes=plan.source_bytes,
        target_bytes=plan.target_bytes,
        files=len([*target.glob("*.safetensors"), *target.glob("experts/*.bin")]),
        seconds=time.monotonic() - begun - (comparison.seconds if comparison else 0),
        comparison=comparison,
    )


@dataclass(frozen=True, slots=True)
class _Conversion:
    """All that is known before the first weight is read."""

    checkpoint: Checkpoint
    config: ModelConfig
    recipe: Recipe
    plan: Plan
    ids: NDArray[np.int64] | None  # of the text to calibrate with
    layout: str
    verify: bool

    def needed_bytes(self) -> int:
        """Room that the disk must have."""
        activations = 0  # of the text: the last ones and the new ones
        if self.ids is not None:
            activations = 8 * self.ids.size * self.config.hidden_size
        return self.plan.target_bytes + _SIDE_BYTES + activations

    def fingerprint(self) -> str:
        """What must be the same for a second run to go on with the work of the first."""
        files = sorted({info.file for info in self.checkpoint.tensors.values()})
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        plan, config = self.plan, self.checkpoint.config
        parts = (__version__, self.recipe, self.layout, plan.jobs, plan.outputs, states, config)
        text = b"" if self.ids is None else repr(self.ids.shape).encode() + self.ids.tobytes()
        return hashlib.sha256(repr(parts).encode() + text).hexdigest()

    def run(self, work: Work, progress: Listener | None) -> Comparison | None:
        """Fill the folder of `work`: weights, the files beside them, comparison, hashes."""
        plan, folder = self.plan, work.folder
        written = target_config(self.checkpoint.config, self.config, plan.block, plan.dtype)
        with _writer(folder, plan, written, self.layout) as writer:
            self._write(writer, work, Meter(plan.source_bytes, progress))
            writer.write_index(plan.params)
        how = self.recipe.words + ("" if self.ids is None else ", calibrated on text")
        write_side_files(folder, self.checkpoint, written, self.recipe, plan.target_bytes,
                         self.layout, how)  # fmt: skip
        meter = Meter(plan.source_bytes, progress, "comparing")
        comparison = compare(plan, folder, meter.add) if self.verify else None
        write_hashes(folder, writer.digests)
        return comparison

    def _write(self, writer: ShardWriter | RecordWriter, work: Work, meter: Meter) -> None:
        """First what needs no text, then the rest with it."""
        if self.ids is None:
            _write_weights(self.plan, self.plan.jobs, writer, work, meter)
            return
        from qwen3_mlx_convert.calibrate import calibrated, write_calibrated

        tied = not any(job.path == "lm_head" for job in self.plan.jobs)
        jobs = [job for job in self.plan.jobs if not calibrated(job, tied)]
        if not writer.reused:
            work.facts.pop("layer", None)
        _write_weights(self.plan, jobs, writer, work, meter)
        write_calibrated(self.plan, self.checkpoint, self.ids, writer, work, meter)


def _ids(
    checkpoint: Checkpoint, config: ModelConfig, recipe: Recipe, calibrate: str
) -> NDArray[np.int64]:
    """The text to calibrate with, in the source's tokens."""
    from qwen3_mlx_convert.calibrate import LENGTH, TOKENS

    if recipe.bits is None or recipe.mode != "affine":
        raise OptionError(f"--calibrate has no meaning with {recipe.name}: leave one of them out")
    text = read_text(calibrate)
    return token_rows(checkpoint.path, config.vocab_size, text, LENGTH, TOKENS)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a conversion would do. Bytes are of the weights; `outputs` are (name, dtype, shape)."""

    outputs: tuple[Output, ...]
    params: int
    source_bytes: int
    target_bytes: int
    free_bytes: int
    peak_bytes: int
    resumable: bool

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it."""
        return self.target_bytes + _SIDE_BYTES <= self.free_bytes


def preview(
    source: Path, target: Path, recipe: Recipe, force: bool = False, calibrate: bool = False
) -> Preview:
    """The plan of `convert` with the same recipe; nothing is written, no weight is read."""
    _, config, plan = _planned(source, target, recipe, force)
    return forecast(config, plan, target, calibrate)


def forecast(config: ModelConfig, plan: Plan, target: Path, calibrate: bool) -> Preview:
    """What carrying out a plan takes and makes."""
    largest = max(job.nbytes for job in plan.jobs)
    return Preview(
        outputs=plan.outputs,
        params=plan.params,
        source_bytes=plan.source_bytes,
        target_bytes=plan.target_bytes,
        free_bytes=shutil.disk_usage(existing(target.absolute().parent)).free,
        peak_bytes=_BASE_BYTES
        + _COPIES * min(largest, BLOCK_BYTES)
        + (_calibration_bytes(config, plan) if calibrate else 0),
        resumable=journal_of(target).exists(),
    )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _calibration_bytes(config: ModelConfig, plan: Plan) -> int:
    """Activations of the text, the largest matrix of a layer in float32, and its moments."""
    from qwen3_mlx_convert.calibrate import TOKENS

    heads = (config.heads + config.kv_heads) * config.head_dim
    matrix = max(weights_in(job.source) for job in plan.jobs if ".layers." in job.name)
    return 4 * TOKENS * (5 * config.hidden_size + 3 * heads) + 24 * matrix + (1 << 29)


def _planned(
    source: Path, target: Path, recipe: Recipe, force: bool
) -> tuple[Checkpoint, ModelConfig, Plan]:
    if not journal_of(target).exists():
        refuse_existing(target)
    plain_config(read_config(source))  # another family is told first
    checkpoint = open_checkpoint(source)
    check_side_files(checkpoint.path)
    config = plain_config(checkpoint.config)
    return checkpoint, config, make_plan(checkpoint, config, recipe, force)


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
    jobs: Sequence[Job],
    writer: ShardWriter | RecordWriter,
    work: Work,
    meter: Meter,
) -> None:
    """The jobs that are not done yet, with a checkpoint in the journal now and then."""
    saved = time.monotonic()
    first = int(work.facts.get("done", 0)) if writer.reused else 0
    meter.resume(sum(job.nbytes for job in jobs[:first]))
    with Reader() as reader:
        for number, job in enumerate(jobs[first:], start=first + 1):
            _write_tensor(job, plan.dtype, reader, writer)
            if time.monotonic() - saved >= CHECKPOINT_SECONDS or number == len(jobs):
                writer.flush()
                work.note(done=number)
                saved = time.monotonic()
            meter.add(job)


def _write_tensor(job: Job, dtype: str, reader: Reader, writer: ShardWriter | RecordWriter) -> None:
    """One tensor, block by block."""
    for first, _, rows in blocks(job.source, dtype, reader):
        row = job.first_row + first
        if job.choice is None:
            write_rows(writer, f"{job.path}.weight", row, rows)
        else:
            _write_packed(writer, job, row, rows, job.choice)


def _write_packed(
    writer: ShardWriter | RecordWriter, job: Job, row: int, rows: mx.array, choice: Quantization
) -> None:
    for suffix, part in zip(PARTS, pack(rows, choice), strict=False):
        write_rows(writer, f"{job.path}.{suffix}", row, part)
