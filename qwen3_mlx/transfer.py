"""One file from the hub, over a connection that may break at any byte.

The bytes go into a `.part` file beside the target. Whoever comes next, after a drop, a sleep
or a kill, asks for the rest of it (`Range`), compares the digest of the whole with the one that
the hub announced, and only then gives it its name. huggingface_hub's own downloader throws away
what it has when its process ends, and compares only sizes; of it the session is used, which
knows proxies, certificates and tokens.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any, Literal, TypeAlias

from qwen3_mlx.errors import DownloadPaused, HubError
from qwen3_mlx.hub_errors import endpoint, retry_after

__all__ = ["Remote", "digest_of", "fetch", "part_of"]

#: Seconds before the next try, after so many in a row that brought no byte: a minute in all,
#: which is more than a Mac that wakes up needs to find its network.
DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
#: A longer wait than this is the person's decision.
LONGEST_WAIT = 120.0
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_CHUNK = 1 << 20

#: Hears what is done with the file, and the bytes so far.
Teller: TypeAlias = Callable[[Literal["reading", "waiting", "checking"], int], None]


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of a model: `digest` is its SHA-256, or for small files git's SHA-1."""

    model: str
    commit: str
    name: str
    size: int
    digest: str

    @property
    def url(self) -> str:
        """Where its bytes are."""
        from huggingface_hub import hf_hub_url

        url: str = hf_hub_url(self.model, self.name, revision=self.commit, endpoint=endpoint())
        return url


def part_of(target: Path) -> Path:
    """Where the bytes are kept until they are complete."""
    return target.with_name(f"{target.name}.part")


def fetch(
    remote: Remote,
    target: Path,
    tell: Teller = lambda doing, done: None,
    stop: Event | None = None,
) -> None:
    """Bring a file to `target`, from where an earlier try stopped.

    `tell` hears what is being done ("reading", "waiting", "checking") and the bytes so far.

    Raises:
        DownloadPaused: `stop` was set; what came is kept.
        HubError: the bytes are not those that the hub announced; they were deleted.
        OSError, or what huggingface_hub raises: it cannot go on; what came is kept.
    """
    stop = stop or Event()
    part = part_of(target)
    failures = 0
    while (done := _size(part)) != remote.size:
        try:
            _read_on(remote, part, done, tell, stop)
        except (DownloadPaused, _WriteError):
            raise
        except Exception as error:
            # Which HTTP client this is, is huggingface_hub's choice and has changed before:
            # whatever it raises while bytes come is a connection that broke.
            failures = failures + 1 if _size(part) <= done else 1
            wait = _patience(error, failures)
            if wait is None:
                raise
            tell("waiting", _size(part))
            if stop.wait(wait):
                raise DownloadPaused(remote.model) from None
    tell("checking", remote.size)
    if digest_of(part, remote.digest) != remote.digest:
        part.unlink()
        raise HubError(
            f"the bytes of {remote.name} are not those that the hub announced (their digest is "
            f"not {remote.digest[:12]}…), so they were deleted; run the same command again"
        )
    os.replace(part, target)


class _WriteError(OSError):
    """The disk's fault, not the network's."""


def _read_on(remote: Remote, part: Path, done: int, tell: Teller, stop: Event) -> None:
    """One request, for everything from byte `done`."""
    from huggingface_hub import get_session

    tools: Any = import_module("huggingface_hub.utils")
    headers: dict[str, str] = tools.build_hf_headers(library_name="qwen3-mlx")
    headers["Accept-Encoding"] = "identity"  # ranges of what is stored, not of a gzip of it
    if 0 < done < remote.size:
        headers["Range"] = f"bytes={done}-"
    session: Any = get_session()
    with session.stream("GET", remote.url, headers=headers, timeout=30) as response:
        if response.status_code >= 400:
            response.read()
        tools.hf_raise_for_status(response)
        begins = _begins(response)
        if begins != done:  # the whole file instead of the rest of it, or a part too long
            done = 0
            if begins:
                raise ConnectionError(f"{remote.name} came from byte {begins:,}")
        with _opened(part, done) as file:
            for piece in response.iter_bytes():  # as they come: a drop loses nothing
                done += _write(file, piece)
                tell("reading", done)
                if stop.is_set():
                    raise DownloadPaused(remote.model)
            _flush(file)
    if done > remote.size:
        part.unlink()
        raise HubError(
            f"{remote.name} is longer than the {remote.size:,} bytes of the hub's list, so it was "
            "deleted; run the same command again"
        )
    if done < remote.size:
        raise ConnectionError(f"{remote.name} ended after {done:,} of {remote.size:,} bytes")


def _patience(error: Exception, failures: int) -> float | None:
    """Seconds until the next try; None if there is no sense in one."""
    if isinstance(error, HubError) or failures > len(DELAYS):
        return None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None and status not in _TRANSIENT:
        return None
    stated = retry_after(error)
    wait = DELAYS[failures - 1] if stated is None else stated
    return wait if wait <= LONGEST_WAIT else None


def _begins(response: Any) -> int:
    """The first byte of what is sent."""
    if response.status_code != 206:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None:
        raise ConnectionError("a part of a file without a Content-Range")
    return int(match[1])


def _opened(part: Path, done: int) -> Any:
    """The part file, cut to what is certain."""
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.ftruncate(descriptor, done)
        os.lseek(descriptor, done, os.SEEK_SET)
    except OSError as error:
        raise _as_write_error(error, part) from error
    return os.fdopen(descriptor, "wb", buffering=0)


def _write(file: Any, piece: bytes) -> int:
    view = memoryview(piece)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _as_write_error(error, file.name) from error
    return len(piece)


def _flush(file: Any) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise _as_write_error(error, file.name) from error


def _as_write_error(error: OSError, path: Any) -> _WriteError:
    return _WriteError(error.errno, error.strerror, str(path))


def _size(part: Path) -> int:
    """Bytes that are there; -1 for none, so that an empty file is made too."""
    return part.stat().st_size if part.exists() else -1


def digest_of(path: Path, like: str) -> str:
    """The digest of a file: SHA-256, or where `like` is shorter what git calls the file.

    That is the SHA-1 of its length and its bytes; the hub states it for small files.
    """
    with path.open("rb") as file:
        if len(like) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        begun = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        while piece := file.read(_CHUNK):
            begun.update(piece)
        return begun.hexdigest()
