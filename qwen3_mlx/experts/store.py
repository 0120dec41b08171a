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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from qwen3_mlx.checkpoint import Checkpoint
from qwen3_mlx.errors import CheckpointError, ExpertReadError
from qwen3_mlx.experts.layout import ExpertFormat, Part, layer_format, tensor_name
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.open_files import allow_files

__all__ = ["Destination", "Files", "Identity", "Source", "TensorSource", "Throttle", "identity_of"]


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


#: A descriptor, and the first byte.
_Range: TypeAlias = tuple[int, int]

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


#: Size, time of the last change, inode: whether a file is still the one that was opened.
Identity: TypeAlias = tuple[int, int, int]


class Files:
    """Open files, each with the identity it had when it was opened."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}
        self._opened: dict[int, tuple[Path, Identity]] = {}

    def descriptor(self, path: Path) -> int:
        """A descriptor for reading; the same one each time.

        Raises:
            ExpertReadError: the file cannot be opened.
        """
        if path not in self._descriptors:
            allow_files(len(self._opened) + 1)  # bf16 235B has 118 shards
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise ExpertReadError(
                    f"{path} cannot be opened ({error.strerror}): check the disk, then load "
                    "the model again"
                ) from error
            self._descriptors[path] = fd
            self._opened[fd] = path, identity_of(fd)
        return self._descriptors[path]

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

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Files that are opened here stay open, unless not all of them can be."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every file. May be called twice."""
        self._descriptors.clear()
        while self._opened:
            fd, _ = self._opened.popitem()
            os.close(fd)

    def _path(self, fd: int) -> str:
        return str(self._opened[fd][0]) if fd in self._opened else "a file that is closed"

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
        known = self._opened.get(fd)
        if known is None or known[1] != identity_of(fd):
            raise ExpertReadError(
                f"{self._path(fd)} was changed, replaced or removed while the model was "
                "running: load the model again"
            )


def identity_of(file: int | Path) -> Identity:
    """By which a file, open or not, is known again; one that lost its name counts as changed."""
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns, status.st_ino if status.st_nlink else 0


class TensorSource:
    """Experts as safetensors store them: stacked (MLX folders), or each on its own.

    An expert is one range for each part, three for plain weights and nine for quantised.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: ModelConfig, throttle: Throttle | None = None
    ) -> None:
        self._throttle, self._files = throttle, Files()
        self._formats: dict[int, ExpertFormat] = {}
        self._ranges: dict[int, list[tuple[_Range, ...]]] = {}
        with self._files.kept():
            for layer in filter(config.is_moe, range(config.layers)):
                format = self._formats[layer] = layer_format(config, checkpoint.tensors, layer)
                parts = (
                    self._find(checkpoint, layer, part, config.experts) for part in format.parts
                )
                self._ranges[layer] = list(zip(*parts, strict=True))

    def format(self, layer: int) -> ExpertFormat:
        return self._formats[layer]

    def read(self, layer: int, expert: int, into: Destination) -> int:
        began = time.perf_counter()
        total = 0
        for (fd, offset), buffer in zip(self._ranges[layer][expert], into.parts, strict=True):
            total += self._files.read(fd, [buffer], offset)
        if self._throttle is not None:
            self._throttle.wait(total, began)
        if into.finish is not None:
            into.finish()
        return total

    def close(self) -> None:
        self._files.close()

    def _find(self, checkpoint: Checkpoint, layer: int, part: Part, experts: int) -> list[_Range]:
        """Where this part of each expert begins."""
        stacked = checkpoint.tensors.get(tensor_name(layer, part.matrix, part.kind))
        if stacked is not None:
            fd = self._files.descriptor(stacked.file)
            return [(fd, stacked.offset + expert * part.nbytes) for expert in range(experts)]
        ranges = []
        for expert in range(experts):
            name = tensor_name(layer, part.matrix, part.kind, expert)
            info = checkpoint.tensors[name]
            if info.dtype != part.dtype:
                raise CheckpointError(
                    f"{name} is stored as {info.dtype} and that of expert 0 as {part.dtype}: "
                    "experts of one layer must be alike, convert the folder"
                )
            ranges.append((self._files.descriptor(info.file), info.offset))
        return ranges
