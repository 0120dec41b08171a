"""`qwen3-mlx pack` and `unpack`: the two layouts of a mixture of experts on disk."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import OptionError
from qwen3_mlx_app import options

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "add_unpack_parser", "run"]

_PACK = """\
Write the experts of a mixture as records: one aligned run of bytes for each expert instead of
nine pieces, with a checksum. Records cost less to read under --memory-limit, and load only in
qwen3-mlx. The stacked folder, which mlx-lm reads too, comes back byte for byte with unpack."""

_EXAMPLES = """\
examples:
  qwen3-mlx pack ./Qwen3-30B-A3B-q4                    into ./Qwen3-30B-A3B-q4-records
  qwen3-mlx pack ./Qwen3-30B-A3B-q4 --delete-source    and the stacked folder goes
  qwen3-mlx pack --verify ./Qwen3-30B-A3B-q4-records   read it all, compare digests
  qwen3-mlx unpack ./Qwen3-30B-A3B-q4-records -o ./Qwen3-30B-A3B-q4
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `pack` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "pack", help="store the experts of a mixture as records, which read faster",
        description=_PACK, epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )  # fmt: skip
    _add_folders(parser)
    parser.add_argument(
        "--verify", action="store_true", help="only check a folder that is packed already"
    )
    parser.set_defaults(run=run, packs=True)
    return parser


def add_unpack_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `unpack` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "unpack", help="restore the folder that was packed, byte for byte",
        description="Restore the folder that was packed, byte for byte.", epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )  # fmt: skip
    _add_folders(parser)
    parser.set_defaults(run=run, packs=False, verify=False)
    return parser


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to read")
    parser.add_argument(
        "-o", "--output", metavar="DST", type=Path,
        help="the folder to write; it must not exist (default: beside DIR)",
    )  # fmt: skip
    parser.add_argument(
        "--delete-source", action="store_true",
        help="delete DIR once the result has been verified",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Pack, unpack or verify; the exit status."""
    from qwen3_mlx_convert.packing import pack_folder, unpack_folder

    folder: Path = args.folder
    if args.verify:
        return _verify(folder)
    target = args.output or _default_target(folder, packs=args.packs)
    work = pack_folder if args.packs else unpack_folder
    began = time.monotonic()
    progress = _lines("packed" if args.packs else "unpacked")
    report = work(folder, target, delete_source=args.delete_source, progress=progress)
    files = "1 file" if report.files == 1 else f"{report.files} files"
    kept = f"{folder} is deleted" if report.deleted else f"{folder} is still there"
    print(
        f"{report.target}: {format_bytes(report.weight_bytes)} in {files}, verified, "
        f"{time.monotonic() - began:.1f} s; {kept}"
    )
    return 0


def _verify(folder: Path) -> int:
    from qwen3_mlx.checkpoint import read_config
    from qwen3_mlx.experts.records import MANIFEST
    from qwen3_mlx_convert.verify import verify

    read_config(folder)  # no folder, or no model, is told first
    if not (folder / MANIFEST).exists():
        raise OptionError(f"{folder} has no records: --verify is for folders that `pack` made")
    found = verify(folder)
    print(f"{folder}: {found}\n{found.note}", end="")
    return 0


def _default_target(folder: Path, *, packs: bool) -> Path:
    """DIR-records, and back."""
    folder = folder.resolve()
    name = folder.name
    if not name:
        raise OptionError(f"nothing can be written beside {folder}: name a folder with -o")
    if packs:
        return folder.with_name(f"{name}-records")
    plain = name.removesuffix("-records")
    return folder.with_name(plain if plain != name else f"{name}-stacked")


def _lines(what: str) -> Callable[[int, int], None]:
    """A line on stderr at most every five seconds."""
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= 5:
            said = time.monotonic()
            print(f"{what} {100 * done / max(1, total):.0f} %", file=sys.stderr)

    return tell
