"""Write the examination: 500 problems a skill that no lesson holds, and the forty probes.

    python make_exam.py --out ../qwen3_mlx/evaluation/problems.jsonl.gz

The file ships with the program for `qwen3-mlx eval`. The same seed gives the same problems.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import toolbox
from education import TOOL_SETS, roughen
from expressions import Expression
from lists import Copying, Reversing, Sorting
from probes import EN, PROBES
from problem import Problem, draw_problem, language
from products import Product
from stories import LongStory, Story
from sums import Sum

Entry = dict[str, Any]
ROUGH = (Sum, Expression, Product, Story, LongStory)
SKILLS: dict[str, tuple[type[Problem], ...]] = {
    "sums": (Sum,),
    "expressions": (Expression,),
    "products": (Product,),
    "one-step": (Story,),
    "two-step": (LongStory,),
    "lists": (Sorting, Reversing),
    "copying": (Copying,),
}


def exercise(kinds: tuple[type[Problem], ...], lang: str, rng: Random) -> Entry:
    """A problem of one of the kinds, with its whole answer."""
    kind = rng.choice(kinds)
    problem = draw_problem(kind, rng, exam=True)
    asked = problem.ask(lang, rng)
    if kind in ROUGH:
        asked = roughen(asked, rng)
    messages = [{"role": "user", "content": asked}]
    return {"messages": messages, "answer": problem.answer(language(asked))}


def tool_task(lang: str, rng: Random) -> Entry:
    """Calls to be made, or results to be read back; one or two of them."""
    tools = rng.choice(TOOL_SETS)
    jobs = toolbox.draw_jobs(tools, lang, rng, exam=True)
    messages: list[Entry] = [{"role": "user", "content": toolbox.ask(jobs, lang, rng)}]
    calls = [{"name": job.tool, "arguments": job.arguments} for job in jobs]
    if rng.random() < 0.6:
        return {"messages": messages, "tools": tools, "calls": calls}
    wrapped = [{"type": "function", "function": call} for call in calls]
    messages.append({"role": "assistant", "content": "", "tool_calls": wrapped})
    messages += [{"role": "tool", "content": job.result} for job in jobs]
    return {"messages": messages, "tools": tools, "answer": toolbox.reply(jobs, lang)}


def different(draw: Callable[[str, Random], Entry], rng: Random, count: int) -> Iterator[Entry]:
    """So many entries, the two languages in turns, no question twice."""
    seen: set[str] = set()
    while len(seen) < count:
        lang = "en" if len(seen) % 2 == 0 else "zh"
        entry = draw(lang, rng)
        asked = json.dumps(entry["messages"])
        if asked not in seen:
            seen.add(asked)
            yield {"language": lang, **entry}


def exam(seed: int, count: int) -> Iterator[Entry]:
    """The lines of the file, after its header."""
    draws: dict[str, Callable[[str, Random], Entry]] = {
        skill: lambda lang, rng, kinds=kinds: exercise(kinds, lang, rng)
        for skill, kinds in SKILLS.items()
    }
    for skill, draw in (draws | {"tools": tool_task}).items():
        for entry in different(draw, Random(f"exam {seed} {skill}"), count):
            yield {"skill": skill, **entry}
    for pair in zip(EN, PROBES[len(EN) :], strict=True):
        for lang, probe in zip(("en", "zh"), pair, strict=True):
            told = {"messages": probe.messages(), "contains": probe.expect}
            yield {"skill": "talk", "language": lang, **told}


def exam_text(seed: int = 1, count: int = 500) -> str:
    """The whole file, not compressed."""
    header = {"format": "qwen3-mlx problems", "seed": seed, "tools": toolbox.TOOLS}
    lines = [header, *exam(seed, count)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500, help="problems of each skill")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    text = exam_text(options.seed, options.count).encode()
    options.out.write_bytes(gzip.compress(text, mtime=0))
    print(f"{len(text.splitlines()) - 1} problems written to {options.out}")


if __name__ == "__main__":
    main()
