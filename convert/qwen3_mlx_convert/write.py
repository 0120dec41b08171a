"""Safetensors files written in any order, and again from any point.

The size and place of every tensor are planned first, so the header goes out first and each
block of rows is written where it belongs as soon as it is ready; nothing is collected. The
same rows written twice are the same bytes, so work that is done again after a kill does no harm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, cast

from qwen3_mlx_convert import durable
from qwen3_mlx_convert.plan import Output

if TYPE_CHECKING:
    import mlx.core as mx

__all__ = [
    "SHARD_BYTES",
    "ShardWriter",
    "TensorWriter",
    "stacked_files",
    "stacked_index",
    "write_rows",
]

#: As many bytes as the hub and mlx-lm put into one file.
SHARD_BYTES = 5 << 30


class TensorWriter(Protocol):
    """Where packed tensors go: a `ShardWriter`, or one of records."""

    def write(self, name: str, offset: int, data: memoryview) -> None: ...

    def flush(self) -> None: ...


def write_rows(writer: TensorWriter, name: str, row: int, rows: mx.array) -> None:
    """Rows of a matrix, packed or plain, to their place from row `row` on."""
    import mlx.core as mx

    row_bytes = prod(rows.shape[1:]) * rows.itemsize
    if rows.dtype == mx.bfloat16:  # bf16 has no buffer format; its bits do
        rows = rows.view(mx.uint16)
    writer.write(name, row * row_bytes, memoryview(cast(Any, rows)))


class ShardWriter:
    """Writes planned tensors into `folder` as one or more safetensors files with an index.

    Use it as a context manager. `reused` says whether all files were there already, at full
    size and with the same headers; `flush` puts what was written since the last one on the disk.
    """

    def __init__(self, folder: Path, outputs: Sequence[Output]) -> None:
        self._folder = folder
        self._shards = _split(outputs)
        self._files = ExitStack()
        self._starts: dict[str, tuple[int, int]] = {}  # name -> (shard, offset)
        self._descriptors: list[int] = []
        self._dirty: set[int] = set()
        self.reused = True
        self.digests: dict[str, str] = {}  # none: files are not read again here

    def __enter__(self) -> ShardWriter:
        try:
            for number, shard in enumerate(self._shards):
                self._open(number, shard)
            durable.flush_folder(self._folder, "folder")
        except BaseException:
            self._files.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._files:
            if kind is None:
                self.flush()

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self._shards)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Put bytes into the tensor `name`, `offset` bytes from its beginning."""
        number, start = self._starts[name]
        self._dirty.add(number)
        durable.write_at(self._descriptors[number], data, start + offset)

    def flush(self) -> None:
        """Return when everything written so far is on the disk."""
        for number in sorted(self._dirty):
            durable.flush(self._descriptors[number], self._name(number))
        self._dirty.clear()

    def write_index(self, params: int) -> None:
        """model.safetensors.index.json, which says where each tensor is."""
        index = _index(self._shards, params)
        durable.write_json(self._folder / "model.safetensors.index.json", index)

    def _name(self, number: int) -> str:
        return _shard_name(number, len(self._shards))

    def _open(self, number: int, shard: Sequence[Output]) -> None:
        """Open a file of the right size and header, or make it."""
        header = _header(shard)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / self._name(number), flags, 0o666)
        self._files.callback(os.close, descriptor)
        self._descriptors.append(descriptor)
        position = len(header)
        for output in shard:
            self._starts[output.name] = (number, position)
            position += output.nbytes
        found = os.pread(descriptor, len(header), 0)
        if found == header and os.fstat(descriptor).st_size == position:
            return
        self.reused = False
        os.ftruncate(descriptor, 0)
        durable.write_at(descriptor, header, 0)
        os.ftruncate(descriptor, position)
        self._dirty.add(number)


def stacked_files(outputs: Sequence[Output]) -> list[tuple[str, bytes]]:
    """The files of a `ShardWriter` that is given these outputs: names and headers."""
    shards = _split(outputs)
    return [
        (_shard_name(number, len(shards)), _header(shard)) for number, shard in enumerate(shards)
    ]


def stacked_index(outputs: Sequence[Output], params: int) -> str:
    """The text of the index that goes with `stacked_files`."""
    return durable.json_text(_index(_split(outputs), params))


def _shard_name(number: int, count: int) -> str:
    if count == 1:
        return "model.safetensors"
    return f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _index(shards: Sequence[Sequence[Output]], params: int) -> dict[str, Any]:
    weight_map = {
        output.name: _shard_name(number, len(shards))
        for number, shard in enumerate(shards)
        for output in shard
    }
    size = sum(output.nbytes for shard in shards for output in shard)
    return {
        "metadata": {"total_size": size, "total_parameters": params},
        "weight_map": dict(sorted(weight_map.items())),
    }


def _header(shard: Sequence[Output]) -> bytes:
    """Length and JSON, filled up with spaces so that the data starts on 8 bytes."""
    entries: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for output in shard:
        entries[output.name] = {
            "dtype": output.dtype,
            "shape": list(output.shape),
            "data_offsets": [position, position + output.nbytes],
        }
        position += output.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _split(outputs: Sequence[Output]) -> list[list[Output]]:
    """Files of at most SHARD_BYTES; a larger tensor has a file of its own."""
    shards: list[list[Output]] = [[]]
    size = 0
    for output in outputs:
        if shards[-1] and size + output.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(output)
        size += output.nbytes
    return shards
