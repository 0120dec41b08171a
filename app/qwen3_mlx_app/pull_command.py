"""`qwen3-mlx pull`: get a model's files, or go on getting them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx_app import options

if TYPE_CHECKING:
    from qwen3_mlx.checkpoint import Checkpoint

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx pull 4b                            Qwen/Qwen3-4B, as published
  qwen3-mlx pull mlx-community/Qwen3-4B-4bit   any Qwen3 of the hub, by its id
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `pull` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "pull",
        help="download a model, or go on with a download",
        description="Download a model into the Hugging Face cache. What is there is not fetched "
        "again; a download that broke off, or that was stopped with ^C, goes on where it was. "
        "Every file is compared with the digest that the hub states for it.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a name such as 4b, or a hub id")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Download once, however many ask for it at the same time."""
    from qwen3_mlx.checkpoint import open_checkpoint
    from qwen3_mlx_convert.fetching import fetch

    folder = fetch(args.model, source=True)
    checkpoint = open_checkpoint(folder)
    print(f"{folder}: {format_bytes(_weight_bytes(checkpoint))} of weights")
    if "quant_method" in (checkpoint.config.get("quantization_config") or {}):  # AWQ, GPTQ, FP8
        print(f"To chat with it, first:  qwen3-mlx convert {args.model} --q4")
        return 0
    print(f"Chat with it:  qwen3-mlx chat -m {args.model}")
    if "quantization" not in checkpoint.config:
        print(f"A third of the memory:  qwen3-mlx convert {args.model} --q4")
    return 0


def _weight_bytes(checkpoint: Checkpoint) -> int:
    """All of them, experts in records too."""
    from qwen3_mlx.experts.records import MANIFEST, open_records
    from qwen3_mlx.model.config import ModelConfig

    if not (checkpoint.path / MANIFEST).exists():
        return checkpoint.weight_bytes
    records = open_records(checkpoint.path, ModelConfig.from_dict(checkpoint.config))
    return checkpoint.weight_bytes + (records.nbytes if records else 0)
