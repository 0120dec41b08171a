"""The limit of open files, which macOS starts with at 256 for each process."""

from __future__ import annotations

import resource
from contextlib import suppress

__all__ = ["allow_files"]

#: Files that a process may open on macOS, however high its limit says it may go (OPEN_MAX).
_MOST = 10_240


def allow_files(count: int) -> None:
    """See to it that so many files are at most half of what may be open, as far as that goes.

    Where the limit cannot be raised, opening the first file too many says so.

    >>> allow_files(100)
    >>> resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 0
    True
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or 2 * count <= soft:
        return
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if most > soft:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
