"""Errors and early ends in words, for the transcript and for plain mode."""

from __future__ import annotations

from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import Turn

__all__ = ["describe", "why_ended"]


def describe(error: Exception) -> str:
    """Our own errors are sentences; any other needs its name to make sense.

    >>> describe(ValueError("no digits"))
    'ValueError: no digits'
    """
    text = str(error)
    if isinstance(error, Qwen3Error) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def why_ended(turn: Turn) -> str:
    """Why an answer ended before its end; "" where it came to one."""
    match turn.finish:
        case "cancelled":
            return t("stopped")
        case "timeout":
            return t("out of time")
        case "length":
            return t("cut: out of tokens")
        case "repetition":
            return t("ended: it went round in circles")
        case _:
            return ""
