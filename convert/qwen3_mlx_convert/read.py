"""Tensors out of safetensors files a block of rows at a time.

`mx.load` reads a tensor whole. Here only the bytes that are asked for are read, so the
largest matrix of a model never has to fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from qwen3_mlx.checkpoint import ITEM_BYTES, TensorInfo
from qwen3_mlx.errors import CheckpointError, Qwen3Error

__all__ = ["BLOCK_BYTES", "READABLE", "Reader", "bounded_buffers"]

#: The most that is read, and quantised, in one step.
BLOCK_BYTES = 64 << 20

#: safetensors dtype -> (how numpy reads the bytes, what mlx then sees in them)
READABLE: dict[str, tuple[Any, mx.Dtype]] = {
    "F32": (np.float32, mx.float32),
    "F16": (np.float16, mx.float16),
    "BF16": (np.uint16, mx.bfloat16),
    "U8": (np.uint8, mx.uint8),
    "F8_E4M3": (np.uint8, mx.uint8),
    "I32": (np.uint32, mx.uint32),
    "U32": (np.uint32, mx.uint32),
}


@contextmanager
def bounded_buffers() -> Iterator[None]:
    """Let MLX keep no more freed memory than one block, and again what it did, afterwards.

    Metal's allocator would keep nearly all that a Mac has; blocks are of like sizes and need
    one of each.
    """
    before = mx.set_cache_limit(BLOCK_BYTES)
    try:
        yield
    finally:
        mx.set_cache_limit(before)


class Reader:
    """Reads blocks of rows; keeps the last file open. Close it, or use `with`."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: FileIO | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open, if any."""
        if self._file is not None:
            self._file.close()
        self._path = self._file = None

    def blocks(self, tensor: TensorInfo, dtype: str) -> Iterator[tuple[int, int, mx.array]]:
        """The tensor from its first row to its last, as (first row, source bytes, rows).

        Rows are of shape (rows, …) and of `dtype`, a name of READABLE, whatever the file holds.

        Raises:
            CheckpointError: the file ends early, as it does when it changes meanwhile.
            Qwen3Error: it cannot be read, as when its disk is gone.
        """
        for first, nbytes, rows in self.raw_blocks(tensor):
            yield first, nbytes, self.cast(rows, dtype)

    def raw_blocks(
        self, tensor: TensorInfo, multiple: int = 1
    ) -> Iterator[tuple[int, int, mx.array]]:
        """As `blocks`, in the stored type; each but the last has a multiple of so many rows."""
        rows, row_shape = tensor.shape[0], tensor.shape[1:]
        row_bytes = prod(row_shape) * ITEM_BYTES[tensor.dtype]
        step = max(1, BLOCK_BYTES // max(1, row_bytes) // multiple) * multiple
        for first in range(0, rows, step):
            count = min(step, rows - first)
            shape = (count, *row_shape)
            yield (
                first, count * row_bytes,
                self._array(tensor, tensor.offset + first * row_bytes, shape),
            )  # fmt: skip

    def whole(self, tensor: TensorInfo) -> mx.array:
        """A small tensor in one piece, in the stored type."""
        return self._array(tensor, tensor.offset, tensor.shape)

    def strips(self, tensor: TensorInfo, start: int, end: int) -> Iterator[tuple[int, mx.array]]:
        """The columns from `start` to `end`, some at a time, as (first column, (rows, columns))."""
        table = self.whole(tensor)
        step = max(1, BLOCK_BYTES // (8 * tensor.shape[0] * ITEM_BYTES[tensor.dtype]))
        for first in range(start, end, step):
            yield first, table[:, first : min(end, first + step)]

    def cast(self, rows: mx.array, dtype: str) -> mx.array:
        """Rows in a type of READABLE."""
        return rows.astype(READABLE[dtype][1])

    def _array(self, tensor: TensorInfo, offset: int, shape: tuple[int, ...]) -> mx.array:
        stored, seen = READABLE[tensor.dtype]
        values = np.empty(shape, dtype=stored)
        self._fill(tensor.file, offset, values)
        array = mx.array(values)
        return array.view(mx.bfloat16) if seen == mx.bfloat16 else array

    def _fill(self, path: Path, offset: int, values: Any) -> None:
        try:
            self._read(path, offset, values)
        except OSError as error:
            raise Qwen3Error(
                f"{path} cannot be read ({error.strerror or error}): connect its disk, or see "
                "who may read it, and run the same command again"
            ) from error

    def _read(self, path: Path, offset: int, values: Any) -> None:
        file = self._open(path)
        file.seek(offset)
        view = memoryview(values).cast("B")
        done = 0
        while done < len(view):
            got = file.readinto(view[done:])
            if not got:
                raise CheckpointError(
                    f"{path} ended at byte {offset + done:,} while it was read: it changed "
                    "meanwhile, download it again"
                )
            done += got

    def _open(self, path: Path) -> FileIO:
        if self._file is None or path != self._path:
            self.close()
            self._path, self._file = path, FileIO(path)
        return self._file
