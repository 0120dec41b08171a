"""The JSON files beside a tokenizer and a template, read in the one way that both need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen3_mlx.errors import CheckpointError

__all__ = ["read_json", "read_text", "token_text"]


def read_text(file: Path) -> str:
    """The text in the file.

    Raises:
        CheckpointError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{file} is not UTF-8 ({error}): download the checkpoint again"
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """The object in the file; a file that is not there is an empty one.

    Raises:
        CheckpointError: it is not JSON.
    """
    if not file.is_file():
        return {}
    try:
        value = json.loads(read_text(file))
    except ValueError as error:
        raise CheckpointError(
            f"{file} is not JSON ({error}): download the checkpoint again"
        ) from error
    return value if isinstance(value, dict) else {}


def token_text(token: Any) -> str | None:
    """A special token in a config is a string, or an object around one.

    >>> token_text({"content": "<|im_end|>"})
    '<|im_end|>'
    """
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None
