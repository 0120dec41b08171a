"""`qwen3-mlx fit`: does a model fit a machine, and how fast will it be? No model is loaded."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwen3_mlx import hub
from qwen3_mlx.catalogue import entries, find
from qwen3_mlx.context import longest_context, with_context, with_kv_bits
from qwen3_mlx.errors import ModelNotFoundError, OptionError
from qwen3_mlx.machines import Machine, memory_size, named, this_machine, with_memory
from qwen3_mlx.memory import make_plan, parse_bytes
from qwen3_mlx_app import fit_report, options
from qwen3_mlx_app.fit_subjects import DEFAULT_CONTEXT, Subject, judge, planned, stored

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx fit                                      every known model on this machine
  qwen3-mlx fit 30b-a3b                              one of them, with the arithmetic
  qwen3-mlx fit 30b-a3b --on "macbook air m2 16GB"   on another Mac
  qwen3-mlx fit 235b-a22b --on "m3 ultra" --memory 512GB --context 32k
  qwen3-mlx fit ./Qwen3-30B-A3B-q4 --memory-limit 10GB   the plan that `chat` would make
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `fit` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "fit", help="which models fit this machine or another Mac, and how fast they would be",
        description="Weights, KV cache and work against the memory of a machine, and the speed "
        "that its bandwidth allows. No model is loaded and no network is used; where experts "
        "would be read from this disk, its speed is tried for three seconds.",
        epilog=_EXAMPLES, formatter_class=options.HelpFormatter,
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
    limited = args.memory_limit is not None or args.slots is not None
    if limited and (args.on or args.memory):
        raise OptionError(
            "--memory-limit and --slots show the plan on any machine: leave out --on and --memory"
        )
    machine = _machine(args.on, args.memory)
    if args.model is None:
        if limited:
            raise OptionError("--memory-limit and --slots need a MODEL: `qwen3-mlx fit 30b-a3b …`")
        rows = [
            (each, judge(each, machine, _context(each, args.context, cut=True)))
            for each in (_packed(each, args.kv_bits) for each in _all(args.bits))
        ]
        _print(args, fit_report.table(rows, machine), fit_report.table_json(rows, machine))
        return 0
    subject = _packed(_subject(args.model, args.bits), args.kv_bits)
    context = _context(subject, args.context)
    if limited:
        limit = None if args.memory_limit is None else parse_bytes(args.memory_limit)
        plan = make_plan(
            subject.config, subject.sizes, limit, context, slots=args.slots, prefix=None
        )
        _print(
            args, fit_report.limited(subject, plan), fit_report.plan_json(plan)
        )  # fmt: skip
        return 0
    judged = judge(subject, machine, context)
    disk = None
    if judged.verdict == "streams experts" and machine.here and machine.bandwidth is not None:
        disk = _disk(subject)
        judged = judge(subject, machine, context, disk)
    text = fit_report.one(subject, machine, judged, disk)
    _print(args, text, fit_report.one_json(subject, machine, judged, disk))
    return 0


def _print(args: argparse.Namespace, text: str, value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2) if args.json else text)


def _machine(on: str | None, memory: str | None) -> Machine:
    """This machine or a named Mac, perhaps with other memory."""
    size = None if memory is None else memory_size(memory)
    if on is not None:
        return named(on, size)
    return this_machine() if size is None else with_memory(this_machine(), size)


def _context(subject: Subject, context: int | None, *, cut: bool = False) -> int:
    """The tokens to reckon with; what no model can be stretched to is refused, or `cut`."""
    if context is None:
        return min(subject.config.max_positions, DEFAULT_CONTEXT)
    if cut:
        context = min(context, longest_context(subject.config))
    with_context(subject.config, context)
    return context


def _packed(subject: Subject, kv_bits: int | None) -> Subject:
    return replace(subject, config=with_kv_bits(subject.config, kv_bits))


def _all(bits: int | None) -> list[Subject]:
    """Every model that has a short name."""
    known = (entry for entry in entries() if entry.name != "tiny")
    return [planned(entry.name, entry.config, bits or 4) for entry in known]


def _subject(name: str, bits: int | None) -> Subject:
    """A model as it is here, or else as it would be converted."""
    entry = find(name)
    folder = hub.find(name)
    if bits is None and folder is not None:
        return stored(name, folder)
    if entry is not None and entry.hub_id:
        return planned(name, entry.config, bits or 4)
    if folder is not None:
        kept = stored(name, folder)
        if kept.config.quantization is not None:
            raise OptionError(f"{name} is {kept.stored} already: leave out --q4, --q8 and --bf16")
        return planned(name, kept.config, bits or 4)
    raise ModelNotFoundError(
        f"{name} is neither here nor one of `qwen3-mlx models`, so its sizes are not known: "
        f"`qwen3-mlx pull {name}` gets it"
    )


def _disk(subject: Subject) -> float | None:
    from qwen3_mlx.disk import probe_disk

    return probe_disk(subject.folder or hub.cache_dir())
