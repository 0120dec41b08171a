"""The agent's log: small, and never a reason to stop.

It says what the agent did, never what anybody asked. A disk that is full costs lines, which are
counted; a file that has grown is moved aside once, so two files of `most_bytes` are all.
"""

from __future__ import annotations

import os
import threading
import time

__all__ = ["Log"]


class Log:
    """Lines with their time, appended to a file that only its owner can read."""

    def __init__(self, path: str, most_bytes: int = 1_000_000) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._lock = threading.Lock()
        self.lost = 0

    def __call__(self, line: str) -> None:
        """Append a line, or count it as lost."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with self._lock:
            try:
                self._append(f"{stamp} {line}\n".encode(errors="replace"))
            except OSError:
                self.lost += 1

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_size > self._most_bytes:
                os.replace(self._path, f"{self._path}.1")
            if os.write(descriptor, data) != len(data):
                self.lost += 1
        finally:
            os.close(descriptor)
