"""`qwen3-mlx pull`: get a model's files; `qwen3-mlx rm`: free their space."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import ModelNotFoundError, OptionError, Qwen3Error

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "remove", "run"]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `pull` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "pull",
        help="download a model, or go on with a download",
        description="Download a model into the Hugging Face cache; what is there is not fetched "
        "again, and a download that broke off goes on where it stopped.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name such as 4b, or a hub id")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Download once, however many ask for it at the same time."""
    from qwen3_mlx import hub
    from qwen3_mlx.awake import keep_awake
    from qwen3_mlx.checkpoint import open_checkpoint

    with _alone(hub.data_dir(), args.model), keep_awake():
        folder = hub.resolve(args.model, source=True)
    size = open_checkpoint(folder).weight_bytes
    print(f"{folder}: {format_bytes(size)} of weights")
    return 0


@contextmanager
def _alone(home: Path, name: str) -> Iterator[None]:
    """One process at a time; the next one finds the work done."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / "pull.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Qwen3Error(
            f"{home} cannot be written ({error.strerror}): set QWEN3_MLX_HOME to another folder"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another pull is at work; {name} waits for it", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove(args: argparse.Namespace) -> int:
    """Delete a model that `qwen3-mlx models` lists; never a folder from elsewhere."""
    from qwen3_mlx import catalogue, hub

    entry = catalogue.find(args.model)
    wanted = {args.model, entry.hub_id if entry else args.model}
    found = [path for name, path in hub.local_models() if name in wanted]
    if not found:
        raise ModelNotFoundError(
            f"no model called {args.model!r} is in {hub.models_dir()} or {hub.cache_dir()}: "
            "`qwen3-mlx models` lists them"
        )
    folders = [path.parents[1] if path.parent.name == "snapshots" else path for path in found]
    sizes = [_size(folder) for folder in folders]
    for folder, size in zip(folders, sizes, strict=True):
        print(f"{folder}: {format_bytes(size)}")
    if not args.yes and not _agreed():
        raise OptionError("nothing was deleted: pass --yes to delete without being asked")
    for folder in folders:
        shutil.rmtree(folder)
    print(f"deleted, {format_bytes(sum(sizes))} are free again")
    return 0


def _agreed() -> bool:
    return sys.stdin.isatty() and input("delete? [y/N] ").strip().lower() in ("y", "yes")


def _size(folder: Path) -> int:
    return sum(
        path.lstat().st_size for path in folder.rglob("*") if path.is_file() or path.is_symlink()
    )
