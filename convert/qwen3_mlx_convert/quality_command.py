"""`qwen3-mlx quality`: how much of a model its packing has cost, measured on text."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_mlx_convert.quality import Quality

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_TOKENS, _LENGTH = 8192, 512


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `quality` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "quality",
        help="measure a packed model against the one it was made of",
        description="Print KL divergence, top-1 agreement and perplexity of DIR against SRC on "
        "some text, and write them into DIR's model card. Both are read layer by layer, so "
        "neither has to fit into memory.",
    )
    parser.add_argument("model", metavar="DIR", help="the packed folder, or a name such as 4b")
    parser.add_argument("--against", metavar="SRC", required=True, help="what it was made of")
    parser.add_argument(
        "--text", metavar="FILE", default="builtin",
        help="UTF-8 text to measure on (default: the built-in one)",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=_TOKENS, help=f"at most (default {_TOKENS})")
    parser.add_argument("--no-card", action="store_true", help="leave the model card as it is")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write the card."""
    from qwen3_mlx.checkpoint import open_checkpoint
    from qwen3_mlx.errors import OptionError
    from qwen3_mlx.text.tokenizer import ends_every_text
    from qwen3_mlx_convert.dialects import plain_config
    from qwen3_mlx_convert.fetching import fetch
    from qwen3_mlx_convert.quality import measure
    from qwen3_mlx_convert.texts import read_text, token_rows

    if args.tokens < 16:
        raise OptionError(f"--tokens is {args.tokens}: give at least 16")
    begun = time.monotonic()
    packed = open_checkpoint(fetch(args.model))
    if ends_every_text(packed.path):
        raise OptionError(
            f"{packed.path} makes vectors, and this measures what a model predicts: compare the "
            "vectors of your texts with Qwen3.embed"
        )
    source = open_checkpoint(fetch(args.against, source=True))
    vocab = plain_config(source.config).vocab_size
    ids = token_rows(packed.path, vocab, read_text(args.text), _LENGTH, args.tokens)
    quality = measure(source, packed, ids, _say)
    if args.json:
        print(json.dumps(asdict(quality)))
    else:
        print(
            f"{packed.path} against {source.path}, {quality.tokens:,} tokens, "
            f"{time.monotonic() - begun:.1f} s\n{_text(quality)}"
        )
    if not args.no_card:
        _write_card(packed.path, quality, args.text)
    return 0


def _text(quality: Quality) -> str:
    change = 100 * (quality.perplexity / quality.source_perplexity - 1)
    return (
        f"KL divergence    {quality.kl:.5f} nats\n"
        f"top-1 agreement  {100 * quality.top1:.2f} %\n"
        f"perplexity       {quality.perplexity:.4f}, of the source "
        f"{quality.source_perplexity:.4f} ({change:+.2f} %)"
    )


def _say(done: int, total: int) -> None:
    if done % max(1, total // 10) == 0:
        print(f"{done} of {total} layers", file=sys.stderr)


_BEGIN, _END = "<!-- quality -->\n", "<!-- /quality -->\n"


def _write_card(folder: Path, quality: Quality, text: str) -> None:
    """Put the numbers into README.md, in place of older ones, and its hash into the manifest."""
    from pathlib import Path

    from qwen3_mlx.errors import OptionError
    from qwen3_mlx_convert.durable import replace_text
    from qwen3_mlx_convert.verify import renew_hash

    path = folder / "README.md"
    old = path.read_text(encoding="utf-8") if path.is_file() else f"# {folder.name}\n"
    head, _, rest = old.partition(_BEGIN)
    tail = rest.partition(_END)[2]
    name = text if text == "builtin" else Path(text).name
    table = (
        f"{_BEGIN}\n## Quality\n\nAgainst the source, on {quality.tokens:,} tokens ({name}), by "
        "`qwen3-mlx quality`:\n\n| KL divergence | top-1 agreement | perplexity | of the source |\n"
        f"| --- | --- | --- | --- |\n| {quality.kl:.5f} | {100 * quality.top1:.2f} % | "
        f"{quality.perplexity:.4f} | {quality.source_perplexity:.4f} |\n\n{_END}"
    )
    try:
        replace_text(path, (head if rest else head.rstrip() + "\n\n") + table + tail)
        renew_hash(folder, "README.md")
    except OSError as error:
        raise OptionError(
            f"the numbers could not be written into {path} ({error.strerror or error}): pass "
            "--no-card"
        ) from error
