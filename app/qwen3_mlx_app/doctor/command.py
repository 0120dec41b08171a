"""The command line of `doctor`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_mlx_app.doctor.findings import Finding

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_MARKS = {"ok": "ok     ", "note": "note   ", "warning": "warning", "problem": "PROBLEM"}


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `doctor` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine, its models and settings, and say what to do",
        description="Look at the machine, the GPU, versions, disks, settings and models, and "
        "let tiny answer once. Nothing is changed, and no network is used. Exit status 0: all "
        "can work; 1: there is a problem.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if one of them is a problem."""
    from qwen3_mlx_app.doctor.facts import gather
    from qwen3_mlx_app.doctor.findings import findings

    facts = gather()
    found = findings(facts)
    bad = any(finding.level == "problem" for finding in found)
    if args.json:
        value = {
            "ok": not bad,
            "findings": [asdict(finding) for finding in found],
            "facts": asdict(facts),
        }
        print(json.dumps(value, indent=2, default=str))
    else:
        print(_text(found))
    return 1 if bad else 0


def _text(found: Sequence[Finding]) -> str:
    lines = []
    for finding in found:
        lines.append(f"{_MARKS[finding.level]}  {finding.text}")
        if finding.suggestion:
            lines.append(f"         → {finding.suggestion}")
    counts = {level: sum(each.level == level for each in found) for level in _MARKS}
    problems, warnings = counts["problem"], counts["warning"]
    if problems or warnings:
        lines += ["", f"{_number(problems, 'problem')}, {_number(warnings, 'warning')}"]
    else:
        lines += ["", "all is well"]
    return "\n".join(lines)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
