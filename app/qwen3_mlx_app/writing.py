"""Pages and pictures for files that the command line names."""

from __future__ import annotations

from pathlib import Path

from qwen3_mlx.errors import OptionError

__all__ = ["check", "write"]


def check(*paths: Path | None) -> None:
    """Whether files could be written there, before work is done for them.

    Raises:
        OptionError: one of the folders is not there.
    """
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise OptionError(f"{path.absolute().parent} is no folder: nothing was done")


def write(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        OptionError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}") from error
