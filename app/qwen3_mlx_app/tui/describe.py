"""An error as a sentence, for the transcript and for plain mode."""

from __future__ import annotations

from qwen3_mlx.errors import Qwen3Error

__all__ = ["describe"]


def describe(error: Exception) -> str:
    """Our own errors are sentences; any other needs its name to make sense.

    >>> describe(ValueError("no digits"))
    'ValueError: no digits'
    """
    text = str(error)
    if isinstance(error, Qwen3Error) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
