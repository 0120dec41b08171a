"""`qwen3-mlx convert`: the converter at the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx import hub
from qwen3_mlx.awake import keep_awake
from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import OptionError
from qwen3_mlx.model.allocation import SPEND
from qwen3_mlx_convert.absent import known, preview_absent
from qwen3_mlx_convert.fetching import byte_bars, fetch
from qwen3_mlx_convert.folder import source_id
from qwen3_mlx_convert.pipeline import LAYOUTS, ConvertReport, Preview, convert, preview
from qwen3_mlx_convert.progress import ConvertProgress, Doing, Listener
from qwen3_mlx_convert.quantize import GROUP_SIZES, Recipe
from qwen3_mlx_convert.transaction import journal_of, refuse_existing

if TYPE_CHECKING:
    from rich.progress import TaskID

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
  qwen3-mlx convert 8b --calibrate builtin         4 bits, calibrated on the built-in text
  qwen3-mlx convert ./my-finetune --bf16           not quantised
"""

#: What may be asked for: the recipe, and the line in the help.
_RECIPES: dict[str, tuple[Recipe, str]] = {
    "q4": (
        Recipe(4, spend=SPEND),
        f"4 bits per weight, and up to {100 * SPEND:g} %% more bytes on the matrices that matter "
        "most: attention, then the tables of tokens, then down projections (the default)",
    ),
    "q4-plain": (Recipe(4), "4 bits per weight, all alike, equal to mlx-lm's to the bit"),
    "q8": (Recipe(8), "8 bits per weight"),
    "q6": (Recipe(6), "6 bits per weight"),
    "q5": (Recipe(5), "5 bits per weight"),
    "q3": (Recipe(3), "3 bits per weight: expect visible loss"),
    "mxfp4": (Recipe(4, 32, "mxfp4"), "4-bit floats, a power of two for each 32 weights"),
    "nvfp4": (Recipe(4, 16, "nvfp4"), "4-bit floats, an 8-bit float for each 16 weights"),
    "mxfp8": (Recipe(8, 32, "mxfp8"), "8-bit floats, a power of two for each 32 weights"),
    "bf16": (Recipe(None), "no quantisation"),
}


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
    _add_recipes(parser)
    _add_writing(parser)
    parser.set_defaults(run=run)
    return parser


def _add_recipes(parser: argparse.ArgumentParser) -> None:
    """How weights are packed."""
    recipes = parser.add_mutually_exclusive_group()
    for name, (_, text) in _RECIPES.items():
        recipes.add_argument(
            f"--{name}", dest="recipe", action="store_const", const=name, default="q4", help=text
        )
    parser.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        help="weights that share one scale: fewer is finer and larger (default 64)",
    )
    parser.add_argument(
        "--calibrate",
        metavar="FILE",
        help="pack with error feedback for what the model makes of this text, or of the one "
        'that comes with this program, "builtin"; better, slower, and holds the text in memory',
    )


def _add_writing(parser: argparse.ArgumentParser) -> None:
    """What is written where, and whether it is read again."""
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="do not read source and result again to compare them",
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
        help="print tensors, sizes, room on the disk and peak memory; write nothing, and "
        "download nothing: of a model that is not here, from its published sizes",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DST",
        type=Path,
        help="the folder to write; it must not exist (default: ./NAME-q4)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert as the arguments say; errors are raised as Qwen3Error, for the caller to print."""
    recipe = _recipe(args)
    if args.output is not None and not journal_of(args.output).exists():
        refuse_existing(args.output)  # before a download of many gigabytes
    if args.dry_run:
        return _dry_run(args, recipe)
    source = fetch(args.source, source=True)
    target = args.output or _default_target(source_id(source), recipe, args.calibrate)
    with _listener() as listener, _say_how_to_go_on(), keep_awake():
        report = convert(
            source, target, bits=recipe.bits, group_size=recipe.group_size, mode=recipe.mode,
            spend=recipe.spend, calibrate=args.calibrate, layout=args.layout, force=args.force,
            verify=not args.no_verify, progress=listener,
        )  # fmt: skip
    print(_summary(report))
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    recipe, _ = _RECIPES[args.recipe]
    if args.group_size is None:
        return recipe
    if recipe.bits is None or recipe.mode != "affine":
        raise OptionError(
            f"--group-size has no meaning with --{recipe.name}: leave one of them out"
        )
    return replace(recipe, group_size=args.group_size)


def _dry_run(args: argparse.Namespace, recipe: Recipe) -> int:
    """Print what would be written. Nothing is, and nothing is downloaded."""
    source, calibrates = hub.find(args.source, source=True), args.calibrate is not None
    if source is not None:
        target = args.output or _default_target(source_id(source), recipe, args.calibrate)
        forecast = preview(source, target, recipe, args.force, calibrates)
        print(_forecast(forecast, target))
        return 0 if forecast.fits else 2
    entry = known(args.source)
    target = args.output or _default_target(entry.hub_id, recipe, args.calibrate)
    absent = preview_absent(entry, target, recipe, calibrates)
    print(f"{_forecast(absent.forecast, target)}\n{absent.words}")
    return 0 if absent.fits else 2


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


def _default_target(model: str, recipe: Recipe, calibrate: str | None) -> Path:
    """NAME-q4 in the current folder."""
    end = "" if calibrate is None else "-calibrated"
    return Path(f"{model.rpartition('/')[2]}-{recipe.name}{end}")


def _summary(report: ConvertReport) -> str:
    from qwen3_mlx.text.tokenizer import ends_every_text  # not for the help text

    files = "1 file" if report.files == 1 else f"{report.files} files"
    lines = [
        f"{report.target}: {format_bytes(report.target_bytes)} in {files}, "
        f"{report.bits_per_weight:.2f} bits per weight, {report.seconds:.1f} s"
    ]
    found = report.comparison
    if found is not None:
        lines.append(
            f"compared with the source, {found.tensors:,} tensors in {found.seconds:.1f} s: "
            + (f"largest error {100 * found.worst:.1f} %, {found.worst_name}"
               if found.worst else "equal")
        )  # fmt: skip
    use = "Embed" if ends_every_text(report.target) else "Chat"
    target = shlex.quote(str(report.target))
    lines.append(f"{use} with it:  qwen3-mlx {use.lower()} -m {target}")
    return "\n".join(lines)


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
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with byte_bars() as progress:
        tasks: dict[Doing, TaskID] = {}

        def show(state: ConvertProgress) -> None:
            if state.doing not in tasks:
                tasks[state.doing] = progress.add_task(state.doing, total=state.total_bytes)
            progress.update(tasks[state.doing], completed=state.done_bytes)

        yield show


class _Lines:
    """A line at most every five seconds, and one at the end, of converting and of comparing."""

    def __init__(self) -> None:
        self._said: dict[Doing, float] = {}

    def __call__(self, state: ConvertProgress) -> None:
        finished = state.done_bytes == state.total_bytes
        if not finished and state.seconds - self._said.get(state.doing, 0.0) < 5:
            return
        self._said[state.doing] = state.seconds
        share = 100 * state.done_bytes / state.total_bytes
        print(
            f"{state.doing.removesuffix('ing')}ed {share:.0f} %: "
            f"{format_bytes(state.done_bytes)} of {format_bytes(state.total_bytes)}, "
            f"{format_bytes(state.bytes_per_second)}/s, {state.seconds_left:.0f} s left",
            file=sys.stderr,
        )
