"""The SHA-256 of every file of a folder, written when it is made and checked at any time later."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from qwen3_mlx.checkpoint import open_checkpoint, read_json
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.experts.records import MANIFEST as RECORDS
from qwen3_mlx_convert.durable import json_text, replace_text, write_json

__all__ = ["HASHES", "renew_hash", "verify", "write_hashes"]

HASHES = "sha256.json"


def write_hashes(folder: Path) -> None:
    """Hash every file of a folder that is finished but for this."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _digest(folder / name)}
        for name in _names(folder)
    }
    write_json(folder / HASHES, {"format": "qwen3-mlx sha256", "files": files})


def renew_hash(folder: Path, name: str) -> None:
    """Note that a file was changed on purpose; nothing where the folder has no hashes."""
    path = folder / HASHES
    if not path.exists():
        return
    value = read_json(path)
    files = value.get("files")
    if isinstance(files, dict):
        size = (folder / name).stat().st_size
        files[name] = {"bytes": size, "sha256": _digest(folder / name)}
        replace_text(path, json_text(value))


def verify(folder: Path, listener: Callable[[str], None] = lambda name: None) -> int:
    """Read every file and compare; how many there are. `listener` hears each name before.

    A folder that `qwen3-mlx pack` made keeps the hashes of the files it was made from; its
    records have checksums of their own, which are checked whenever an expert is read.

    Raises:
        ModelNotFoundError, CheckpointError: what is missing or differs, by name.
    """
    checkpoint = open_checkpoint(folder)
    if not (folder / HASHES).exists():
        raise CheckpointError(
            f"{folder} has no {HASHES}, so its {len(checkpoint.tensors):,} tensors can only be "
            "checked by their headers, which are whole: convert it again to get one"
        )
    files = read_json(folder / HASHES).get("files")
    if not isinstance(files, dict) or not all(isinstance(each, dict) for each in files.values()):
        raise CheckpointError(f"{folder / HASHES} lists no files: convert the folder again")
    packed = (folder / RECORDS).exists()
    checked = 0
    for name, known in files.items():
        if packed and name.endswith((".safetensors", ".index.json")):
            continue
        listener(name)
        _check(folder, name, known)
        checked += 1
    return checked


def _check(folder: Path, name: str, known: dict[str, object]) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise CheckpointError(f"{folder / HASHES} names {name!r}, which is not in the folder")
    if not path.is_file():
        raise CheckpointError(f"{name} is missing from {folder}: convert or copy it again")
    size = path.stat().st_size
    if size != known.get("bytes"):
        raise CheckpointError(
            f"{name} in {folder} has {size:,} bytes and should have {known.get('bytes')}: "
            "convert or copy it again"
        )
    if _digest(path) != known.get("sha256"):
        raise CheckpointError(
            f"{name} in {folder} has another SHA-256 than when it was written: its bytes have "
            "changed, convert or copy it again"
        )


def _names(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.name != HASHES)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
