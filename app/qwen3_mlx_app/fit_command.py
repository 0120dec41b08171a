"""`qwen3-mlx fit`: does a model fit a machine, and how fast will it be? Nothing is read for it."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx import hub
from qwen3_mlx.catalogue import entries, find
from qwen3_mlx.errors import ModelNotFoundError, OptionError
from qwen3_mlx.fit import Fit, fit, sizes_from_config
from qwen3_mlx.ledger import read_book
from qwen3_mlx.machines import Machine, memory_size, named, this_machine, with_memory
from qwen3_mlx.memory import Sizes, make_plan, parse_bytes
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_app import fit_report, options

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

#: Tokens that are reckoned with where nobody says how many, as in a chat under a limit.
DEFAULT_CONTEXT = 8192

_EXAMPLES = """\
examples:
  qwen3-mlx fit                                      every known model on this machine
  qwen3-mlx fit 30b-a3b                              one of them, with the arithmetic
  qwen3-mlx fit 30b-a3b --on "macbook air m2 16GB"   on another Mac
  qwen3-mlx fit 235b-a22b --on "m3 ultra" --memory 512GB --context 32k
  qwen3-mlx fit ./Qwen3-30B-A3B-q4 --memory-limit 10GB   the plan that `chat` would make
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to judge: `stored` is "4-bit" and so on, `folder` where it is, if it is here."""

    name: str
    stored: str
    config: ModelConfig
    sizes: Sizes
    weight_bytes: int
    folder: Path | None = None


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `fit` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "fit", help="which models fit this machine or another Mac, and how fast they would be",
        description="Weights, KV cache and work against the memory of a machine, and the speed "
        "that its bandwidth allows. No weight is read and no network is used.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "model", metavar="MODEL", nargs="?",
        help='"tiny", a name from `qwen3-mlx models`, or a folder (default: a table of all)',
    )  # fmt: skip
    parser.add_argument("--on", metavar="MAC", help='another Mac, such as "m4 max 64GB"')
    parser.add_argument("--memory", metavar="SIZE", help="as if it had so much, such as 16GB")
    bits = parser.add_mutually_exclusive_group()
    for flag, value, text in (
        ("--q4", 4, "as `convert --q4` writes it (the default, unless it is here already)"),
        ("--q8", 8, "at 8 bits"),
        ("--bf16", 16, "as published"),
    ):
        bits.add_argument(flag, dest="bits", action="store_const", const=value, help=text)
    options.add_memory(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the verdict, or the table; a limit that is too small ends as an error."""
    machine = _machine(args.on, args.memory)
    if args.model is None:
        if args.memory_limit is not None or args.slots is not None:
            raise OptionError("--memory-limit and --slots need a MODEL: `qwen3-mlx fit 30b-a3b …`")
        rows = [(each, _judge(each, machine, args.context)) for each in _all(args.bits)]
        _print(args, fit_report.table(rows, machine), fit_report.table_json(rows, machine))
        return 0
    subject = _subject(args.model, args.bits)
    context = _context(subject, args.context)
    if args.memory_limit is not None or args.slots is not None:
        limit = args.memory_limit and parse_bytes(args.memory_limit)
        plan = make_plan(subject.config, subject.sizes, limit, context, slots=args.slots)
        _print(
            args, fit_report.limited(subject, plan), fit_report.plan_json(plan)
        )  # fmt: skip
        return 0
    judged = _judge(subject, machine, context)
    disk = None
    if judged.verdict == "streams experts" and machine.here:
        disk = _disk(subject)
        judged = _judge(subject, machine, context, disk)
    text = fit_report.one(subject, machine, judged, disk)
    _print(args, text, fit_report.one_json(subject, machine, judged, disk))
    return 0


def _print(args: argparse.Namespace, text: str, value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2) if args.json else text)


def _machine(on: str | None, memory: str | None) -> Machine:
    """This machine or a named Mac, perhaps with other memory."""
    if on is None:
        machine = this_machine()
        return machine if memory is None else with_memory(machine, memory_size(memory))
    return named(on if memory is None else f"{on} {memory_size(memory) >> 30}GB")


def _judge(
    subject: Subject, machine: Machine, context: int | None, disk: float | None = None
) -> Fit:  # fmt: skip
    chosen = context if context is not None else DEFAULT_CONTEXT
    tokens = min(chosen, subject.config.max_positions)
    others = 0
    if machine.here:  # what is running now has its memory already
        others = sum(entry.nbytes for entry in read_book(hub.data_dir() / "memory"))
    return fit(subject.config, subject.sizes, machine, tokens, other_bytes=others, disk=disk)


def _context(subject: Subject, context: int | None) -> int:
    most = subject.config.max_positions
    if context is not None and not 0 < context <= most:
        raise OptionError(
            f"the context is {context:,} tokens, and {subject.name} has from 1 to {most:,}"
        )
    return context or min(most, DEFAULT_CONTEXT)


def _all(bits: int | None) -> list[Subject]:
    """Every model that has a short name."""
    made = []
    for entry in entries():
        if entry.name == "tiny":
            continue
        made.append(_planned(entry.name, entry.config, bits or 4))
    return made


def _subject(name: str, bits: int | None) -> Subject:
    """A model as it is here, or else as it would be converted."""
    entry = find(name)
    folder = hub.find(name)
    if bits is None and folder is not None:
        return _stored(name, folder)
    if entry is not None and entry.hub_id:
        return _planned(name, entry.config, bits or 4)
    if folder is not None:
        kept = _stored(name, folder)
        if kept.config.quantization is not None:
            raise OptionError(f"{name} is {kept.stored} already: leave out --q4, --q8 and --bf16")
        return _planned(name, kept.config, bits or 4)
    raise ModelNotFoundError(
        f"{name} is neither here nor one of `qwen3-mlx models`, so its sizes are not known: "
        f"`qwen3-mlx pull {name}` gets it"
    )


def _stored(name: str, folder: Path) -> Subject:
    from qwen3_mlx.loading import open_weights, sizes_of  # mlx: only for a folder

    weights = open_weights(folder)
    sizes = sizes_of(weights)
    return Subject(name, weights.quantization, weights.config, sizes, weights.weight_bytes, folder)


def _planned(name: str, config: ModelConfig, bits: int) -> Subject:
    from qwen3_mlx_convert.plan import forecast_config
    from qwen3_mlx_convert.quantize import Recipe

    after = forecast_config(config, Recipe(None if bits == 16 else bits))
    sizes = sizes_from_config(after)
    weights = sizes.trunk_bytes + config.experts * sum(sizes.slot_bytes.values())
    return Subject(name, "bf16" if bits == 16 else f"{bits}-bit", after, sizes, weights)


def _disk(subject: Subject) -> float | None:
    from qwen3_mlx.disk import probe_disk

    return probe_disk(subject.folder or hub.cache_dir())
