#!/usr/bin/env python3
"""Two-step problems with real tools: `tiny` calls, the tool runs, its result is needed again.

    python scripts/measure_tools.py [--model tiny] [--count 200] [--wrong]

Every problem asks for a calculation, and then for another one with its result, or for a note of
it. The calculations are in no lesson (the split of training/). The tools are Python functions that
`Chat.run` carries out; a problem is solved when the last call got the right argument, the tool
said the right thing, and the answer has it. Half of the problems are Chinese, half are thought
about. Greedy, so that a second run says the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from toolbox import Chain, calculate, draw_chain

import qwen3_mlx
from qwen3_mlx.evaluation.run import interval
from qwen3_mlx.interface import Sampling
from qwen3_mlx.tools.loop import RunResult

TOOL_SETS = (("calculator", "note"), ("calculator",), ("calculator", "clock", "note"))


def calculator(expression: str) -> str:
    """Calculate an expression."""
    a, op, b = expression.split()
    return str(calculate(int(a), op, int(b)))


def clock(city: str) -> str:
    """The time in a city."""
    return "12:00"


def note(text: str) -> str:
    """Keep a note."""
    return "ok"


FUNCTIONS = {function.__name__: function for function in (calculator, clock, note)}


def is_solved(chain: Chain, run: RunResult) -> bool:
    """Both calls as they should be, the second with the result of the first, and the answer."""
    first, second = chain.jobs
    said = [result.content for result in run.results]
    value = first.result if second.tool == "note" else second.result
    return (
        run.stopped_by == "answer"
        and said == [first.result, second.result]
        and [(made.call.name, made.call.arguments) for made in run.results]
        == [(job.tool, job.arguments) for job in chain.jobs]
        and value in run.reply.text
    )


def main() -> None:
    """Ask all, and print the share with its interval."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--wrong", action="store_true", help="show what was not solved")
    args = parser.parse_args()
    rng, solved = Random("two steps"), 0
    with qwen3_mlx.load(args.model) as model:
        for number in range(args.count):
            lang, names = ("en", "zh")[number % 2], rng.choice(TOOL_SETS)
            chain = draw_chain(names, lang, rng, exam=True)
            run = model.chat(
                thinking=number % 4 < 2, sampling=Sampling(temperature=0), max_tokens=200
            ).run(chain.asked, tools=[FUNCTIONS[name] for name in names])
            right = is_solved(chain, run)
            solved += right
            if args.wrong and not right:
                print(f"{chain.asked!r}: {[result.content for result in run.results]}", end=" ")
                print(f"{run.stopped_by}: {run.reply.text!r}")
    low, high = interval(solved, args.count)
    print(f"{solved} of {args.count} solved: {solved / args.count:.1%} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
