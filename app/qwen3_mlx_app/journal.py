"""A file of lines that grows by whole lines only, whatever happens to its writer.

Each line is on the disk before the next one is begun. A writer that was killed leaves at most one
torn line, the last, and the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any

from qwen3_mlx.errors import OptionError

__all__ = ["Journal", "json_line"]


def json_line(value: dict[str, Any]) -> str:
    """One line of JSON, readable where UTF-8 can say it: half characters are spelled out.

    >>> json_line({"id": chr(0xD800)})
    '{"id": "\\\\ud800"}\\n'
    """
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        text = json.dumps(value)
    return f"{text}\n"


class Journal:
    """The answers of `ask --jsonl`, one line each, numbered from 1 in "n".

    Args:
        path: the file; it is made if it is not there.

    Raises:
        OptionError: it cannot be written, another process writes it, or it is another file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.keys: list[str] = []
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o666)
            try:
                self._open()
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise OptionError(f"cannot write {path}: {error.strerror}") from error

    @property
    def count(self) -> int:
        """Lines so far."""
        return len(self.keys)

    def append(self, line: dict[str, Any]) -> None:
        """Add a line, and return when the disk has it.

        Raises:
            OptionError: the disk is full or broken; the lines before are kept.
        """
        data = json_line(line).encode()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise OptionError(
                f"{self._path} cannot be written ({error.strerror}): its {self.count:,} answers "
                "are kept, and the same command goes on from there"
            ) from error
        self._end += len(data)
        self.keys.append(str(line["key"]))

    def close(self) -> None:
        """Let others write."""
        os.close(self._file)

    def _open(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OptionError(
                f"{self._path} is being written by another run: wait for it, or choose another file"
            ) from error
        self._end = self._read()
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)
        folder = os.open(os.path.dirname(os.path.abspath(self._path)), os.O_RDONLY)
        try:
            os.fsync(folder)  # the file's name, in case it is new
        finally:
            os.close(folder)

    def _read(self) -> int:
        """Check the lines and keep their keys; the length of what is whole, in bytes."""
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            for line in lines:
                key = _key(line, len(self.keys) + 1)
                if key is None and _torn(line, len(self.keys) + 1) and not lines.read(1):
                    break
                if key is None:
                    raise OptionError(
                        f"line {len(self.keys) + 1} of {self._path} is not from `ask --jsonl`: "
                        "nothing was changed; choose another file"
                    )
                self.keys.append(key)
                end += len(line)
        return end


def _key(line: bytes, number: int) -> str | None:
    """The key of a line, None if it is not whole or not the line of this number."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("n") != number:
        return None
    key = value.get("key")
    return key if isinstance(key, str) else None


def _torn(line: bytes, number: int) -> bool:
    """Whether this may be left of the line of this number.

    A file of another kind may have only one line too, which must not be cut off.
    """
    begins = b'{"n": %d, "key": "' % number
    return line.startswith(begins) or begins.startswith(line) or not line.strip(b"\0")
