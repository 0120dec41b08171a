"""`qwen3-mlx convert`: the converter at the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx.awake import keep_awake
from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import OptionError
from qwen3_mlx_convert.fetching import fetch
from qwen3_mlx_convert.folder import source_id
from qwen3_mlx_convert.pipeline import (
    LAYOUTS,
    ConvertProgress,
    ConvertReport,
    Preview,
    convert,
    preview,
)
from qwen3_mlx_convert.quantize import GROUP_SIZES, Recipe
from qwen3_mlx_convert.transaction import journal_of, refuse_existing

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Turn a Hugging Face checkpoint of Qwen3 into an MLX folder. The result runs here and in
mlx-lm. SRC is left as it is, and DST appears whole or not at all."""

_EXAMPLES = """\
examples:
  qwen3-mlx convert ~/models/Qwen3-4B              4 bits, into ./Qwen3-4B-q4
  qwen3-mlx convert 30b-a3b --q8 -o /Volumes/A/q8  from the hub, 8 bits
  qwen3-mlx convert ./my-finetune --group-size 32  4 bits, finer groups
  qwen3-mlx convert ./my-finetune --bf16           not quantised
"""

Listener = Callable[[ConvertProgress], None]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `convert` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "convert",
        help="turn a Hugging Face checkpoint into a 4-bit MLX folder",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="SRC", help="a model folder, a name such as 4b, or a hub id"
    )
    bits = parser.add_mutually_exclusive_group()
    for flag, value, text in (
        ("--q4", 4, "4 bits per weight (the default)"),
        ("--q8", 8, "8 bits per weight"),
        ("--bf16", None, "no quantisation"),
    ):
        bits.add_argument(
            flag, dest="bits", action="store_const", const=value, default=4, help=text
        )
    parser.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        help="weights that share one scale: fewer is finer and larger (default 64)",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="stacked",
        help="how experts are stored: stacked also loads in mlx-lm, records only here, and "
        "cost less to read from disk under --memory-limit (default: stacked)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="pack an MLX folder again with fewer bits than it has",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print tensors, sizes, room on the disk and peak memory, and write nothing",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DST",
        type=Path,
        help="the folder to write; it must not exist (default: ./NAME-q4)",
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Convert as the arguments say; errors are raised as Qwen3Error, for the caller to print."""
    if args.bits is None and args.group_size is not None:
        raise OptionError("--group-size has no meaning with --bf16: leave one of them out")
    recipe = Recipe(args.bits, args.group_size or 64)
    if args.output is not None and not journal_of(args.output).exists():
        refuse_existing(args.output)  # before a download of many gigabytes
    source = fetch(args.source, source=True)
    target = args.output or _default_target(source, recipe)
    if args.dry_run:
        forecast = preview(
            source, target, bits=recipe.bits, group_size=recipe.group_size, force=args.force
        )
        print(_forecast(forecast, target))
        return 0 if forecast.fits else 2
    with _listener() as listener, _say_how_to_go_on(), keep_awake():
        report = convert(
            source, target, bits=recipe.bits, group_size=recipe.group_size,
            layout=args.layout, force=args.force, progress=listener,
        )  # fmt: skip
    print(_summary(report))
    return 0


def _forecast(forecast: Preview, target: Path) -> str:
    """Every tensor that would be written, and the sums."""
    lines = [
        f"{output.name:<56} {output.dtype:<5} {output.nbytes:>14,}  {list(output.shape)}"
        for output in forecast.outputs
    ]
    room = "enough" if forecast.fits else "not enough: choose another disk with -o"
    lines += [
        "",
        f"{len(forecast.outputs):,} tensors of {forecast.params:,} weights into {target}",
        f"reads {format_bytes(forecast.source_bytes)}, writes "
        f"{format_bytes(forecast.target_bytes)}; {format_bytes(forecast.free_bytes)} free, {room}",
        f"peak memory about {format_bytes(forecast.peak_bytes)}",
    ]
    if forecast.resumable:
        lines.append("an interrupted run has left something to go on from")
    return "\n".join(lines)


def _default_target(source: Path, recipe: Recipe) -> Path:
    """NAME-q4 in the current folder."""
    return Path(f"{source_id(source).rpartition('/')[2]}-{recipe.name}")


def _summary(report: ConvertReport) -> str:
    files = "1 file" if report.files == 1 else f"{report.files} files"
    return (
        f"{report.target}: {format_bytes(report.target_bytes)} in {files}, "
        f"{report.bits_per_weight:.2f} bits per weight, {report.seconds:.1f} s\n"
        f"Chat with it:  qwen3-mlx chat -m {shlex.quote(str(report.target))}"
    )


@contextmanager
def _say_how_to_go_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise


@contextmanager
def _listener() -> Iterator[Listener]:
    """A bar on a terminal, else a line now and then; both on stderr."""
    if sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: tuple[Any, ...] = (
        TextColumn("converting"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("convert", total=None)

        def show(state: ConvertProgress) -> None:
            progress.update(task, completed=state.done_bytes, total=state.total_bytes)

        yield show


class _Lines:
    """A line at most every five seconds, and one at the end."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, state: ConvertProgress) -> None:
        finished = state.done_bytes == state.total_bytes
        if not finished and state.seconds - self._said < 5:
            return
        self._said = state.seconds
        share = 100 * state.done_bytes / state.total_bytes
        print(
            f"converted {share:.0f} %: {format_bytes(state.done_bytes)} of "
            f"{format_bytes(state.total_bytes)}, {format_bytes(state.bytes_per_second)}/s, "
            f"{state.seconds_left:.0f} s left",
            file=sys.stderr,
        )
