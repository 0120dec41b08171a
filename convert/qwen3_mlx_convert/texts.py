"""Text to measure or calibrate with, as token ids of the model it is for."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.errors import OptionError
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["BUILTIN", "read_text", "token_rows"]

#: The name of the text that comes with this package.
BUILTIN = "builtin"


def read_text(name: str) -> str:
    """The text of a UTF-8 file, or the built-in one: prose, chat, code and sums, in English
    and Chinese.

    Raises:
        OptionError: the file cannot be read, or is no text.
    """
    if name == BUILTIN:
        return (files("qwen3_mlx_convert") / "calibration.txt").read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"{name} cannot be read as UTF-8 text ({error}): give a text file"
        ) from error


def token_rows(
    folder: Path, vocab_size: int, text: str, length: int, most: int
) -> NDArray[np.int64]:
    """The text as rows of `length` token ids, `most` tokens at the utmost, (B, length).

    A text shorter than that is one row. What is left at the end of a longer one is not used.

    Raises:
        OptionError: the text has fewer than 16 tokens.
        CheckpointError: the folder has no tokenizer.
    """
    ids = Tokenizer.from_folder(folder, vocab_size).encode(text)
    if len(ids) < 16:
        raise OptionError(f"the text has {len(ids)} tokens: give at least 16, better 10,000")
    length = min(length, len(ids), most)
    count = min(len(ids), most) // length
    return np.array(ids[: count * length], dtype=np.int64).reshape(count, length)
