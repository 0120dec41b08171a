"""`qwen3-mlx verify`: is a converted folder still what was written?"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `verify` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "verify",
        help="check every file of a converted model against its SHA-256",
        description="Read every file of a folder that convert wrote and compare its SHA-256. "
        "Exit status 0: all are as written; 2: the first that is not is named.",
    )
    parser.add_argument("model", metavar="DIR", help="a folder, or a name such as 4b")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Verify, naming each file on stderr while it is read."""
    from qwen3_mlx_convert.fetching import fetch
    from qwen3_mlx_convert.verify import verify

    begun = time.monotonic()
    folder = fetch(args.model)
    count = verify(folder, lambda name: print(f"reading {name}", file=sys.stderr))
    print(f"{folder}: {count} files are as they were written, {time.monotonic() - begun:.1f} s")
    return 0
