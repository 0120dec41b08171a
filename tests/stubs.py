"""Programs of a Mac that this machine may not have: stand-ins that write down how they were called.

calls = stub(folder, "launchctl")          # a program that does nothing
calls = stub(folder, "pbpaste", "text")    # one that prints; put the folder first in PATH
calls()                                    # [{"argv": ["launchctl", …], "stdin": "…"}]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["stub"]

_PROGRAM = """\
#!{python} -S
import json, os, sys
read = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
with open({calls!r}, "a") as file:
    file.write(json.dumps({{"argv": [{name!r}, *sys.argv[1:]], "stdin": read}}) + "\\n")
sys.stdout.write({prints!r})
sys.exit({status})
"""


def stub(
    folder: Path, name: str, prints: str = "", status: int = 0
) -> Callable[[], list[dict[str, Any]]]:
    """Make a program; the function that comes back tells how it was called."""
    folder.mkdir(exist_ok=True)
    calls = folder / f".{name}.calls"
    program = folder / name
    text = _PROGRAM.format(
        python=sys.executable, calls=str(calls), name=name, prints=prints, status=status
    )
    program.write_text(text)
    program.chmod(0o755)

    def told() -> list[dict[str, Any]]:
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [json.loads(line) for line in lines]

    return told
