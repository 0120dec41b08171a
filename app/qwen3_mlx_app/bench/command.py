"""`qwen3-mlx bench`: speed, memory and launches of a model, alone or beside mlx-lm."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx_app import options, writing
from qwen3_mlx_app.bench import experts

if TYPE_CHECKING:
    from qwen3_mlx_app.bench.launches import Launches
    from qwen3_mlx_app.bench.measure import Plan
    from qwen3_mlx_app.bench.report import Results
    from qwen3_mlx_app.bench.sides import Ours, Side

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx bench -m 4b                        how fast, and how much memory
  qwen3-mlx bench -m 4b --against mlx-lm       the same beside mlx-lm, in turns
  qwen3-mlx bench -m 4b --report page.md       a page to publish
  qwen3-mlx bench -m tiny --json | jq .rows    every round, for scripts

Both sides are in memory at once with --against.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `bench` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed, memory and launches, alone or beside mlx-lm",
        description="Measure a model on this machine, alone or beside mlx-lm.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("-m", "--model", metavar="MODEL", help="as for `ask`")
    parser.add_argument("--against", choices=["mlx-lm"], help="measure this beside ours, in turns")
    parser.add_argument(
        "--prompts", type=options.numbers, default=(16, 128, 512), metavar="N,N",
        help="prompt lengths in tokens (16,128,512)",
    )  # fmt: skip
    parser.add_argument(
        "--batches", type=options.numbers, default=(4,), metavar="N,N",
        help="how many texts at once (4); 0 for none",
    )  # fmt: skip
    parser.add_argument("--generate", type=int, default=64, metavar="N", help="tokens to say (64)")
    parser.add_argument(
        "--warm", type=int, default=48, metavar="N",
        help="tokens to say uncounted before each test, so that the step is compiled (48)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (5)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="compute in it")
    parser.add_argument(
        "--sampled", action="store_true", help="draw with Qwen's settings instead of greedily"
    )
    options.add_length(parser)
    parser.add_argument("--no-cold", action="store_true", help="start no fresh processes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="F.svg", type=Path, help="draw speed over prompt length")
    parser.add_argument("--report", metavar="F.md", type=Path, help="write a page with everything")
    parser.set_defaults(run=run)
    experts.add_parser(parser.add_subparsers(metavar="experts"))
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and tell; the exit status."""
    from qwen3_mlx_app.bench import report

    writing.check(args.plot, args.report)
    results = _results(args)
    if args.json:
        print(json.dumps(report.as_json(results), indent=2))
    else:
        print(report.as_text(results))
    if args.plot:
        from qwen3_mlx_app.bench.plot import draw

        writing.write(args.plot, draw(results))
    if args.report:
        writing.write(args.report, report.as_page(results))
    return 0


def _results(args: argparse.Namespace) -> Results:
    from qwen3_mlx_app.bench import machine
    from qwen3_mlx_app.bench.measure import measure
    from qwen3_mlx_app.bench.report import Results
    from qwen3_mlx_app.bench.sides import Ours
    from qwen3_mlx_convert.fetching import fetch

    plan = _plan(args)
    name = options.chosen_model(args)
    folder = fetch(name)
    mine = Ours(
        folder, args.dtype, sampled=args.sampled, context=args.context, kv_bits=args.kv_bits
    )
    sides: list[Side] = [mine]
    try:
        mine.load()  # a model that cannot be used should say so before anything is measured
        _check(mine, plan)
        for notice in mine.notices:
            print(f"note: {notice}", file=sys.stderr)
        if not mine.asks:
            plan = replace(plan, cold=False)
            print("note: no chat template, so no first token and no cold start", file=sys.stderr)
        if args.against:
            from qwen3_mlx_app.bench.peer import MlxLm

            vocab = mine.parts.tokenizer.size
            sides.append(MlxLm(folder, args.dtype, vocab, sampled=args.sampled))
        rows = measure(sides, plan, _tell)
        return Results(
            model=folder.name,
            command=shlex.join(["qwen3-mlx", *sys.argv[1:]]),
            machine=machine.describe(),
            plan=plan,
            sides=tuple(side.name for side in sides),
            rows=rows,
            launches=_launches(sides, mine),
            weight_bytes=mine.weight_bytes,
            bytes_per_token={
                context: mine.engine.call(
                    partial(machine.bytes_per_token, mine.engine.model, context)
                )
                for context in plan.prompts
            },
        )
    finally:
        for side in sides:
            side.close()


def _check(mine: Ours, plan: Plan) -> None:
    """Whether this model can do what the plan asks for."""
    from qwen3_mlx.errors import OptionError

    parts = mine.parts
    if parts.tokenizer.closing_ids:
        raise OptionError(
            f"{parts.checkpoint.path} makes vectors and answers nothing: bench is for models that "
            "say tokens"
        )
    longest = max(plan.prompts) + max(plan.generate, plan.warm)
    if longest > mine.context:
        raise OptionError(
            f"a prompt and what is said after it are {longest:,} tokens, and the context is "
            f"{mine.context:,}: pass shorter --prompts, or a longer --context"
        )


def _launches(sides: list[Side], mine: Ours) -> dict[str, Launches]:
    from qwen3_mlx_app.bench import launches
    from qwen3_mlx_app.bench.peer import MlxLm

    if len(mine.engine.model.blocks) < 2:
        return {}
    found = {mine.name: mine.engine.call(lambda: launches.ours(mine.engine.model))}
    for side in sides:
        if isinstance(side, MlxLm):
            found[side.name] = launches.theirs(side.model)
    return found


def _plan(args: argparse.Namespace) -> Plan:
    from qwen3_mlx.errors import OptionError
    from qwen3_mlx_app.bench.measure import Plan

    if args.rounds < 1 or args.generate < 2 or not args.prompts or min(args.prompts) < 1:
        raise OptionError("bench needs a prompt of 1 token, 2 tokens to say and 1 round at least")
    if min(args.batches, default=0) < 0:
        raise OptionError(
            f"a batch of {min(args.batches)} is none: pass --batches 0 to leave it out"
        )
    return Plan(
        prompts=args.prompts,
        generate=args.generate,
        warm=max(args.warm, 2),
        batches=tuple(batch for batch in args.batches if batch),
        rounds=args.rounds,
        cold=not args.no_cold,
    )


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"measuring {text}", file=sys.stderr)
