"""The digest of every file of a folder: written when it is made, checked at any time later."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from qwen3_mlx.checkpoint import open_checkpoint, read_json
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.experts.records import MANIFEST as RECORDS
from qwen3_mlx.transfer import digest_of
from qwen3_mlx_convert.durable import json_text, replace_text, write_json

__all__ = ["HASHES", "renew_hash", "stated", "verify", "write_hashes"]

HASHES = "sha256.json"

#: How the hub's cache calls a file: its SHA-256, or git's SHA-1 of a small one.
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_AGAIN = "convert, copy or download it again"


def write_hashes(folder: Path) -> None:
    """Hash every file of a folder that is finished but for this."""
    files = {name: _entry(folder / name) for name in _names(folder)}
    write_json(folder / HASHES, {"format": "qwen3-mlx sha256", "files": files})


def renew_hash(folder: Path, name: str) -> None:
    """Note that a file was changed on purpose; nothing where the folder has no hashes."""
    path = folder / HASHES
    if not path.exists():
        return
    value = read_json(path)
    files = value.get("files")
    if isinstance(files, dict):
        files[name] = _entry(folder / name)
        replace_text(path, json_text(value))


def stated(folder: Path) -> dict[str, tuple[int | None, str]]:
    """Files whose digest is known, and their bytes if these were written down.

    `convert` writes both into sha256.json; the cache of the hub, whose files are links, calls
    what they point to by the digest. A folder that `qwen3-mlx pack` made keeps the hashes of the
    files it was made from; its records have checksums of their own, which are checked whenever
    an expert is read.

    Raises:
        CheckpointError: sha256.json lists no files.
    """
    if not (folder / HASHES).exists():
        links = [path for path in sorted(folder.iterdir()) if path.is_symlink()]
        blobs = {path.name: Path(os.path.realpath(path)).name for path in links}
        return {name: (None, blob) for name, blob in blobs.items() if _BLOB.fullmatch(blob)}
    files = read_json(folder / HASHES).get("files")
    if not isinstance(files, dict) or not all(isinstance(each, dict) for each in files.values()):
        raise CheckpointError(f"{folder / HASHES} lists no files: convert the folder again")
    packed = (folder / RECORDS).exists()
    return {
        name: (known.get("bytes"), str(known.get("sha256"))) for name, known in files.items()
        if not (packed and name.endswith((".safetensors", ".index.json")))
    }  # fmt: skip


def verify(folder: Path, listener: Callable[[str], None] = lambda name: None) -> int:
    """Read every file and compare; how many there are. `listener` hears each name before.

    Raises:
        ModelNotFoundError, CheckpointError: what is missing or differs, by name.
    """
    checkpoint = open_checkpoint(folder)
    files = stated(folder)
    if not files:
        raise CheckpointError(
            f"{folder} has no {HASHES}, so its {len(checkpoint.tensors):,} tensors can only be "
            "checked by their headers, which are whole: convert it again to get one"
        )
    for name, (size, digest) in files.items():
        listener(name)
        _check(folder, name, size, digest)
    return len(files)


def _check(folder: Path, name: str, size: int | None, digest: str) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise CheckpointError(f"{folder / HASHES} names {name!r}, which is not in the folder")
    if not path.is_file():
        raise CheckpointError(f"{name} is missing from {folder}: {_AGAIN}")
    found = path.stat().st_size
    if size not in (None, found):
        raise CheckpointError(
            f"{name} in {folder} has {found:,} bytes and should have {size}: {_AGAIN}"
        )
    try:
        same = digest_of(path, digest) == digest
    except OSError as error:
        raise CheckpointError(
            f"{name} in {folder} cannot be read ({error.strerror or error}): {_AGAIN}"
        ) from error
    if not same:
        raise CheckpointError(
            f"{name} in {folder} has another {'SHA-1' if len(digest) == 40 else 'SHA-256'} than "
            f"when it was written: its bytes have changed, {_AGAIN}"
        )


def _names(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.name != HASHES)


def _entry(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": digest_of(path, "0" * 64)}
