"""What every program of this machine has planned to use, so that no two plan the same memory.

A folder with one file for each claim. Its owner keeps the file locked (flock) for as long as it
lives, and the kernel lets go of a lock when a process ends, however it ends: a claim that can be
locked by somebody else is one whose owner is dead, and is swept away. Process ids are kept for
people only, since they are used again.

    with open_book(folder) as book:            # one at a time, so that two cannot both be first
        left = usable - book.claimed_bytes
        claim = book.claim(plan.total_bytes, "chat, 4b")
    ...
    claim.close()
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

__all__ = ["Book", "Claim", "Entry", "open_book", "read_book"]

#: Nobody holds the book for longer than a plan takes; a process that was stopped might.
PATIENCE_SECONDS = 2.0
_LOCK = "ledger.lock"
_numbers = count()
_log = logging.getLogger("qwen3_mlx")


@dataclass(frozen=True, slots=True)
class Entry:
    """A claim of a living process: who it is, for what, how many bytes."""

    pid: int
    what: str
    nbytes: int


class Claim:
    """Bytes that this process has planned; they are free again after `close`, or its end."""

    def __init__(self, path: Path | None = None, descriptor: int | None = None) -> None:
        self._close = weakref.finalize(self, _let_go, os.getpid(), path, descriptor)

    def close(self) -> None:
        """Give the bytes back. May be called twice."""
        self._close()


class Book:
    """The claims of everybody, while this process alone may read and write them."""

    def __init__(self, folder: Path | None, *, sweep: bool = False) -> None:
        self._folder = folder
        self.entries: tuple[Entry, ...] = ()
        if folder is not None:
            self.entries = tuple(_living(folder, sweep=sweep))

    @property
    def claimed_bytes(self) -> int:
        """Bytes of all claims."""
        return sum(entry.nbytes for entry in self.entries)

    def claim(self, nbytes: int, what: str) -> Claim:
        """Write down that this process uses so many bytes, for what a person calls `what`."""
        if self._folder is None:
            return Claim()
        path = self._folder / f"{os.getpid()}-{next(_numbers)}.claim"
        claim = Claim()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            claim = Claim(path, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            text = json.dumps({"pid": os.getpid(), "what": what, "bytes": nbytes})
            os.write(descriptor, text.encode())
        except OSError as error:
            _warn(self._folder, error)
            claim.close()
        return claim


@contextmanager
def open_book(folder: Path) -> Iterator[Book]:
    """Read the claims and perhaps add one, with nobody in between.

    A folder that cannot be written costs the knowledge of other programs, and says so once
    through logging; it raises nothing.
    """
    descriptor, alone = None, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        alone = _wait_for(descriptor, folder)
    except OSError as error:
        _warn(folder, error)
    try:
        yield Book(folder if descriptor is not None else None, sweep=alone)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def read_book(folder: Path) -> tuple[Entry, ...]:
    """The claims of living processes, for reading only: nothing is created, locked or swept."""
    return tuple(_living(folder, sweep=False)) if folder.is_dir() else ()


def _wait_for(descriptor: int, folder: Path) -> bool:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                _log.warning("the ledger of memory in %s is held by a stopped process", folder)
                return False
            time.sleep(0.01)


def _living(folder: Path, *, sweep: bool) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.claim")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            entry = _read(descriptor)
            if entry is not None:
                yield entry
        else:
            if sweep:
                with suppress(OSError):
                    path.unlink()
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> Entry | None:
    """None for what is no claim: it is not counted, and nobody is stopped by it."""
    try:
        value = json.loads(os.pread(descriptor, 65_536, 0))
        entry = Entry(int(value["pid"]), str(value["what"]), int(value["bytes"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return entry if entry.nbytes >= 0 else None


def _let_go(owner: int, path: Path | None, descriptor: int | None) -> None:
    if path is not None and descriptor is not None:
        if owner == os.getpid():  # a child that was forked has the file open, not the bytes
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            os.close(descriptor)


_warned: set[Path] = set()


def _warn(folder: Path, error: OSError) -> None:
    if folder not in _warned:
        _warned.add(folder)
        _log.warning(
            "what other programs plan of the memory is not known: %s (%s)", folder, error.strerror
        )
