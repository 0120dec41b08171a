"""Where the details of a fault go: a log whose path the screen shows."""

from __future__ import annotations

import time
import traceback

from qwen3_mlx.errors import EngineError, Qwen3Error
from qwen3_mlx_app.tui.stderr import log_path

__all__ = ["has_details", "log_fault"]


def has_details(error: Exception) -> bool:
    """Whether the log says more than the sentence: for faults, not for wrong wishes."""
    return isinstance(error, EngineError) or not isinstance(error, Qwen3Error)


def log_fault(error: Exception) -> None:
    """Append the traceback to the log; a log that cannot be written is no second fault."""
    if not has_details(error):
        return
    lines = traceback.format_exception(error)
    try:
        path = log_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {''.join(lines)}")
    except OSError:
        return
