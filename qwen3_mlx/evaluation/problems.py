"""The examination of tiny: problems that no lesson held, and when a reply to one is right.

The problems are a file, so that they stay the same while the lessons change. `training/` made it.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_mlx.errors import OptionError

__all__ = ["MULTI_STEP", "PROBLEMS", "Problem", "parse_calls", "read_problems", "select"]

PROBLEMS = Path(__file__).with_name("problems.jsonl.gz")
#: Skills whose problems take several calculations.
MULTI_STEP = ("expressions", "products", "two-step")
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """A conversation to answer. One of `answer`, `contains` and `calls` says what is right."""

    skill: str
    language: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    answer: str = ""  # the whole reply
    contains: str = ""  # words of the reply
    calls: tuple[Mapping[str, Any], ...] = ()  # all the tool calls, in this order

    def is_right(self, reply: str) -> bool:
        """Whether this reply, without its thought, is right.

        >>> Problem("sums", "en", (), answer="1 + 1 = 2").is_right("1 + 1 = 2")
        True
        """
        if self.calls:
            return parse_calls(reply) == list(self.calls)
        if self.contains:
            return self.contains in reply
        return reply == self.answer


def parse_calls(reply: str) -> list[dict[str, Any]] | None:
    """The calls of a reply in the Hermes format that is nothing else; None if it is malformed.

    >>> parse_calls('<tool_call>\\n{"name": "clock", "arguments": {}}\\n</tool_call>')
    [{'name': 'clock', 'arguments': {}}]
    """
    bodies = _CALL.findall(reply)
    if not bodies or _CALL.sub("", reply).strip():
        return None
    try:
        calls = [json.loads(body) for body in bodies]
    except ValueError:
        return None
    whole = all(isinstance(call, dict) and set(call) == {"name", "arguments"} for call in calls)
    return calls if whole else None


def read_problems(path: Path = PROBLEMS) -> list[Problem]:
    """The problems of a file: JSON lines, compressed; the first describes the tools.

    Raises:
        OptionError: the file is no file of problems.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            header, *lines = map(json.loads, file)
        tools = header["tools"]
        return [_problem(line, tools) for line in lines]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path} is no file of problems ({error})") from error


def select(problems: Sequence[Problem], skills: Sequence[str], count: int) -> list[Problem]:
    """The first `count` problems of each of the skills, or of all if none is named.

    Raises:
        OptionError: there is no such skill, or nothing to select.
    """
    known = list(dict.fromkeys(problem.skill for problem in problems))
    strange = [skill for skill in skills if skill not in known]
    if strange:
        raise OptionError(f"{strange[0]!r} is no skill: choose from {', '.join(known)}")
    if count < 1:
        raise OptionError(f"{count} problems of each skill are none: ask for 1 at least")
    by_skill = [[one for one in problems if one.skill == skill] for skill in skills or known]
    return [problem for same in by_skill for problem in same[:count]]


def _problem(line: Mapping[str, Any], tools: Mapping[str, Any]) -> Problem:
    return Problem(
        line["skill"],
        line["language"],
        tuple(line["messages"]),
        tuple(tools[name] for name in line.get("tools", ())),
        line.get("answer", ""),
        line.get("contains", ""),
        tuple(line.get("calls", ())),
    )
