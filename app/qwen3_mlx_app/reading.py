"""Text from outside, with one sentence where it is none."""

from __future__ import annotations

from qwen3_mlx.errors import PromptError

__all__ = ["decoded", "file"]


def file(path: str, hint: str = "") -> str:
    """The text of a file; `hint` ends the sentence about one that is not there.

    Raises:
        PromptError: it cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as stream:
            return decoded(stream.read(), path)
    except OSError as error:
        told = hint if isinstance(error, FileNotFoundError) else ""
        raise PromptError(f"cannot read the file {path}: {error.strerror}{told}") from error


def decoded(data: bytes, source: str) -> str:
    """The text that UTF-8 bytes spell.

    Raises:
        PromptError: they are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{source} is not UTF-8 text (byte {error.start}): pass a text file"
        ) from error
