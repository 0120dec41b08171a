"""The clipboard, also in terminals that ignore OSC 52: macOS's own Terminal is one of them."""

from __future__ import annotations

import shutil
import subprocess

__all__ = ["copy_with_pbcopy"]


def copy_with_pbcopy(text: str) -> bool:
    """Put the text on the Mac's clipboard; False where there is no pbcopy or it fails."""
    program = shutil.which("pbcopy")
    if program is None:
        return False
    try:
        subprocess.run([program], input=text.encode(), check=True, timeout=2)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
