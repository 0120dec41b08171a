"""Pages and pictures for files that the command line names."""

from __future__ import annotations

import os
from pathlib import Path

from qwen3_mlx.errors import OptionError

__all__ = ["check", "write"]


def check(*paths: Path | None) -> None:
    """Whether files could be written there, before work is done for them.

    Raises:
        OptionError: one of the folders is not there, or is not to be written to.
    """
    for path in paths:
        if path is None:
            continue
        folder = path.absolute().parent
        if not folder.is_dir():
            raise OptionError(f"{folder} is no folder: nothing was done")
        if path.is_dir():
            raise OptionError(f"{path} is a folder, and a file is to be written: nothing was done")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise OptionError(f"{path} cannot be written: nothing was done; name another place")


def write(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        OptionError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}") from error
