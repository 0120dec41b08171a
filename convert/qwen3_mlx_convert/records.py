"""Writing records: the trunk as safetensors, each expert as one aligned run of bytes.

A `RecordWriter` takes the same calls as a `ShardWriter`, in any order. Beside the records it
keeps the headers of the files that a stacked folder has, so that `restored` can put those
together again, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from qwen3_mlx.checkpoint import Checkpoint, TensorInfo
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.experts.layout import ExpertFormat, Part, is_expert_tensor, tensor_name
from qwen3_mlx.experts.records import MANIFEST, VERSION, Records, RecordSource, format_of
from qwen3_mlx.experts.store import Destination
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_convert import durable
from qwen3_mlx_convert.plan import Output
from qwen3_mlx_convert.write import ShardWriter, stacked_files, stacked_index

__all__ = [
    "Origin",
    "OriginFile",
    "RecordWriter",
    "check_records",
    "first_lost",
    "origin_of",
    "restored",
    "stride_of",
    "tensor_blocks",
]

#: A record starts on a multiple of a Mac's page, where that costs little.
_PAGE = 16384
_BLOCK = 8 << 20
_WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class OriginFile:
    """A file that was packed: its name, its header (JSON as it stands), its SHA-256 if known."""

    name: str
    header: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Origin:
    """What `unpack` shall restore: weight files, and the texts of their index and sha256.json."""

    files: Sequence[OriginFile]
    index: str | None
    hashes: str | None = None


def stride_of(nbytes: int) -> int:
    """The distance between records of `nbytes`: the next page, or less for small experts.

    >>> stride_of(2_654_208), stride_of(2_654_209), stride_of(20_000)
    (2654208, 2670592, 20480)
    """
    page = _PAGE
    while page > 64 and nbytes < 16 * page:
        page //= 4
    return -(-nbytes // page) * page


class RecordWriter:
    """Writes a records folder. Use it as a context manager, as a `ShardWriter`.

    Args:
        folder: an empty folder.
        outputs: every tensor of the model in stacked layout, the experts' included.
        config: of the model that is written, with its quantisation.
        source: what `unpack` shall restore; by default what a stacked conversion writes.

    `digests` has the SHA-256 of the files of experts once the index is written.
    """

    def __init__(
        self,
        folder: Path,
        outputs: Sequence[Output],
        config: ModelConfig,
        source: Origin | None = None,
    ) -> None:
        self._folder, self._config, self._outputs = folder, config, outputs
        self._source = source
        self.digests: dict[str, str] = {}
        self._formats = _formats(config, outputs)
        trunk = [output for output in outputs if not is_expert_tensor(output.name)]
        self._trunk = ShardWriter(folder, trunk)
        self._open = ExitStack()
        self._layers: dict[int, int] = {}  # layer -> descriptor
        self._dirty: set[int] = set()
        self._complete = True
        self._places = _places(self._formats)

    def __enter__(self) -> RecordWriter:
        self._trunk.__enter__()
        try:
            self._open_layers()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _open_layers(self) -> None:
        (self._folder / "experts").mkdir(exist_ok=True)
        for layer, format in self._formats.items():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._folder / _file(layer), flags, 0o666)
            self._open.callback(os.close, descriptor)
            size = stride_of(format.nbytes) * self._config.experts
            if os.fstat(descriptor).st_size != size:
                self._complete = False
                os.ftruncate(descriptor, size)
                self._dirty.add(layer)
            self._layers[layer] = descriptor
        durable.flush_folder(self._folder / "experts", "experts")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._open:
            self._trunk.__exit__(kind, error, trace)
            if kind is None:
                self.flush()

    @property
    def reused(self) -> bool:
        """Whether all files were there already; see `ShardWriter`."""
        return self._complete and self._trunk.reused

    def flush(self) -> None:
        """Return when everything written so far is on the disk."""
        self._trunk.flush()
        for layer in sorted(self._dirty):
            durable.flush(self._layers[layer], _file(layer))
        self._dirty.clear()

    @property
    def count(self) -> int:
        """How many files there are."""
        return self._trunk.count + len(self._layers)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Put bytes into the tensor `name`, `offset` bytes from its beginning."""
        place = self._places.get(name)
        if place is None:
            self._trunk.write(name, offset, data)
            return
        layer, start, size = place
        data = data.cast("B")
        while len(data):
            expert, inside = divmod(offset, size)
            piece = data[: size - inside]
            self.write_record(layer, expert, start + inside, piece)
            offset, data = offset + len(piece), data[len(piece) :]

    def write_record(self, layer: int, expert: int, offset: int, data: memoryview) -> None:
        """Put bytes into a record."""
        position = expert * stride_of(self._formats[layer].nbytes) + offset
        durable.write_at(self._layers[layer], data, position)
        self._dirty.add(layer)

    def write_index(self, params: int) -> None:
        """The trunk's index and the manifest; every tensor must have been written."""
        self._trunk.write_index(params)
        durable.write_json(self._folder / MANIFEST, self._manifest(params))

    def _manifest(self, params: int) -> dict[str, Any]:
        source = self._source or Origin(
            [
                OriginFile(name, head[8:].decode(), None)
                for name, head in stacked_files(self._outputs)
            ],
            stacked_index(self._outputs, params),
        )
        return {
            "format": "qwen3-mlx records",
            "version": VERSION,
            "total_parameters": params,
            "layers": {
                str(layer): {
                    "file": _file(layer),
                    "stride": stride_of(format.nbytes),
                    "parts": [[p.matrix, p.kind, p.dtype, list(p.shape)] for p in format.parts],
                    "crc32": self._checksums(layer, format),
                }
                for layer, format in self._formats.items()
            },
            "source": {
                "index": source.index,
                "hashes": source.hashes,
                "files": [
                    {"name": file.name, "header": file.header, "sha256": file.sha256}
                    for file in source.files
                ],
            },
        }

    def _checksums(self, layer: int, format: ExpertFormat) -> list[int]:
        """The checksum of each record; the same reading gives the digest of the file."""
        stride, whole = stride_of(format.nbytes), hashlib.sha256()
        checksums = []
        for expert in range(self._config.experts):
            found, left = 0, format.nbytes
            for block in _read(self._layers[layer], expert * stride, stride):
                whole.update(block)
                found = zlib.crc32(block[:left], found)  # without the padding
                left -= min(left, len(block))
            checksums.append(found)
        self.digests[_file(layer)] = whole.hexdigest()
        return checksums


def origin_of(records: Records) -> Origin:
    """What a folder of records was packed from, as its manifest says.

    Raises:
        CheckpointError: the manifest is damaged.
    """
    try:
        source = records.raw["source"]
        files = [
            OriginFile(*map(each.get, ("name", "header", "sha256"))) for each in source["files"]
        ]
        texts = [source["index"], source.get("hashes")]
    except (AttributeError, KeyError, TypeError) as error:
        raise _damaged(records, repr(error)) from error
    optional = [*texts, *(file.sha256 for file in files)]
    if not all(isinstance(file.header, str) for file in files) or not all(
        isinstance(text, str | None) for text in optional
    ):
        raise _damaged(records, "it lacks a header, an index or a digest")
    for file in files:  # the manifest may come from anywhere
        name = file.name
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(_WEIGHTS):
            raise CheckpointError(f"the manifest names the file {name!r}, which is no plain name")
    return Origin(files, *texts)


def check_records(records: Records, done: Callable[[int], None] = lambda nbytes: None) -> None:
    """Read every record and compare its checksum. `done` hears the bytes of each.

    Raises:
        ExpertReadError: one is damaged.
    """
    source = RecordSource(records, verify=True)
    try:
        for layer, known in records.layers.items():
            buffer = memoryview(bytearray(known.format.nbytes))
            for expert in range(len(known.checksums)):
                source.read(layer, expert, Destination([buffer], []))
                done(len(buffer))
    finally:
        source.close()


def restored(file: OriginFile, checkpoint: Checkpoint, records: Records) -> Iterator[bytes]:
    """A file as it was before it was packed, from its first byte to its last.

    Raises:
        CheckpointError: the folder lacks a tensor of it, or the manifest is damaged.
    """
    try:
        header = file.header.encode()
        stated = json.loads(header)
        stated.pop("__metadata__", None)
        order = sorted(stated, key=lambda name: stated[name]["data_offsets"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(records, f"the header of {file.name}: {error!r}") from error
    yield len(header).to_bytes(8, "little") + header
    for name in order:
        yield from _tensor_bytes(name, checkpoint, records)


def first_lost(
    checkpoint: Checkpoint, records: Records, done: Callable[[int], None] = lambda nbytes: None
) -> str | None:
    """The first file that would not come back as it was packed, by its SHA-256. Nothing is written.

    Raises:
        CheckpointError: the folder lacks a tensor, or the manifest is damaged.
    """
    for file in origin_of(records).files:
        digest = hashlib.sha256()
        for block in restored(file, checkpoint, records):
            digest.update(block)
            done(len(block))
        if digest.hexdigest() != file.sha256:
            return file.name
    return None


def tensor_blocks(tensor: TensorInfo) -> Iterator[tuple[int, bytes]]:
    """A tensor's bytes as they stand, in blocks: (offset in the tensor, bytes)."""
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        done = 0
        while done < tensor.nbytes:
            block = file.read(min(_BLOCK, tensor.nbytes - done))
            if not block:
                raise CheckpointError(f"{tensor.file} was cut short while it was read")
            yield done, block
            done += len(block)


def _tensor_bytes(name: str, checkpoint: Checkpoint, records: Records) -> Iterator[bytes]:
    tensor = checkpoint.tensors.get(name)
    if tensor is not None:
        for _, block in tensor_blocks(tensor):
            yield block
        return
    for layer, known in records.layers.items():
        start = 0
        for part in known.format.parts:
            if tensor_name(layer, part.matrix, part.kind) == name:
                with known.file.open("rb") as file:
                    for expert in range(len(known.checksums)):
                        file.seek(expert * known.stride + start)
                        yield file.read(part.nbytes)
                return
            start += part.nbytes
    raise CheckpointError(f"the manifest names {name}, which is neither in the trunk nor a record")


def _damaged(records: Records, what: str) -> CheckpointError:
    return CheckpointError(
        f"{records.folder / MANIFEST} is damaged ({what}): copy or pack the folder again"
    )


def _file(layer: int) -> str:
    return f"experts/layer-{layer:03d}.bin"


def _formats(config: ModelConfig, outputs: Sequence[Output]) -> dict[int, ExpertFormat]:
    """By layer, what its experts are made of."""
    parts: dict[int, list[Part]] = {}
    for output in outputs:
        if is_expert_tensor(output.name):
            _, _, layer, _, _, matrix, kind = output.name.split(".")
            rows, columns = output.shape[1:]
            parts.setdefault(int(layer), []).append(
                Part(matrix, kind, output.dtype, (rows, columns))
            )
    return {layer: format_of(config, layer, found) for layer, found in sorted(parts.items())}


def _places(formats: Mapping[int, ExpertFormat]) -> dict[str, tuple[int, int, int]]:
    """Stack name -> (layer, offset in a record, bytes of one expert)."""
    places = {}
    for layer, format in formats.items():
        start = 0
        for part in format.parts:
            places[tensor_name(layer, part.matrix, part.kind)] = layer, start, part.nbytes
            start += part.nbytes
    return places


def _read(descriptor: int, offset: int, nbytes: int) -> Iterator[bytes]:
    """Some bytes of a file, in blocks."""
    done = 0
    while done < nbytes:
        block = os.pread(descriptor, min(_BLOCK, nbytes - done), offset + done)
        if not block:
            raise OSError(f"a record ended {nbytes - done:,} bytes early")
        yield block
        done += len(block)
