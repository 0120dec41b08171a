"""`qwen3-mlx fit`: what a model would take in memory, before anything is read."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx_app import options

if TYPE_CHECKING:
    from qwen3_mlx.memory import Plan

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "plan_lines", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx fit -m ./Qwen3-30B-A3B-q4                       all of it in memory
  qwen3-mlx fit -m ./Qwen3-30B-A3B-q4 --memory-limit 10GB   experts from disk
  qwen3-mlx fit -m ./Qwen3-4B-q4 --context 32768 --json
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `fit` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "fit", help="what a model takes in memory, and how it would be divided",
        description="Make the memory plan of a model that is on this machine; no weight is read.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "-m", "--model", metavar="MODEL", default=None,
        help='"tiny", a name from `qwen3-mlx models`, a hub id or a folder',
    )  # fmt: skip
    options.add_memory(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the plan; a limit that is too small ends as an error with the smallest that works."""
    from qwen3_mlx import hub
    from qwen3_mlx.loading import read_parts
    from qwen3_mlx.streaming import Keeper

    name = options.chosen_model(args)
    keeper = Keeper(read_parts(hub.resolve(name)), **options.memory(args))
    plan = keeper.plan or keeper.full_plan()
    if args.json:
        print(json.dumps(asdict(plan) | {"total_bytes": plan.total_bytes}, indent=2))
    else:
        print(f"{name}, context {plan.context:,} tokens, prompts read {plan.chunk} at a time")
        print("\n".join(plan_lines(plan)))
    return 0


def plan_lines(plan: Plan) -> list[str]:
    """The plan as a table for people."""
    rows = [
        ("weights always in memory", plan.trunk_bytes, ""),
        ("KV cache", plan.kv_bytes, f"{plan.context:,} tokens"),
        ("work", plan.workspace_bytes, ""),
    ]
    if plan.slots:
        rows.append(("experts in memory", plan.slots_bytes, _slots(plan)))
    if plan.scratch:
        rows.append(("experts in passing", plan.scratch_bytes, f"{plan.scratch} for all layers"))
    note = f"limit {format_bytes(plan.limit)}" if plan.limit else ""
    rows.append(("together", plan.total_bytes, note))
    return [f"  {what:<26}{format_bytes(size):>10}  {text}".rstrip() for what, size, text in rows]


def _slots(plan: Plan) -> str:
    few, many = min(plan.slots.values()), max(plan.slots.values())
    each = str(few) if few == many else f"{few}-{many}"
    share = 100 * plan.resident_fraction
    return f"{each} of {plan.experts} in each of {len(plan.slots)} layers, {share:.0f} %"
