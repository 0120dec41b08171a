#!/usr/bin/env python3
"""What each recipe of `convert` costs in quality, on models whose source is here.

    scripts/measure_quality.py build/tiny                       one model
    scripts/measure_quality.py build/tiny build/dense --exam 500
    scripts/measure_quality.py build/tiny --each                 4 bits for one kind of matrix
    scripts/measure_quality.py ~/models/Qwen3-0.6B --text book.txt --calibrate other.txt

For models that `training/` made, the text to measure on and the one to calibrate on are lessons
of two seeds, neither of which training used; --text and --calibrate name others. --exam adds
the accuracy on that many unseen problems of each skill, from the examination of
`qwen3-mlx eval`. Prints the Markdown tables of docs/convert.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

import qwen3_mlx
from qwen3_mlx.checkpoint import Checkpoint, open_checkpoint
from qwen3_mlx.evaluation.problems import MULTI_STEP, read_problems, select
from qwen3_mlx.evaluation.run import Mode, ask_all, score
from qwen3_mlx.model.allocation import SPEND
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_convert import convert
from qwen3_mlx_convert.forward import Floats, Weights
from qwen3_mlx_convert.quality import compared, measure
from qwen3_mlx_convert.texts import token_rows

TRAINING = Path(__file__).parents[1] / "training"
#: name -> (arguments of `convert`, whether it is calibrated)
RECIPES: dict[str, tuple[dict[str, Any], bool]] = {
    "bf16": ({"bits": None}, False),
    "--q8": ({"bits": 8}, False),
    "--q5": ({"bits": 5}, False),
    "--q4-plain": ({"bits": 4}, False),
    "--q4": ({"bits": 4, "spend": SPEND}, False),
    "--q4-plain --calibrate": ({"bits": 4}, True),
    "--q4 --calibrate": ({"bits": 4, "spend": SPEND}, True),
    "--mxfp4": ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, False),
    "--nvfp4": ({"bits": 4, "group_size": 16, "mode": "nvfp4"}, False),
}
#: How --only calls them: "q4", "q4-plain-calibrated".
SHORT = {name.removeprefix("--").replace(" --calibrate", "-calibrated"): name for name in RECIPES}


def lessons(seed: int, count: int) -> str:
    """Conversations as tiny's training draws them."""
    sys.path.insert(0, str(TRAINING))
    import education

    return "".join(part.text for lesson in education.lessons(seed, 0, count) for part in lesson)


def opened(source: Path, args: argparse.Namespace) -> tuple[Checkpoint, NDArray[np.int64]]:
    """A model, and the text to measure on as its tokens, (B, L)."""
    text = args.text.read_text() if args.text else lessons(9001, 150)
    checkpoint = open_checkpoint(source)
    config = ModelConfig.from_dict(checkpoint.config)
    return checkpoint, token_rows(source, config.vocab_size, text, 512, args.tokens)


def rows(source: Path, args: argparse.Namespace, work: Path) -> None:
    """One model, a row for each recipe."""
    checkpoint, ids = opened(source, args)
    calibrate = args.calibrate or work / "calibrate.txt"
    if not args.calibrate:
        calibrate.write_text(lessons(77, 500))
    plain: tuple[float, int] | None = None
    for name, (options, calibrated) in RECIPES.items():
        if args.only and name not in map(SHORT.get, args.only):
            continue
        target = work / "out"
        report = convert(
            source, target, **options, calibrate=str(calibrate) if calibrated else None
        )
        found = measure(checkpoint, open_checkpoint(target), ids)
        if name == "--q4-plain":
            plain = found.kl, report.target_bytes
        kl, size = plain or (0.0, 0)
        change = f"{100 * (found.kl / kl - 1):+.0f} %" if kl else ""
        more = f"{100 * (report.target_bytes / size - 1):+.1f} %" if size else ""
        print(
            f"| {source.name} | {name} | {report.target_bytes / 1e6:.2f} MB | {more} | "
            f"{found.kl:.5f} | {change} | {100 * found.top1:.2f} % | {found.perplexity:.3f} |"
            + (exam(target, args.exam) if args.exam else ""),
            flush=True,
        )
        shutil.rmtree(target)


#: Columns of the accuracy: skills and mode.
EXAM: tuple[tuple[str, tuple[str, ...], Mode], ...] = (
    ("sums direct", ("sums",), "direct"),
    ("sums thinking", ("sums",), "thinking"),
    ("multi-step thinking", MULTI_STEP, "thinking"),
)


def exam(folder: Path, count: int) -> str:
    """Accuracy on so many unseen problems of each skill."""
    said = []
    with qwen3_mlx.load(str(folder)) as model:
        for _, skills, mode in EXAM:
            problems = select(read_problems(), skills, count)
            said.append(f"{score(ask_all(model, problems, mode=mode)).share:.1%}")
    return f" {' | '.join(said)} |"


KINDS = ("v_proj", "o_proj", "k_proj", "q_proj", "embed_tokens", "lm_head", "down_proj",
         "gate_proj", "up_proj")  # fmt: skip


class OneKind(Weights):
    """A model of which the matrices of one kind have been through 4 bits."""

    def __init__(self, checkpoint: Checkpoint, kind: str) -> None:
        super().__init__(checkpoint)
        self.kind = kind
        self.seen: dict[str, int] = {}  # weights by name

    def blocks(self, name: str) -> Iterator[tuple[int, Floats]]:
        """As in the checkpoint, or packed and unpacked."""
        chosen = name.endswith(f".{self.kind}.weight")
        for first, rows in super().blocks(name):
            if not chosen:
                yield first, rows
                continue
            if not first:
                self.seen[name] = 0
            self.seen[name] += rows.size
            yield first, np.asarray(mx.dequantize(*mx.quantize(mx.array(rows))))


def kinds(source: Path, args: argparse.Namespace) -> None:
    """One model, a row for each kind of matrix."""
    checkpoint, ids = opened(source, args)
    for kind in KINDS:
        with Weights(checkpoint) as ours, OneKind(checkpoint, kind) as theirs:
            found = compared(ours, theirs, ids)
        weights = sum(theirs.seen.values())
        if weights:
            print(
                f"| {source.name} | {kind} | {weights / 1e3:,.0f} k | {found.kl:.4f} | "
                f"{found.kl / weights * 1e6:.3f} |",
                flush=True,
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, help="source checkpoints")
    parser.add_argument("--text", type=Path, help="measure on this text")
    parser.add_argument("--calibrate", type=Path, help="calibrate on this text")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--exam", type=int, default=0, metavar="N", help="problems of each skill")
    parser.add_argument("--each", action="store_true", help="4 bits for each kind of matrix alone")
    parser.add_argument("--only", nargs="+", choices=SHORT, help="these recipes only")
    args = parser.parse_args()
    if args.each:
        print("| model | matrices | weights | KL | KL per million weights |")
        print("| --- | --- | --- | --- | --- |")
        for source in args.models:
            kinds(source, args)
        return
    more = "".join(f" {title} |" for title, *_ in EXAM) if args.exam else ""
    print(f"| model | recipe | bytes | to plain | KL | to plain | top-1 | perplexity |{more}")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |" + " --- |" * more.count("|"))
    for source in args.models:
        with tempfile.TemporaryDirectory() as work:
            rows(source, args, Path(work))


if __name__ == "__main__":
    main()
