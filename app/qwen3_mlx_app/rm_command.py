"""`qwen3-mlx rm`: free the space of a model."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import ModelNotFoundError, OptionError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `rm` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "rm",
        help="delete a model from this machine",
        description="Delete a model that `qwen3-mlx models` lists as being on this machine, or "
        "what an unfinished download left.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name from `qwen3-mlx models`")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Delete it; never a folder from elsewhere."""
    folders = _folders(args.model)
    sizes = [_size(folder) for folder in folders]
    for folder, size in zip(folders, sizes, strict=True):
        link = " (a link: what it points to stays)" if folder.is_symlink() else ""
        print(f"{folder}{link}: {format_bytes(size)}")
    if not args.yes and not _agreed():
        raise OptionError("nothing was deleted: pass --yes to delete without being asked")
    for folder in folders:
        _delete(folder)
    print(f"deleted, {format_bytes(sum(sizes))} are free again")
    return 0


def _folders(name: str) -> list[Path]:
    """What belongs to the model in our folder and in the Hugging Face cache."""
    from qwen3_mlx import catalogue, hub

    entry = catalogue.find(name)
    wanted = {name, entry.hub_id if entry and entry.hub_id else name}
    ours, cache = hub.models_dir(), hub.cache_dir()
    repos = {cache / f"models--{each.replace('/', '--')}" for each in wanted}
    found = {path for known, path in hub.local_models() if known in wanted}
    folders = {path for path in found if path.parent == ours} | {
        repo for repo in repos if repo.is_dir() and repo.parent == cache
    }
    if folders:
        return sorted(folders)
    if found:
        raise ModelNotFoundError(
            f"{name} is in LM Studio's folder, {min(found)}: delete it in LM Studio"
        )
    if entry is not None and not entry.hub_id:
        raise ModelNotFoundError(f"{name} is a part of the program: there is nothing to delete")
    made = _conversion(name)
    raise ModelNotFoundError(
        f"no model called {name!r} is in {ours} or {cache}: "
        + (f"its conversion is, `qwen3-mlx rm {made}`" if made else "`qwen3-mlx models` lists them")
    )


def _conversion(name: str) -> str | None:
    """What a model that is here only as our own conversion is called."""
    from qwen3_mlx import hub

    try:
        folder = hub.find(name)
    except ModelNotFoundError:
        return None
    return folder.name if folder is not None and folder.parent == hub.models_dir() else None


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input("delete? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False


def _delete(folder: Path) -> None:
    try:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    except OSError as error:
        raise OptionError(
            f"{error.filename} cannot be deleted: {error.strerror}; a part of {folder} may be left"
        ) from error


def _size(folder: Path) -> int:
    """Bytes on the disk; links take none."""
    if folder.is_symlink():
        return 0
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in found)
