"""Bytes that are on the disk when a function returns, and the steps at which a test may stop us.

Every flush, journal line and rename goes through here, and says its name before and after. A
test sets `on_step` to kill the process at any of them; nothing else ever does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "append_line",
    "copy_file",
    "flush",
    "flush_folder",
    "json_text",
    "rename",
    "replace_text",
    "write_at",
    "write_json",
    "write_text",
]

#: Called with "NAME before" and "NAME after"; see the module.
on_step: Callable[[str], None] | None = None

#: macOS's fsync leaves the bytes in the drive's own cache; this does not.
_FULL = getattr(fcntl, "F_FULLFSYNC", None)


def flush(descriptor: int, name: str) -> None:
    """Return when the file's bytes are on the disk. `name` is for `on_step`."""
    with _step(f"fsync {name}"):
        if _FULL is not None:
            try:
                fcntl.fcntl(descriptor, _FULL)
                return
            except OSError:
                pass  # a network or foreign file system knows only the ordinary one
        os.fsync(descriptor)


def flush_folder(folder: Path, name: str) -> None:
    """Return when the folder's entries are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush(descriptor, name)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a folder or file its final name, durably."""
    with _step("rename"):
        os.rename(source, target)
    flush_folder(target.parent, "parent")


def append_line(descriptor: int, value: dict[str, Any]) -> None:
    """Add one line of JSON to a journal, durably."""
    with _step("journal"):
        write_at(descriptor, json.dumps(value).encode() + b"\n", None)
    flush(descriptor, "journal")


def write_at(descriptor: int, data: bytes | memoryview, offset: int | None) -> None:
    """Write all of `data`, at `offset` or at the file's own position."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        if offset is None:
            done += os.write(descriptor, view[done:])
        else:
            done += os.pwrite(descriptor, view[done:], offset + done)


def write_text(path: Path, text: str) -> None:
    """A text file, on the disk when this returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        flush(file.fileno(), path.name)


def replace_text(path: Path, text: str) -> None:
    """A text file that is the old one or the new one, never half of it."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        write_text(fresh, text)
        rename(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON, on the disk when this returns."""
    write_text(path, json_text(value))


def json_text(value: dict[str, Any]) -> str:
    """JSON as it stands in the files of a model folder."""
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def copy_file(source: Path, target: Path) -> None:
    """Contents only: a file of the hub's cache is a link, and its mode is its owner's affair."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        flush(file.fileno(), target.name)


@contextmanager
def _step(name: str) -> Iterator[None]:
    if on_step is not None:
        on_step(f"{name} before")
    yield
    if on_step is not None:
        on_step(f"{name} after")
