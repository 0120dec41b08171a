"""A folder that appears whole or not at all, and safetensors files written in any order.

The size and place of every tensor are planned first, so the header goes out first and each
block of rows is written where it belongs as soon as it is ready; nothing is collected.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import OutputExistsError, Qwen3Error
from qwen3_mlx_convert.plan import Output

__all__ = [
    "SHARD_BYTES",
    "ShardWriter",
    "refuse_existing",
    "stacked_files",
    "stacked_index",
    "staged",
    "write_json",
]

#: As many bytes as the hub and mlx-lm put into one file.
SHARD_BYTES = 5 << 30


@contextmanager
def staged(target: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it when the block ends well.

    On any error, Ctrl-C included, the temporary folder is removed and nothing else remains.

    Raises:
        OutputExistsError: `target` is there already.
        Qwen3Error: the disk has fewer than `needed_bytes` free, or cannot be written.
    """
    target = Path(os.path.abspath(target))
    refuse_existing(target)
    made = _make_parents(target.parent)
    temporary: Path | None = None
    try:
        _check_space(target.parent, needed_bytes)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        _sync(temporary)
        refuse_existing(target)
        os.rename(temporary, target)
        _sync(target.parent)
    except BaseException as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            folder.rmdir()
        if isinstance(error, OSError):
            raise Qwen3Error(
                f"{target} could not be written ({error.strerror or error}); what was begun is "
                "removed: free space or choose another folder with -o"
            ) from error
        raise


class ShardWriter:
    """Writes planned tensors into `folder` as one or more safetensors files with an index.

    Use it as a context manager; leaving it without an error flushes every file to the disk.
    """

    def __init__(self, folder: Path, outputs: Sequence[Output]) -> None:
        self._folder = folder
        self._shards = _split(outputs)
        self._files = ExitStack()
        self._descriptors: list[int] = []
        self._starts: dict[str, tuple[int, int]] = {}  # name -> (descriptor, offset)

    def __enter__(self) -> ShardWriter:
        try:
            for number, shard in enumerate(self._shards):
                self._begin(self._name(number), shard)
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
                for descriptor in self._descriptors:
                    os.fsync(descriptor)

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self._shards)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Put bytes into the tensor `name`, `offset` bytes from its beginning."""
        descriptor, start = self._starts[name]
        data = data.cast("B")
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], start + offset + done)

    def write_index(self, params: int) -> None:
        """model.safetensors.index.json, which says where each tensor is."""
        write_json(self._folder / "model.safetensors.index.json", _index(self._shards, params))

    def _name(self, number: int) -> str:
        return _shard_name(number, len(self._shards))

    def _begin(self, name: str, shard: Sequence[Output]) -> None:
        """Create a file at its full size, with its header."""
        header = _header(shard)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(self._folder / name, flags, 0o666)
        self._files.callback(os.close, descriptor)
        self._descriptors.append(descriptor)
        os.write(descriptor, header)
        position = len(header)
        for output in shard:
            self._starts[output.name] = (descriptor, position)
            position += output.nbytes
        os.ftruncate(descriptor, position)


def stacked_files(outputs: Sequence[Output]) -> list[tuple[str, bytes]]:
    """The files of a `ShardWriter` that is given these outputs: names and headers."""
    shards = _split(outputs)
    return [
        (_shard_name(number, len(shards)), _header(shard)) for number, shard in enumerate(shards)
    ]


def stacked_index(outputs: Sequence[Output], params: int) -> str:
    """The text of the index that goes with `stacked_files`."""
    return _json_text(_index(_split(outputs), params))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON, on the disk when this returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(_json_text(value))
        file.flush()
        os.fsync(file.fileno())


def _json_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


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


def refuse_existing(target: Path) -> None:
    """Raise OutputExistsError if anything, a dangling link too, has the target's name."""
    if os.path.lexists(target):
        raise OutputExistsError(
            f"{target} exists already and was not touched: remove it, or choose another folder "
            "with -o"
        )


def _make_parents(folder: Path) -> list[Path]:
    """Create what is missing above the target; the new folders, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
    except OSError as error:
        raise Qwen3Error(
            f"{error.filename} could not be made ({error.strerror}): choose another folder with -o"
        ) from error
    return missing


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Qwen3Error(
            f"the result needs {format_bytes(needed)} and {folder} has {format_bytes(free)} free; "
            "nothing was written: free space or choose another disk with -o"
        )


def _umask() -> int:
    """The permissions that new folders must not have; asking means setting it twice."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
