"""How fast a disk gives experts: a few seconds of reads, past the system's cache."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

__all__ = ["probe_disk"]

#: What one read takes: about one 4-bit expert of 30B-A3B.
READ_BYTES = 2_654_208
#: Readers at once, as while streaming.
AT_ONCE = 4
_OWN_BYTES = 256 << 20
_NOCACHE = getattr(fcntl, "F_NOCACHE", None)


def probe_disk(
    folder: Path,
    seconds: float = 3.0,
    clock: Callable[[], float] = time.monotonic,
    own_bytes: int = _OWN_BYTES,
) -> float | None:
    """Bytes a second of a folder's disk; None if nothing can be read or written there.

    The largest weight file of the folder is read at random places. Where there is none, or what
    the system holds of it in memory cannot be put aside (macOS), a file of 256 MB is written
    past that memory, read, and deleted.
    """
    try:
        with _file(folder, own_bytes) as (path, size), ThreadPoolExecutor(AT_ONCE) as readers:
            began = clock()
            works = [
                readers.submit(_read_for, path, size, seconds, clock, seed)
                for seed in range(AT_ONCE)
            ]
            read = sum(work.result() for work in works)
            return read / max(clock() - began, 1e-9)
    except OSError:
        return None


@contextmanager
def _file(folder: Path, own_bytes: int) -> Iterator[tuple[Path, int]]:
    files = [(path.stat().st_size, path) for path in folder.glob("*.safetensors")]
    size, largest = max(files, default=(0, folder))
    if size >= 8 * READ_BYTES and hasattr(os, "posix_fadvise"):
        yield largest, size
        return
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".qwen3-mlx-probe-") as file:
        _past_the_cache(file.fileno())  # what is read back must come from the disk
        block = os.urandom(READ_BYTES)  # what cannot be compressed
        for _ in range(max(1, own_bytes // READ_BYTES)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        yield Path(file.name), file.tell()


def _read_for(path: Path, size: int, seconds: float, clock: Callable[[], float], seed: int) -> int:
    """One reader, until the time is over; bytes that it read."""
    places = random.Random(seed)
    buffer = bytearray(min(READ_BYTES, size))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _past_the_cache(descriptor)
        until, read = clock() + seconds, 0
        while clock() < until:
            offset = places.randrange(max(1, size - len(buffer))) // 16384 * 16384
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, offset, len(buffer), os.POSIX_FADV_DONTNEED)
            read += os.preadv(descriptor, [buffer], offset)
        return read
    finally:
        os.close(descriptor)


def _past_the_cache(descriptor: int) -> None:
    """On macOS, reads and writes through this descriptor leave nothing in memory."""
    if _NOCACHE is not None:
        fcntl.fcntl(descriptor, _NOCACHE, 1)
