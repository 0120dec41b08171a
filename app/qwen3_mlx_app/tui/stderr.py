"""Keep the screen whole: what C code writes to file descriptor 2 goes to a log instead.

Textual draws on `sys.__stderr__`, so that becomes a duplicate of the real one. Enter this
before Textual is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["log_path", "stderr_to"]


def log_path() -> Path:
    """Where the log is kept: the place that the system has for such files."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Logs" / "qwen3-mlx" / "chat.log"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "qwen3-mlx" / "chat.log"


@contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Point file descriptor 2 at a file; a folder that cannot be written to is no reason to stop.

    Each run starts the file anew: it is for the last session, and must not grow.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    screen = os.dup(2)
    kept = sys.__stderr__
    sys.__stderr__ = os.fdopen(screen, "w", encoding="utf-8")  # type: ignore[misc]
    os.dup2(log, 2)
    os.close(log)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(screen, 2)
        assert sys.__stderr__ is not None
        sys.__stderr__.close()
        sys.__stderr__ = kept  # type: ignore[misc]
