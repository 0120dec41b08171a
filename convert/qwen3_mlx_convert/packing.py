"""`pack` and `unpack`: a stacked folder and a records folder, each made from the other.

They are inverses to the byte: the manifest keeps the header of every file that was packed and
its SHA-256, and a pack is only finished when the files, put together again from what was
written, have that hash. Nothing of the source is deleted before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

from qwen3_mlx.checkpoint import INDEX, Checkpoint, TensorInfo, open_checkpoint, read_header
from qwen3_mlx.errors import CheckpointError, Qwen3Error, UnsupportedModelError
from qwen3_mlx.experts.layout import Part, is_expert_tensor, tensor_name
from qwen3_mlx.experts.records import MANIFEST, LayerRecords, Records, open_records
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import check_shapes
from qwen3_mlx_convert.plan import Output
from qwen3_mlx_convert.records import RecordWriter, SourceFile
from qwen3_mlx_convert.transaction import refuse_existing, staged

__all__ = ["PackReport", "pack_folder", "unpack_folder"]

_BLOCK = 8 << 20
_SIDE_BYTES = 64 << 20

#: Called with the bytes done and in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was written, and whether the source was deleted."""

    target: Path
    weight_bytes: int
    files: int
    deleted: bool


def pack_folder(
    source: Path,
    target: Path,
    *,
    delete_source: bool = False,
    progress: Progress = lambda done, total: None,
) -> PackReport:
    """Write the experts of a stacked MLX folder as records.

    Raises:
        CheckpointError: the source is damaged, or what was written does not give it back.
        UnsupportedModelError: it has no experts, is packed already, or is not stacked.
        OutputExistsError: `target` is there already.
    """
    refuse_existing(target)
    checkpoint = open_checkpoint(source)
    config = ModelConfig.from_dict(checkpoint.config)
    _check_packable(checkpoint, config)
    counter = _Counter(3 * checkpoint.weight_bytes, progress)
    files = [_source_file(path, counter) for path in _weight_files(checkpoint)]
    index = source / INDEX
    text = index.read_text(encoding="utf-8") if index.exists() else None
    side = _side_files(source)
    with staged(target, checkpoint.weight_bytes + _SIDE_BYTES) as folder:
        outputs = [Output(name, t.dtype, t.shape) for name, t in checkpoint.tensors.items()]
        with RecordWriter(folder, outputs, config, (files, text)) as writer:
            for name, tensor in checkpoint.tensors.items():
                _copy_tensor(writer, name, tensor, counter)
            writer.write_index(sum(prod(output.shape) for output in outputs))
        _copy_side(source, folder, side)
        _verify(folder, counter)
    if delete_source:
        _delete(source, [*(path.name for path in _weight_files(checkpoint)), INDEX, *side])
    return PackReport(target, checkpoint.weight_bytes, writer.count, delete_source)


def unpack_folder(
    source: Path,
    target: Path,
    *,
    delete_source: bool = False,
    progress: Progress = lambda done, total: None,
) -> PackReport:
    """Restore the stacked folder from which a records folder was made, byte for byte.

    Raises:
        CheckpointError: the source is damaged: a checksum of it is not what was written.
        UnsupportedModelError: it is not a records folder.
        OutputExistsError: `target` is there already.
    """
    refuse_existing(target)
    checkpoint, records = _open_packed(source)
    total = checkpoint.weight_bytes + records.nbytes
    counter = _Counter(2 * total, progress)
    check_records(records, counter)
    trunk = [path.name for path in _weight_files(checkpoint)]
    side = [name for name in _side_files(source) if not _of_records(name)]
    with staged(target, total + _SIDE_BYTES) as folder:
        stated = records.raw["source"]
        for entry in stated["files"]:
            _restore(folder / _plain(entry["name"]), entry, checkpoint, records, counter)
        if stated["index"] is not None:
            (folder / INDEX).write_text(stated["index"], encoding="utf-8")
        _copy_side(source, folder, side)
        open_checkpoint(folder)
    if delete_source:
        made = [name for name in _side_files(source) if _of_records(name)]
        _delete(source, [*trunk, INDEX, *made, *side])
    return PackReport(target, total, len(stated["files"]), delete_source)


def check_records(records: Records, counter: _Counter | None = None) -> None:
    """Read every record and compare its checksum.

    Raises:
        ExpertReadError: one is damaged.
    """
    from qwen3_mlx.experts.records import RecordSource
    from qwen3_mlx.experts.store import Destination

    source = RecordSource(records, verify=True)
    try:
        for layer, known in records.layers.items():
            buffer = memoryview(bytearray(known.format.nbytes))
            for expert in range(len(known.checksums)):
                source.read(layer, expert, Destination([buffer], []))
                if counter is not None:
                    counter.add(len(buffer))
    finally:
        source.close()


class _Counter:
    """Adds up bytes and passes them on."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, nbytes: int) -> None:
        self._done += nbytes
        self._progress(min(self._done, self._total), self._total)


def _check_packable(checkpoint: Checkpoint, config: ModelConfig) -> None:
    if not config.experts:
        raise UnsupportedModelError(
            f"{checkpoint.path} has no experts: only mixtures of experts are packed"
        )
    if (checkpoint.path / MANIFEST).exists():
        raise UnsupportedModelError(f"{checkpoint.path} is packed already")
    if not any(".switch_mlp." in name for name in checkpoint.tensors):
        raise UnsupportedModelError(
            f"{checkpoint.path} is a Hugging Face checkpoint with an expert in each tensor: use "
            "`qwen3-mlx convert --layout records`"
        )
    check_shapes({name: info.shape for name, info in checkpoint.tensors.items()}, config)


def _open_packed(folder: Path) -> tuple[Checkpoint, Records]:
    checkpoint = open_checkpoint(folder)
    records = open_records(folder, ModelConfig.from_dict(checkpoint.config))
    if records is None:
        raise UnsupportedModelError(f"{folder} has no {MANIFEST}: it is not a records folder")
    return checkpoint, records


def _weight_files(checkpoint: Checkpoint) -> list[Path]:
    return sorted({info.file for info in checkpoint.tensors.values()})


def _source_file(path: Path, counter: _Counter) -> SourceFile:
    """Name, header and hash of a file; every tensor of it must be part of the model."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = file.read(8)
        header = length + file.read(int.from_bytes(length, "little"))
        digest.update(header)
        while block := file.read(_BLOCK):
            digest.update(block)
            counter.add(len(block))
    return path.name, header, digest.hexdigest()


def _copy_tensor(writer: RecordWriter, name: str, tensor: TensorInfo, counter: _Counter) -> None:
    for offset, block in _blocks(tensor, 0, tensor.nbytes):
        writer.write(name, offset, memoryview(block))
        counter.add(len(block))


def _blocks(tensor: TensorInfo, start: int, nbytes: int) -> Iterator[tuple[int, bytes]]:
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset + start)
        done = 0
        while done < nbytes:
            block = file.read(min(_BLOCK, nbytes - done))
            if not block:
                raise CheckpointError(f"{tensor.file} was cut short while it was read")
            yield start + done, block
            done += len(block)


def _verify(folder: Path, counter: _Counter) -> None:
    """Put the packed files together again, without writing them, and compare their hashes."""
    checkpoint, records = _open_packed(folder)
    for entry in records.raw["source"]["files"]:
        for block in _contents(entry, checkpoint, records, digest := hashlib.sha256()):
            counter.add(len(block))
        if digest.hexdigest() != entry["sha256"]:
            raise CheckpointError(
                f"{entry['name']} would not come back from its records as it was; nothing was "
                "kept or deleted: check the disk, then try again"
            )


def _restore(
    path: Path, entry: Mapping[str, Any], checkpoint: Checkpoint, records: Records,
    counter: _Counter,
) -> None:  # fmt: skip
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for block in _contents(entry, checkpoint, records, digest):
            file.write(block)
            counter.add(len(block))
        file.flush()
        os.fsync(file.fileno())
    if entry["sha256"] not in (None, digest.hexdigest()):
        raise CheckpointError(
            f"{path.name} does not come back as it was packed: the records folder is damaged"
        )
    read_header(path)


def _contents(
    entry: Mapping[str, Any], checkpoint: Checkpoint, records: Records, digest: Any
) -> Iterator[bytes]:
    """A packed file from its first byte to its last, added to `digest` on the way."""
    header = entry["header"].encode()
    stated = json.loads(header)
    stated.pop("__metadata__", None)
    first = len(header).to_bytes(8, "little") + header
    order = sorted(stated, key=lambda name: stated[name]["data_offsets"])
    tensors = (_tensor_bytes(name, checkpoint, records) for name in order)
    for block in chain([first], chain.from_iterable(tensors)):
        digest.update(block)
        yield block


def _tensor_bytes(name: str, checkpoint: Checkpoint, records: Records) -> Iterator[bytes]:
    if not is_expert_tensor(name):
        tensor = checkpoint.tensors[name]
        for _, block in _blocks(tensor, 0, tensor.nbytes):
            yield block
        return
    layer = int(name.split(".")[2])
    known = records.layers[layer]
    start, part = _part(known, layer, name)
    with known.file.open("rb") as file:
        for expert in range(len(known.checksums)):
            file.seek(expert * known.stride + start)
            yield file.read(part.nbytes)


def _part(known: LayerRecords, layer: int, name: str) -> tuple[int, Part]:
    """Where a part begins in each record."""
    start = 0
    for part in known.format.parts:
        if tensor_name(layer, part.matrix, part.kind) == name:
            return start, part
        start += part.nbytes
    raise CheckpointError(f"the manifest names {name}, which is not in the records")


def _side_files(folder: Path) -> list[str]:
    """Everything but the weights, as paths inside the folder."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and not (path.parent == folder and _is_weight(path.name))
    )  # fmt: skip


def _is_weight(name: str) -> bool:
    return name.endswith(".safetensors") or name == INDEX


def _of_records(name: str) -> bool:
    return name == MANIFEST or name.startswith("experts" + os.sep)


def _copy_side(source: Path, folder: Path, names: list[str]) -> None:
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)


def _delete(folder: Path, names: list[str]) -> None:
    """Delete these files, and the folders that are empty then."""
    if any((folder / name).is_symlink() for name in names):
        raise Qwen3Error(
            f"{folder} is part of the hub's cache, whose files are links, and was not deleted: "
            "`hf cache delete` frees its space"
        )
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def _plain(name: str) -> str:
    """A file name of the manifest, which may come from anywhere."""
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise CheckpointError(f"the manifest names the file {name!r}, which is no plain name")
    return name
