"""Records: the experts of a folder as one aligned run of bytes each, with a checksum.

    experts.json              the manifest: parts, strides, checksums, and what was packed
    experts/layer-000.bin     expert e of layer 0 is at e * stride, gate|up side by side
    model.safetensors         everything else, as in any MLX folder

An expert is one read instead of nine. The manifest says everything that is needed to read and
to restore the folder that was packed; config.json stays as it is.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_mlx.checkpoint import read_json
from qwen3_mlx.errors import CheckpointError, ExpertReadError
from qwen3_mlx.experts.layout import (
    CODES,
    FLOATS,
    MATRICES,
    ExpertFormat,
    Part,
    arrange,
    tensor_name,
)
from qwen3_mlx.experts.store import Destination, Files, Throttle
from qwen3_mlx.model.config import ModelConfig

__all__ = [
    "MANIFEST",
    "VERSION",
    "LayerRecords",
    "RecordSource",
    "Records",
    "format_of",
    "open_records",
]

MANIFEST = "experts.json"
VERSION = 1
_AGAIN = "copy or pack the folder again"


@dataclass(frozen=True, slots=True)
class LayerRecords:
    """The experts of one layer: record e is at `e * stride`, of `format.nbytes` bytes."""

    file: Path
    stride: int
    format: ExpertFormat
    checksums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Records:
    """A folder's experts, from its manifest. `raw` is the manifest as it stands."""

    folder: Path
    layers: Mapping[int, LayerRecords]
    raw: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all experts, padding not counted."""
        return sum(len(each.checksums) * each.format.nbytes for each in self.layers.values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that the records stand for, as a stacked folder would have them."""
        return {
            tensor_name(layer, part.matrix, part.kind): (len(each.checksums), *part.shape)
            for layer, each in self.layers.items()
            for part in each.format.parts
        }


def open_records(folder: Path, config: ModelConfig) -> Records | None:
    """The records of a folder; None if it has none. No record is read.

    Raises:
        CheckpointError: the manifest is damaged or of another version, or a file is missing or
            not as long as it says.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    raw = read_json(path)
    if raw.get("version") != VERSION:
        raise CheckpointError(
            f"{path} is of version {raw.get('version')!r} and this program reads {VERSION}: "
            "update qwen3-mlx, or pack the folder again"
        )
    try:
        layers = {int(key): _layer(folder, config, int(key), entry)
                  for key, entry in raw["layers"].items()}  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}): {_AGAIN}") from error
    expected = {layer for layer in range(config.layers) if config.is_moe(layer)}
    if set(layers) != expected:
        raise CheckpointError(
            f"{path} has {len(layers)} layers with experts and config.json {len(expected)}: "
            f"{_AGAIN}"
        )
    return Records(folder, layers, raw)


def _layer(folder: Path, config: ModelConfig, layer: int, entry: Mapping[str, Any]) -> LayerRecords:
    parts = [Part(matrix, kind, dtype, (rows, columns))
             for matrix, kind, dtype, (rows, columns) in entry["parts"]]  # fmt: skip
    format = format_of(config, layer, parts)
    checksums, stride = tuple(entry["crc32"]), int(entry["stride"])
    if list(format.parts) != parts or stride < format.nbytes:
        raise ValueError(f"layer {layer} has its parts in another order")
    name = entry["file"]
    if name != f"experts/layer-{layer:03d}.bin" or len(checksums) != config.experts:
        raise ValueError(f"layer {layer} names {name!r}, {len(checksums)} checksums")
    file = folder / name
    size = file.stat().st_size if file.exists() else 0
    if size != stride * len(checksums):
        raise CheckpointError(
            f"{file} has {size:,} bytes and {stride * len(checksums):,} were expected: it is "
            f"missing or cut short; {_AGAIN}"
        )
    return LayerRecords(file, stride, format, checksums)


def format_of(config: ModelConfig, layer: int, parts: Sequence[Part]) -> ExpertFormat:
    """The format of a layer whose experts have these parts, in any order."""
    by_matrix = [[part for part in parts if part.matrix == matrix] for matrix in MATRICES]
    if not all(by_matrix) or any(part.dtype not in FLOATS + CODES for part in parts):
        raise ValueError(f"layer {layer} lacks a matrix or has an unknown dtype")
    hows = [
        config.quantization_of(f"model.layers.{layer}.mlp.switch_mlp.{matrix}")
        if len(found) > 1 else None
        for matrix, found in zip(MATRICES, by_matrix, strict=True)
    ]  # fmt: skip
    return arrange(by_matrix, hows)


class RecordSource:
    """Experts from records: one `preadv` each, and a checksum when it is read first.

    Args:
        records: the folder's.
        verify: check every read and not only the first of each expert.
        throttle: makes the disk slower, for measurements.
    """

    def __init__(
        self, records: Records, *, verify: bool = False, throttle: Throttle | None = None
    ) -> None:
        self._records, self._verify, self._throttle = records, verify, throttle
        self._files = Files()
        self._unchecked = {
            (layer, expert)
            for layer, each in records.layers.items()
            for expert in range(len(each.checksums))
        }
        with self._files.kept():
            self._descriptors = {
                layer: self._files.descriptor(each.file) for layer, each in records.layers.items()
            }

    def format(self, layer: int) -> ExpertFormat:
        return self._records.layers[layer].format

    def read(self, layer: int, expert: int, into: Destination) -> int:
        began = time.perf_counter()
        start = expert * self._records.layers[layer].stride
        nbytes = self._files.read(self._descriptors[layer], into.tensors, start)
        if self._throttle is not None:
            self._throttle.wait(nbytes, began)
        if self._verify or (layer, expert) in self._unchecked:
            self._check(layer, expert, into.tensors)
        if into.finish is not None:
            into.finish()
        return nbytes

    def close(self) -> None:
        self._files.close()

    def _check(self, layer: int, expert: int, buffers: Sequence[memoryview]) -> None:
        known = self._records.layers[layer]
        found = 0
        for buffer in buffers:
            found = zlib.crc32(buffer, found)
        if found != known.checksums[expert]:
            raise ExpertReadError(
                f"expert {expert} of layer {layer} has the checksum {found:08x} and "
                f"{known.checksums[expert]:08x} was written: {known.file} is damaged, {_AGAIN}"
            )
        self._unchecked.discard((layer, expert))
