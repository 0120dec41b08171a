"""`qwen3-mlx rm`: see `pull_command`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qwen3_mlx_app.pull_command import remove

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `rm` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "rm",
        help="delete a model from this machine",
        description="Delete a model that `qwen3-mlx models` lists as being on this machine.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name from `qwen3-mlx models`")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=remove)
    return parser
