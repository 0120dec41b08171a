"""Programs of a Mac that this machine may not have: stand-ins that write down how they were called.

calls = stub(folder, "launchctl")          # a program that does nothing
calls = stub(folder, "pbpaste", "text")    # one that prints; put the folder first in PATH
calls()                                    # [{"argv": ["launchctl", …], "stdin": "…"}]
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["program", "stub"]

_PROGRAM = """\
import json, sys
read = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
with open({calls!r}, "a") as file:
    file.write(json.dumps({{"argv": [{name!r}, *sys.argv[1:]], "stdin": read}}) + "\\n")
sys.stdout.write({prints!r})
sys.exit({status})
"""


def program(folder: Path, name: str, *command: str) -> None:
    """A program that begins a command. Python's own path may be too long for a `#!` line."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    (folder / name).chmod(0o755)


def stub(
    folder: Path, name: str, prints: str = "", status: int = 0
) -> Callable[[], list[dict[str, Any]]]:
    """Make a program; the function that comes back tells how it was called."""
    calls, script = folder / f".{name}.calls", folder / f".{name}.py"
    program(folder, name, sys.executable, "-S", str(script))
    text = _PROGRAM.format(calls=str(calls), name=name, prints=prints, status=status)
    script.write_text(text, encoding="utf-8")

    def told() -> list[dict[str, Any]]:
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [json.loads(line) for line in lines]

    return told
