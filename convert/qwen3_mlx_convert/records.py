"""Writing records: the trunk as safetensors, each expert as one aligned run of bytes.

A `RecordWriter` takes the same calls as a `ShardWriter`, in any order. Beside the records it
keeps the headers of the files that a stacked folder has, so that `unpack` can restore those
byte for byte.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from qwen3_mlx.experts.layout import ExpertFormat, Part, is_expert_tensor, tensor_name
from qwen3_mlx.experts.records import MANIFEST, VERSION, format_of
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_convert import durable
from qwen3_mlx_convert.plan import Output
from qwen3_mlx_convert.write import ShardWriter, stacked_files, stacked_index

__all__ = ["RecordWriter", "SourceFile", "stride_of"]

#: A record starts on a multiple of a Mac's page, where that costs little.
_PAGE = 16384
_BLOCK = 8 << 20

#: A file that was packed: its name, its header as it stands (length and JSON), its SHA-256.
SourceFile = tuple[str, bytes, str | None]


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
        source: the files that `unpack` shall restore and their index, which may be None;
            by default those that a stacked conversion writes.
    """

    def __init__(
        self,
        folder: Path,
        outputs: Sequence[Output],
        config: ModelConfig,
        source: tuple[Sequence[SourceFile], str | None] | None = None,
    ) -> None:
        self._folder, self._config, self._outputs = folder, config, outputs
        self._source = source
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
        files: Sequence[SourceFile]
        if self._source is None:
            index: str | None = stacked_index(self._outputs, params)
            files = [(name, header, None) for name, header in stacked_files(self._outputs)]
        else:
            files, index = self._source
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
                "index": index,
                "files": [
                    {"name": name, "header": header[8:].decode(), "sha256": digest}
                    for name, header, digest in files
                ],
            },
        }

    def _checksums(self, layer: int, format: ExpertFormat) -> list[int]:
        stride = stride_of(format.nbytes)
        return [
            _checksum(self._layers[layer], expert * stride, format.nbytes)
            for expert in range(self._config.experts)
        ]


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


def _checksum(descriptor: int, offset: int, nbytes: int) -> int:
    found, done = 0, 0
    while done < nbytes:
        block = os.pread(descriptor, min(_BLOCK, nbytes - done), offset + done)
        if not block:
            raise OSError(f"a record ended {nbytes - done:,} bytes early")
        found = zlib.crc32(block, found)
        done += len(block)
    return found
