"""The reader: an expert's bytes from disk, straight into the memory of its slot.

`os.preadv` scatters one contiguous range of a file over several buffers, so an expert goes
from the page cache into the rows of its slot tensors with one copy, made by the kernel, and
without any Python object that holds its bytes.

A fault is an ExpertReadError and never a wrong number: short reads are finished or refused,
and a file that changed since it was opened is refused too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from qwen3_mlx.checkpoint import Checkpoint
from qwen3_mlx.errors import CheckpointError, ExpertReadError
from qwen3_mlx.experts.layout import ExpertFormat, expert_names, layer_format
from qwen3_mlx.model.config import ModelConfig

__all__ = ["Destination", "Files", "Source", "TensorSource", "Throttle"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an expert's bytes go.

    `tensors` has a buffer for each slot tensor, `parts` one for each part (slices of the
    former, in the same order); `finish` is called when all of them are filled.
    """

    tensors: Sequence[memoryview]
    parts: Sequence[memoryview]
    finish: Callable[[], None] | None = None


class Source(Protocol):
    """A model's experts on disk. `read` may be called from any thread."""

    def format(self, layer: int) -> ExpertFormat:
        """What an expert of this layer is made of."""

    def read(self, layer: int, expert: int, into: Destination) -> int:
        """Fill `into` with one expert; the bytes that were asked of the disk."""

    def close(self) -> None:
        """Let go of the files. May be called twice."""


#: By so much a sleep may be longer than asked, seconds; the rest is spent looking at the clock.
_OVERSLEEP = 1e-4


@dataclass(slots=True)
class Throttle:
    """Makes reads take as long as on a disk of `bytes_per_second`, one after another."""

    bytes_per_second: float
    _free: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, nbytes: int, began: float) -> None:
        """Return when a read of `nbytes` that began then would be done."""
        with self._lock:
            self._free = max(began, self._free) + nbytes / self.bytes_per_second
            until = self._free
        while (left := until - time.perf_counter()) > 0:
            time.sleep(left - _OVERSLEEP if left > 2 * _OVERSLEEP else 0)


@dataclass(frozen=True, slots=True)
class _Identity:
    """What tells whether an open file is still the one that was opened."""

    size: int
    changed: int
    inode: int


class Files:
    """Open files by path, each with the identity it had when it was opened."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[int, _Identity]] = {}
        self._paths: dict[int, Path] = {}
        self._closed = False

    def descriptor(self, path: Path) -> int:
        """A descriptor for reading; the same one each time.

        Raises:
            ExpertReadError: the file cannot be opened.
        """
        if path not in self._open:
            if self._closed:
                raise ExpertReadError("this model is closed: load it again")
            try:
                fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except OSError as error:
                raise ExpertReadError(
                    f"{path} cannot be opened ({error.strerror}): check the disk, then load "
                    "the model again"
                ) from error
            self._open[path] = fd, _identity(fd)
            self._paths[fd] = path
        return self._open[path][0]

    def read(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Fill the buffers from `offset` on; the number of bytes.

        A descriptor whose file was closed may be another file's by now; that is refused too.

        Raises:
            ExpertReadError: the file ends early, cannot be read, or has changed.
        """
        wanted = sum(map(len, buffers))
        try:
            got = os.preadv(fd, buffers, offset)
            if got != wanted:
                self._finish(fd, buffers, offset, got)
            self._check_unchanged(fd)
        except OSError as error:
            raise ExpertReadError(
                f"reading {wanted:,} bytes at {offset:,} of {self._path(fd)} failed "
                f"({error.strerror or error}): check that the disk is connected and healthy, "
                "then load the model again"
            ) from error
        return wanted

    def close(self) -> None:
        """Close every file. May be called twice."""
        self._closed = True
        while self._paths:
            fd, _ = self._paths.popitem()
            os.close(fd)
        self._open.clear()

    def _path(self, fd: int) -> str:
        return str(self._paths.get(fd, "a file that is closed"))

    def _finish(self, fd: int, buffers: Sequence[memoryview], offset: int, done: int) -> None:
        """Read what a short read has left."""
        start = 0
        for buffer in buffers:
            while (skip := done - start) < len(buffer):
                got = os.preadv(fd, [buffer[skip:]], offset + done)
                if got == 0:
                    raise ExpertReadError(
                        f"{self._path(fd)} ended at byte {offset + done:,} where an expert "
                        "should be: the file was cut short, get it again"
                    )
                done += got
            start += len(buffer)

    def _check_unchanged(self, fd: int) -> None:
        path = self._paths.get(fd)
        if path is None or self._open[path][1] != _identity(fd):
            raise ExpertReadError(
                f"{self._path(fd)} was changed, replaced or removed while the model was "
                "running: load the model again"
            )


def _identity(fd: int) -> _Identity:
    """Size, time of the last change and inode; a file without a name counts as changed."""
    status = os.fstat(fd)
    return _Identity(status.st_size, status.st_mtime_ns, status.st_ino if status.st_nlink else 0)


class TensorSource:
    """Experts as safetensors store them: stacked (MLX folders), or each on its own.

    An expert is one range for each part, three for plain weights and nine for quantised.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: ModelConfig, throttle: Throttle | None = None
    ) -> None:
        self._throttle, self._files = throttle, Files()
        self._formats: dict[int, ExpertFormat] = {}
        self._ranges: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for layer in filter(config.is_moe, range(config.layers)):
            format = layer_format(config, checkpoint.tensors, layer)
            self._formats[layer] = format
            for expert in range(config.experts):
                self._ranges[layer, expert] = [
                    self._range(checkpoint, expert_names(part, layer), part.nbytes, expert)
                    or self._single(checkpoint, expert_names(part, layer, expert))
                    for part in format.parts
                ]

    def format(self, layer: int) -> ExpertFormat:
        return self._formats[layer]

    def read(self, layer: int, expert: int, into: Destination) -> int:
        began = time.perf_counter()
        total = 0
        for (fd, offset), buffer in zip(self._ranges[layer, expert], into.parts, strict=True):
            total += self._files.read(fd, [buffer], offset)
        if self._throttle is not None:
            self._throttle.wait(total, began)
        if into.finish is not None:
            into.finish()
        return total

    def close(self) -> None:
        self._files.close()

    def _range(
        self, checkpoint: Checkpoint, name: str, nbytes: int, expert: int
    ) -> tuple[int, int] | None:
        info = checkpoint.tensors.get(name)
        if info is None:
            return None
        return self._files.descriptor(info.file), info.offset + expert * nbytes

    def _single(self, checkpoint: Checkpoint, name: str) -> tuple[int, int]:
        info = checkpoint.tensors.get(name)
        if info is None:
            raise CheckpointError(f"the checkpoint has no tensor {name}: download it again")
        return self._files.descriptor(info.file), info.offset
