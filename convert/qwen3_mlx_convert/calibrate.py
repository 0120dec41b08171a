"""Packing that looks at what the matrices are used for: the text goes through the model once.

Layer by layer and expert by expert each matrix is read, packed with error feedback for the
inputs that it really has (`feedback`), and written; what is left of it after packing computes
the inputs of the next, so that later matrices can make good what earlier ones lost. In memory
are the activations of the text and one matrix with its moments, whatever the size of the model.

After each layer the activations go to a file beside the weights and a line into the journal,
so an interrupted calibration goes on with the next layer, and ends in the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.checkpoint import Checkpoint
from qwen3_mlx.model.config import Quantization
from qwen3_mlx_convert import durable
from qwen3_mlx_convert.feedback import Moments, code, unpacked, words_of
from qwen3_mlx_convert.forward import Floats, Forward, Inputs, Weights
from qwen3_mlx_convert.plan import Job, Plan
from qwen3_mlx_convert.progress import Meter
from qwen3_mlx_convert.quantize import pack
from qwen3_mlx_convert.read import READABLE
from qwen3_mlx_convert.transaction import Work
from qwen3_mlx_convert.write import TensorWriter, write_rows

__all__ = ["LENGTH", "TOKENS", "calibrated", "write_calibrated"]

#: Tokens of a text that see each other, and of all texts together, unless said otherwise.
LENGTH, TOKENS = 512, 16_384

#: More bits than this lose so little that they are packed as they are.
_MOST_BITS = 6


def calibrated(job: Job, tied: bool) -> bool:
    """Whether a job is done with the text; all others are packed as without."""
    how = job.choice
    if how is None or how.mode != "affine" or how.bits > _MOST_BITS:
        return False
    return job.path.startswith("model.layers.") or (job.path == "lm_head" and not tied)


def write_calibrated(
    plan: Plan, checkpoint: Checkpoint, ids: NDArray[np.int64], writer: TensorWriter, work: Work,
    meter: Meter,
) -> None:  # fmt: skip
    """Pack and write every job that `calibrated` names. `meter` counts them."""
    with Weights(checkpoint) as weights:
        every = {job.name: job for job in plan.jobs}
        task = _Task(plan, {n: j for n, j in every.items() if calibrated(j, weights.config.tied)},
                     every, writer, meter)  # fmt: skip
        forward = Forward(weights, ids)
        _go_on(forward, work, task)
        while forward.layer < weights.config.layers:
            forward.step(task.visit)
            writer.flush()
            _save(forward, work)
        head = task.jobs.get(weights.head)
        if head is not None:
            task.head(head, weights, forward.last())
            writer.flush()
        for path in work.folder.glob("calibration-*.bin"):
            path.unlink()


class _Task:
    """What is done with each matrix that the text comes to."""

    def __init__(
        self, plan: Plan, jobs: dict[str, Job], every: dict[str, Job], writer: TensorWriter,
        meter: Meter,
    ) -> None:  # fmt: skip
        self.jobs = jobs
        self._every, self._writer, self._meter = every, writer, meter
        self._dtype = plan.dtype

    def visit(self, name: str, matrix: Floats, inputs: Inputs) -> Floats:
        """Pack, write, and return what is left; see `forward.Visit`."""
        job = self.jobs.get(name)
        if job is None:
            return _as_packed(matrix, self._every[name].choice)
        assert job.choice is not None
        coded = code(matrix, job.choice, Moments(matrix.shape[1], inputs()), self._stored)
        self._write(job, 0, coded)
        self._meter.add(job)
        return unpacked(coded, job.choice)

    def head(self, job: Job, weights: Weights, inputs: Floats) -> None:
        """The last matrix, which may be the largest, block by block."""
        assert job.choice is not None
        moments = Moments(inputs.shape[1], [inputs])
        for first, rows in weights.blocks(job.name):
            self._write(job, first, code(rows, job.choice, moments, self._stored))
        self._meter.add(job)

    def skip(self, layers: int) -> None:
        """The jobs of the first layers were done by an earlier run."""
        self._meter.resume(sum(
            job.nbytes for job in self.jobs.values()
            if job.path.startswith("model.layers.") and int(job.path.split(".")[2]) < layers
        ))  # fmt: skip

    def _write(self, job: Job, row: int, coded: tuple[Any, Floats, Floats]) -> None:
        assert job.choice is not None
        codes, scales, biases = coded
        stored = READABLE[self._dtype][1]
        parts = {"weight": mx.array(words_of(codes, job.choice.bits)),
                 "scales": mx.array(scales).astype(stored),
                 "biases": mx.array(biases).astype(stored)}  # fmt: skip
        for suffix, rows in parts.items():
            write_rows(self._writer, f"{job.path}.{suffix}", job.first_row + row, rows)

    def _stored(self, values: Floats) -> Floats:
        """Values as the type in which they are stored has them."""
        rounded = mx.array(values).astype(READABLE[self._dtype][1])
        return np.asarray(rounded.astype(mx.float32))


def _as_packed(matrix: Floats, how: Quantization | None) -> Floats:
    """What is left of a matrix that is packed without the text."""
    if how is None:
        return matrix
    words, scales, *biases = pack(mx.array(matrix), how)
    values = mx.dequantize(
        words, scales, biases[0] if biases else None,
        group_size=how.group_size, bits=how.bits, mode=how.mode,
    )  # fmt: skip
    return np.asarray(values)


def _go_on(forward: Forward, work: Work, task: _Task) -> None:
    """Take up where an earlier run stopped, if its activations are whole."""
    layer = int(work.facts.get("layer", 0))
    path = _file(work, layer)
    if layer and path.is_file() and path.stat().st_size == forward.x.nbytes:
        forward.x = np.fromfile(path, np.float32).reshape(forward.x.shape)
        forward.layer = layer
        task.skip(layer)


def _save(forward: Forward, work: Work) -> None:
    path = _file(work, forward.layer)
    with path.open("wb") as file:
        durable.write_at(file.fileno(), memoryview(cast(Any, forward.x)), None)
        durable.flush(file.fileno(), "calibration")
    work.note(layer=forward.layer)
    before = _file(work, forward.layer - 1)
    if before.exists():
        os.unlink(before)


def _file(work: Work, layer: int) -> Path:
    return work.folder / f"calibration-{layer}.bin"
