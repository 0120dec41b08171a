"""`qwen3-mlx eval`: what share of unseen problems a model gets right, by skill, mode and budget."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx.errors import OptionError
from qwen3_mlx_app import options, writing

if TYPE_CHECKING:
    from qwen3_mlx.api import Qwen3
    from qwen3_mlx.evaluation.problems import Problem
    from qwen3_mlx.evaluation.run import Answer, Mode
    from qwen3_mlx_app.exam.report import Results

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_MODES = ("direct", "thinking")
_BUDGETS = (4, 8, 16, 24, 32, 48, 64)  # of a curve for which none are named
_EXAMPLES = """\
examples:
  qwen3-mlx eval tiny                             100 problems of each skill in both modes
  qwen3-mlx eval tiny --count 500 --json          all of them, for scripts
  qwen3-mlx eval tiny --skills sums --wrong       one skill, and what went wrong
  qwen3-mlx eval tiny --plot budget.svg           accuracy against the thinking budget
  qwen3-mlx eval tiny --heatmap experts.svg       which experts serve which skill

The problems ship with the program; no lesson of tiny has held them. Replies are greedy, and right
only when the whole answer is.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `eval` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "eval", help="accuracy on unseen problems by skill, mode and thinking budget",
        description="Put the examination of tiny to a model.",
        epilog=_EXAMPLES, formatter_class=options.HelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", default="tiny", help="as for `ask` (tiny)")
    add("--count", type=int, default=100, metavar="N", help="problems of each skill (100 of 500)")
    add("--skills", type=_names, default=(), metavar="A,B", help="only these")
    add("--modes", type=_names, default=_MODES, metavar="A,B", help="direct, thinking or both")
    add(
        "--budgets",
        type=options.numbers,
        default=(),
        metavar="N,N",
        help="think within these tokens too",
    )
    add("--dtype", choices=["float32", "bfloat16", "float16"], help="compute in it")
    add("--wrong", action="store_true", help="show every wrong reply")
    add("--json", action="store_true", help="print one JSON object")
    add("--plot", metavar="F.svg", type=Path, help="draw accuracy against the thinking budget")
    add("--heatmap", metavar="F.svg", type=Path, help="draw which experts serve which skill")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Ask everything and tell; the exit status."""
    import qwen3_mlx
    from qwen3_mlx.evaluation.problems import read_problems, select
    from qwen3_mlx_app.exam import report

    _check(args)
    problems = select(read_problems(), args.skills, args.count)
    began = time.perf_counter()
    with qwen3_mlx.load(args.model, dtype=args.dtype) as model:
        results = _results(model, problems, args)
        if args.heatmap:
            _draw_experts(model, results, args)
    results.seconds = time.perf_counter() - began
    if args.plot:
        from qwen3_mlx_app.exam.curve import draw

        writing.write(args.plot, draw(results))
    if args.json:
        print(json.dumps(report.as_json(results), ensure_ascii=False, indent=2))
    else:
        print(report.as_text(results))
        if args.wrong:
            print(report.wrong(results))
    return 0


def _check(args: argparse.Namespace) -> None:
    strange = [mode for mode in args.modes if mode not in _MODES]
    if strange or not args.modes:
        raise OptionError(f"--modes is {','.join(args.modes)!r}: name direct, thinking or both")
    if any(budget < 0 for budget in args.budgets):
        raise OptionError(f"a budget is a number of tokens from 0 on, not {min(args.budgets)}")
    writing.check(args.plot, args.heatmap)


def _results(model: Qwen3, problems: Sequence[Problem], args: argparse.Namespace) -> Results:
    from qwen3_mlx.evaluation.problems import MULTI_STEP
    from qwen3_mlx_app.exam.report import Results

    stored = model.info.quantization
    how = f"{stored} in {args.dtype}" if args.dtype else stored
    results = Results(args.model, how, args.count)
    for mode in args.modes:
        results.modes[mode] = _ask(model, problems, mode, None)
    budgets = args.budgets or (_BUDGETS if args.plot else ())
    thought = [problem for problem in problems if not problem.tools and problem.skill != "talk"]
    if not args.skills:  # one-step skills hardly need a thought
        thought = [problem for problem in thought if problem.skill in MULTI_STEP]
    for budget in sorted(set(budgets)):
        results.budgets[budget] = _ask(model, thought, "thinking", budget)
    return results


def _ask(model: Qwen3, problems: Sequence[Problem], mode: Mode, budget: int | None) -> list[Answer]:
    from qwen3_mlx.evaluation.run import ask_all

    label = mode if budget is None else f"budget {budget}"

    def told(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{label}: {done} of {len(problems)}", end="", file=sys.stderr)

    answers = ask_all(model, problems, mode=mode, budget=budget, told=told)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return answers


def _draw_experts(model: Qwen3, results: Results, args: argparse.Namespace) -> None:
    from qwen3_mlx.evaluation.experts import expert_use
    from qwen3_mlx_app.exam.heatmap import draw

    results.experts = expert_use(model, next(iter(results.modes.values())))
    writing.write(args.heatmap, draw(results.experts, f"{results.model}, {results.quantization}"))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
