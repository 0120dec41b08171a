"""`qwen3-mlx verify`: is a converted or packed folder still what was written?"""

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
        help="check every file of a model against its SHA-256",
        description="Read every file of a folder that convert or pack wrote, or of a download in "
        "the Hugging Face cache, and compare its digest. "
        "For Qwen3-0.6B-Base, also compute the logits and the greedy text that are published, "
        "which proves this machine right. Exit status 0: all is as it should be; 2: the first "
        "file that is not is named; 1: the files are right, what this machine computes is not.",
    )
    parser.add_argument("model", metavar="DIR", help="a folder, or a name such as 4b")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Verify, naming each file on stderr while it is read."""
    from qwen3_mlx.checkpoint import open_checkpoint
    from qwen3_mlx_convert.fetching import fetch
    from qwen3_mlx_convert.golden import check, golden_for
    from qwen3_mlx_convert.verify import stated, verify

    begun = time.monotonic()
    folder = fetch(args.model)
    golden = golden_for(open_checkpoint(folder))
    if golden is None or stated(folder):
        found = verify(folder, lambda name: print(f"reading {name}", file=sys.stderr))
        print(f"{folder}: {found}, {time.monotonic() - begun:.1f} s\n{found.note}", end="")
    if golden is not None:
        print(f"computing what is published of {golden.name}", file=sys.stderr)
        print(check(folder, golden))
    return 0
