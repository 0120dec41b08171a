"""Keeping a Mac awake while something long goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_awake"]


@contextmanager
def keep_awake() -> Iterator[None]:
    """No idle sleep on macOS while the block runs; elsewhere nothing.

    `caffeinate -w` watches this process, so that a kill leaves no helper behind.
    """
    program = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if program is None:
        yield
        return
    helper = subprocess.Popen([program, "-i", "-w", str(os.getpid())], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        helper.terminate()
        helper.wait()
