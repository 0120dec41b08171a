"""A folder that appears whole or not at all, and work on it that goes on after a kill.

Beside the target NAME stand, while the work lasts,

    .NAME.partial/   what becomes NAME by one rename
    .NAME.journal    one line of JSON per fact; a fact is written after what it speaks of is on
                     the disk

The names follow from the target, so the same command finds them again. The first fact is the
fingerprint of the plan: another source or recipe starts anew. The journal is locked by the
kernel while a process works on it, and a lock dies with its process, so nothing stale remains.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import CheckpointError, OutputExistsError, Qwen3Error, UnsupportedModelError
from qwen3_mlx_convert import durable

__all__ = ["Work", "journal_of", "refuse_existing", "staged", "transaction"]


class Work:
    """What is being written: its folder, and what the journal knows of it."""

    def __init__(self, target: Path, fingerprint: str, journal: int) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.partial"
        self._journal = journal
        self._fingerprint = fingerprint
        self.facts = self._read()

    @property
    def committed(self) -> bool:
        """Whether an earlier run came as far as the rename, after which its folder is gone."""
        named = os.path.lexists(self.target) and not self.folder.exists()
        return bool(self.facts.get("commit")) and named

    def note(self, **facts: Any) -> None:
        """Add facts to the journal. What they speak of must be on the disk."""
        durable.append_line(self._journal, facts)
        self.facts |= facts

    def begin(self) -> None:
        """Make the folder, or keep the one that an earlier run of the same plan left."""
        if self.facts and self.folder.is_dir():
            return
        _remove(self.folder)
        os.lseek(self._journal, 0, os.SEEK_SET)  # it has been read to its end
        os.ftruncate(self._journal, 0)
        self.folder.mkdir()
        durable.flush_folder(self.folder.parent, "parent")
        self.facts = {}
        self.note(plan=self._fingerprint)

    def commit(self) -> None:
        """Give the folder its final name."""
        refuse_existing(self.target)
        os.chmod(self.folder, 0o777 & ~_umask())
        durable.flush_folder(self.folder, "folder")
        self.note(commit=True)
        durable.rename(self.folder, self.target)

    def _read(self) -> dict[str, Any]:
        """The facts of this plan; a last line that was cut off by a crash is dropped."""
        os.lseek(self._journal, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._journal), "rb") as file:
            data = file.read()
        facts: dict[str, Any] = {}
        whole = 0
        for line in data.splitlines(keepends=True):
            try:
                fact = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(fact, dict):
                break
            facts |= fact
            whole += len(line)
        os.ftruncate(self._journal, whole)
        os.lseek(self._journal, whole, os.SEEK_SET)
        return facts if facts.get("plan") == self._fingerprint else {}


@contextmanager
def transaction(
    target: Path, fingerprint: str, needed_bytes: int, *, resumable: bool = True
) -> Iterator[Work]:
    """Work on `target`; leaving the block without an error commits it.

    An interruption of any kind keeps what is done, and the same command goes on from there.
    Only a fault of the source or a full disk, after which nothing could go on, removes it; so does
    any error of work that is not `resumable`.

    Raises:
        OutputExistsError: `target` is there already.
        Qwen3Error: another process writes it, the disk has fewer than `needed_bytes` free, or
            cannot be written.
    """
    target = Path(os.path.abspath(target))
    path = journal_of(target)
    if not path.exists():
        refuse_existing(target)
    made = _make_parents(target.parent)
    descriptor = _lock(path, target)
    keep = True
    try:
        work = Work(target, fingerprint, descriptor)
        if not work.committed:
            _prepare(work, needed_bytes)
            yield work
            work.commit()
        else:
            yield work
        keep = False
    except (CheckpointError, UnsupportedModelError, _NoRoomError):
        keep = False
        _remove(target.parent / f".{target.name}.partial")
        raise
    except OutputExistsError as error:  # somebody took the name in the meantime
        if not resumable:
            raise
        kept = "what is done is kept, and then the same command goes on from there"
        raise OutputExistsError(f"{error}; {kept}") from error
    except OSError as error:
        raise _unwritable(target, error, resumable) from error
    finally:
        if keep and not resumable:
            keep = False
            _remove(target.parent / f".{target.name}.partial")
        if not keep:
            path.unlink(missing_ok=True)
            for folder in made:
                _remove_empty(folder)
        os.close(descriptor)


@contextmanager
def staged(target: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well; after any error nothing remains."""
    with transaction(target, secrets.token_hex(), needed_bytes, resumable=False) as work:
        yield work.folder


def journal_of(target: Path) -> Path:
    """The journal of work on `target`; it is there only while the work is not finished."""
    target = Path(os.path.abspath(target))
    return target.parent / f".{target.name}.journal"


def refuse_existing(target: Path) -> None:
    """Raise OutputExistsError if anything, a dangling link too, has the target's name."""
    if os.path.lexists(target):
        raise OutputExistsError(
            f"{target} exists already and was not touched: remove it, or choose another folder "
            "with -o"
        )


class _NoRoomError(Qwen3Error):
    """Told before anything was written."""


def _prepare(work: Work, needed: int) -> None:
    refuse_existing(work.target)
    resumes = bool(work.facts) and work.folder.is_dir()
    needed -= _allocated(work.folder) if resumes else 0
    free = shutil.disk_usage(work.target.parent).free
    if free < needed:
        kind = Qwen3Error if resumes else _NoRoomError
        done = "what was done before is kept" if resumes else "nothing was written"
        raise kind(
            f"the result needs {format_bytes(needed)} and {work.target.parent} has "
            f"{format_bytes(free)} free; {done}: free space or choose another disk with -o"
        )
    work.begin()


def _lock(path: Path, target: Path) -> int:
    """The journal, open and locked; it is made if need be."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _unwritable(target, error, False) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
            os.close(descriptor)  # whoever had it has finished and removed it: try again
        except BlockingIOError as error:
            os.close(descriptor)
            raise Qwen3Error(
                f"another process is writing {target} at this moment: wait for it, or choose "
                "another folder with -o"
            ) from error


def _unwritable(target: Path, error: OSError, kept: bool) -> Qwen3Error:
    if not kept:
        return Qwen3Error(
            f"{target} could not be written ({error.strerror or error}); what was begun is "
            "removed: free space or choose another folder with -o"
        )
    advice = "choose another folder with -o"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free space and run the same command again, it goes on where it stopped"
    return Qwen3Error(
        f"{target} could not be written ({error.strerror or error}); what was done is kept in "
        f".{target.name}.partial beside it: {advice}"
    )


def _allocated(folder: Path) -> int:
    """Bytes that a folder takes on the disk; files that are not yet filled count what they have."""
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _umask() -> int:
    """The permissions that new folders must not have; asking means setting it twice."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove_empty(folder: Path) -> None:
    """Remove a folder that we made, unless something is in it, as there is after success."""
    try:
        folder.rmdir()
    except OSError:
        return


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
