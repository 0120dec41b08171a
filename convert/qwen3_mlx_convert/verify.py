"""The digest of every file of a folder: written when it is made, checked at any time later."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_mlx.checkpoint import Checkpoint, open_checkpoint, read_json
from qwen3_mlx.errors import CheckpointError, ExpertReadError
from qwen3_mlx.experts.records import MANIFEST, Records, open_records
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.transfer import digest_of
from qwen3_mlx_convert.durable import json_text, replace_text, write_json
from qwen3_mlx_convert.records import check_records, first_lost, origin_of

__all__ = [
    "HASHES",
    "Verified",
    "check_digests",
    "check_files",
    "known_digests",
    "renew_hash",
    "stated",
    "states_itself",
    "verify",
    "write_hashes",
]

HASHES = "sha256.json"

#: How the hub's cache calls a file: its SHA-256, or git's SHA-1 of a small one.
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_AGAIN = "convert, pack, copy or download it again"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read and is as it was written: files, and experts' records, in them or beside.

    `unchecked` are files of which no digest is known; weights are never among them.
    """

    files: int
    records: int = 0
    unchecked: tuple[str, ...] = ()

    def __str__(self) -> str:
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        records = f" and {self.records:,} records" if self.records else ""
        return f"{files}{records} are as they were written"

    @property
    def note(self) -> str:
        """What could not be checked, as a line to print; nothing where all was."""
        names = ", ".join(self.unchecked)
        return f"not checked, since no digest of it is known: {names}\n" if names else ""


def write_hashes(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Hash every file of a folder that is finished but for this.

    `known` digests are taken as they are: of files that were hashed while they were made, or
    copied from where they were stated, so that a copy of a damaged file is known as damaged.
    """
    known = known or {}
    files = {name: _entry(folder / name, known.get(name)) for name in _names(folder)}
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

    `convert` and `pack` write both into sha256.json; the cache of the hub, whose files are
    links, calls what they point to by the digest. In folders that an older `pack` made,
    sha256.json is that of the folder they were made from, and says nothing of the weights.

    Raises:
        CheckpointError: sha256.json lists no files.
    """
    links = [path for path in sorted(folder.rglob("*")) if path.is_symlink()]
    blobs = {
        path.relative_to(folder).as_posix(): Path(os.path.realpath(path)).name for path in links
    }
    known: dict[str, tuple[int | None, str]] = {
        name: (None, blob) for name, blob in blobs.items() if _BLOB.fullmatch(blob)
    }
    if not (folder / HASHES).exists():
        return known
    own = states_itself(folder)
    return known | {
        name: (entry.get("bytes"), str(entry.get("sha256")))
        for name, entry in _listed(folder).items()
        if own or not name.endswith((".safetensors", ".index.json"))
    }


def states_itself(folder: Path) -> bool:
    """Whether sha256.json is there and is of this folder, not of the one it was packed from.

    Raises:
        CheckpointError: sha256.json lists no files.
    """
    if not (folder / HASHES).exists():
        return False
    return not (folder / MANIFEST).exists() or MANIFEST in _listed(folder)


def known_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of those of some files of which it is stated."""
    known = stated(folder)
    digests = {name: known[name][1] for name in names if name in known}
    return {name: digest for name, digest in digests.items() if _SHA256.fullmatch(digest)}


def verify(folder: Path, listener: Callable[[str], None] = lambda name: None) -> Verified:
    """Read every file and compare; what there is. `listener` hears each name before.

    Raises:
        ModelNotFoundError, CheckpointError: what is missing or differs, by name; or weights
            of which nothing is known.
    """
    checkpoint = open_checkpoint(folder)
    files = stated(folder)
    packed = (folder / MANIFEST).exists()
    if not files and not packed:
        raise CheckpointError(
            f"{folder} has no {HASHES}, so its {len(checkpoint.tensors):,} tensors can only be "
            "checked by their headers, which are whole: convert it again to get one"
        )
    check_files(folder, files, listener)
    weights = {info.file.name for info in checkpoint.tensors.values()}
    records = _records(checkpoint) if packed else None
    proven = set() if records is None else _prove(checkpoint, records, weights, files, listener)
    unchecked = [name for name in _names(folder) if name not in proven | files.keys()]
    if unknown := sorted(weights & set(unchecked)):
        raise CheckpointError(
            f"{', '.join(unknown)} in {folder} could not be checked, since no digest is known of "
            f"{', '.join(unchecked)}; the rest is as it was written: convert the folder again to "
            f"get a whole {HASHES}"
        )
    count = 0 if records is None else sum(len(each.checksums) for each in records.layers.values())
    return Verified(len(proven | files.keys()), count, tuple(unchecked))


def _records(checkpoint: Checkpoint) -> Records:
    records = open_records(checkpoint.path, ModelConfig.from_dict(checkpoint.config))
    assert records is not None, "the manifest is there"
    return records


def _prove(
    checkpoint: Checkpoint, records: Records, weights: set[str], files: Mapping[str, object],
    listener: Callable[[str], None],
) -> set[str]:  # fmt: skip
    """The weights of an older `pack`, of which sha256.json says nothing; those that are right.

    Experts have checksums. The trunk is right if the files that were packed come back from it.
    """
    folder = checkpoint.path
    experts = {each.file.relative_to(folder).as_posix() for each in records.layers.values()}
    if experts <= files.keys() and weights <= files.keys():
        return set()
    listener("experts, by their checksums")
    try:
        check_records(records)
    except ExpertReadError as error:
        raise CheckpointError(str(error)) from error
    if weights <= files.keys() or not all(file.sha256 for file in origin_of(records).files):
        return experts
    listener("the trunk, by what was packed")
    if (lost := first_lost(checkpoint, records)) is not None:
        raise CheckpointError(
            f"{', '.join(sorted(weights))} or {MANIFEST} in {folder} is not as it was written: "
            f"{lost} would not come back from it, {_AGAIN}"
        )
    return experts | weights


def check_files(
    folder: Path, names: Iterable[str], listener: Callable[[str], None] = lambda name: None
) -> None:
    """Compare some files with what is stated of them, where anything is.

    Raises:
        CheckpointError: one is missing or differs.
    """
    known = stated(folder)
    for name in names:
        if name in known:
            listener(name)
            _check(folder, name, *known[name])


def check_digests(folder: Path, found: Mapping[str, str]) -> None:
    """Compare digests that were computed while the files were read with those stated.

    Raises:
        CheckpointError: one differs.
    """
    for name, digest in known_digests(folder, found).items():
        if digest != found[name]:
            raise _changed(folder, name, digest)


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
        raise _changed(folder, name, digest)


def _changed(folder: Path, name: str, digest: str) -> CheckpointError:
    return CheckpointError(
        f"{name} in {folder} has another {'SHA-1' if len(digest) == 40 else 'SHA-256'} than when "
        f"it was written: its bytes have changed, {_AGAIN}"
    )


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """What sha256.json says, as it stands."""
    files = read_json(folder / HASHES).get("files")
    if isinstance(files, dict) and files and all(isinstance(one, dict) for one in files.values()):
        return files
    raise CheckpointError(f"{folder / HASHES} lists no files: convert the folder again")


def _names(folder: Path) -> list[str]:
    """Every file but the hashes themselves, and what the system hides: .DS_Store comes and goes."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    return sorted(path.as_posix() for path in shown if path != Path(HASHES))


def _entry(path: Path, digest: str | None = None) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": digest or digest_of(path, "0" * 64)}
