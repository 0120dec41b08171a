"""Who writes chats: each instance holds a lock on a file of its own, for as long as it lives.

The number of a process alone does not tell: after a power cut, another one has it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["Writers"]

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Writers:
    """The instances that have a database open; this one among them until `leave`.

    Args:
        database: its file; None for one in memory, which nobody else has.
    """

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._held: int | None = None
        if database is not None:
            with suppress(OSError):  # a disk that takes no file; then others do not see this one
                self._held = self._lock(os.open(self._file(os.getpid()), _FLAGS, 0o600))

    def _lock(self, descriptor: int) -> int | None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # this process has the database open twice, and the first one holds it
            os.close(descriptor)
            return None
        return descriptor

    def lives(self, pid: int) -> bool:
        """Whether the instance with this process number still has the database open."""
        if self._database is None:
            return False
        try:
            descriptor = os.open(self._file(pid), os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:  # it has died without a word
            with suppress(OSError):
                os.unlink(self._file(pid))
            return False
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        """This instance writes no more. May be called twice."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(OSError):
                os.unlink(self._file(os.getpid()))
            os.close(held)

    def _file(self, pid: int) -> Path:
        assert self._database is not None
        return self._database.with_name(f"{self._database.name}-{pid}.writer")
