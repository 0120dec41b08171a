"""`pack` and `unpack`: a stacked folder and a records folder, each made from the other.

They are inverses to the byte: the manifest keeps the header of every file that was packed, its
SHA-256, and the index and sha256.json as they were. A pack is only finished when the files, put
together again from what was written, have that hash, and the new folder's own sha256.json is
written. Nothing of the source is deleted before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

from qwen3_mlx.checkpoint import INDEX, Checkpoint, TensorInfo, open_checkpoint, read_header
from qwen3_mlx.errors import CheckpointError, Qwen3Error, UnsupportedModelError
from qwen3_mlx.experts.records import MANIFEST, Records, open_records
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import check_shapes
from qwen3_mlx_convert import durable
from qwen3_mlx_convert.plan import Output
from qwen3_mlx_convert.records import (
    Origin,
    OriginFile,
    RecordWriter,
    check_records,
    first_lost,
    origin_of,
    restored,
    tensor_blocks,
)
from qwen3_mlx_convert.transaction import refuse_existing, staged
from qwen3_mlx_convert.verify import (
    HASHES,
    check_digests,
    check_files,
    known_digests,
    states_itself,
    write_hashes,
)

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
    side = _side_files(source)
    known = known_digests(source, side)
    counter = _Counter(3 * checkpoint.weight_bytes, progress)
    origin = _origin(checkpoint, counter)
    with staged(target, checkpoint.weight_bytes + _SIDE_BYTES) as folder:
        outputs = [Output(name, t.dtype, t.shape) for name, t in checkpoint.tensors.items()]
        with RecordWriter(folder, outputs, config, origin) as writer:
            for name, tensor in checkpoint.tensors.items():
                _copy_tensor(writer, name, tensor, counter)
            writer.write_index(sum(prod(output.shape) for output in outputs))
        _copy_side(source, folder, [name for name in side if name != HASHES])
        _verify(folder, counter)
        write_hashes(folder, known | writer.digests)
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
    origin, own = origin_of(records), states_itself(source)
    trunk = [path.name for path in _weight_files(checkpoint)]
    beside = _side_files(source)
    made = [name for name in beside if _of_records(name) or (own and name == HASHES)]
    side = [name for name in beside if name not in made]
    check_records(records, counter.add)
    if unproven := any(file.sha256 is None for file in origin.files):
        check_files(source, [*trunk, MANIFEST])  # by what `convert` wrote down, if it did
    with staged(target, total + _SIDE_BYTES) as folder:
        digests = {
            file.name: _restore(folder / file.name, file, checkpoint, records, counter)
            for file in origin.files
        }
        for name, text in ((INDEX, origin.index), (HASHES, origin.hashes)):
            if text is not None:
                durable.write_text(folder / name, text)
        _copy_side(source, folder, side)
        open_checkpoint(folder)
        if unproven and own:  # `convert` made records at once: there are no hashes to restore
            write_hashes(folder, known_digests(source, side) | digests)
    if delete_source:
        _delete(source, [*trunk, INDEX, *made, *side])
    return PackReport(target, total, len(origin.files), delete_source)


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


def _origin(checkpoint: Checkpoint, counter: _Counter) -> Origin:
    """What `unpack` will need; the source's files must be those that its hashes speak of."""
    files = [_origin_file(path, counter) for path in _weight_files(checkpoint)]
    check_digests(checkpoint.path, {file.name: str(file.sha256) for file in files})
    return Origin(files, _text(checkpoint.path / INDEX), _text(checkpoint.path / HASHES))


def _origin_file(path: Path, counter: _Counter) -> OriginFile:
    """Name, header and hash of a file; every tensor of it must be part of the model."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = file.read(8)
        header = file.read(int.from_bytes(length, "little"))
        digest.update(length + header)
        while block := file.read(_BLOCK):
            digest.update(block)
            counter.add(len(block))
    return OriginFile(path.name, header.decode(), digest.hexdigest())


def _text(path: Path) -> str | None:
    """A file as it stands, line ends too."""
    return path.read_bytes().decode() if path.exists() else None


def _copy_tensor(writer: RecordWriter, name: str, tensor: TensorInfo, counter: _Counter) -> None:
    for offset, block in tensor_blocks(tensor):
        writer.write(name, offset, memoryview(block))
        counter.add(len(block))


def _verify(folder: Path, counter: _Counter) -> None:
    """Put the packed files together again, without writing them, and compare their hashes."""
    checkpoint, records = _open_packed(folder)
    if (name := first_lost(checkpoint, records, counter.add)) is not None:
        raise CheckpointError(
            f"{name} would not come back from its records as it was; nothing was kept or "
            "deleted: check the disk, then try again"
        )


def _restore(
    path: Path, origin: OriginFile, checkpoint: Checkpoint, records: Records, counter: _Counter
) -> str:
    """Write a file as it was before it was packed; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for block in restored(origin, checkpoint, records):
            digest.update(block)
            file.write(block)
            counter.add(len(block))
        file.flush()
        durable.flush(file.fileno(), path.name)
    if origin.sha256 not in (None, digest.hexdigest()):
        raise CheckpointError(
            f"{path.name} does not come back as it was packed: the records folder is damaged"
        )
    read_header(path)
    return digest.hexdigest()


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
    """Copies that are on the disk when this returns."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        durable.copy_file(source / name, target)
    for each in {parent for name in names for parent in (folder / name).parents}:
        if each.is_relative_to(folder):
            durable.flush_folder(each, "folder")


def _delete(folder: Path, names: list[str]) -> None:
    """Delete these files, and the folders that are empty then; also a link that led to them."""
    given, folder = folder, folder.resolve()  # "." and a link cannot be removed as folders
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
        with suppress(OSError):  # an empty folder that stays is no failure
            folder.rmdir()
            if given.is_symlink():
                given.unlink()
