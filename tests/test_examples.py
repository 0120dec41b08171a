"""Every example runs, with the embedded model, as its header says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hello() -> None:
    assert "42" in run("hello.py", "What is 12 + 30?")


def test_stream_thoughts() -> None:
    output = run("stream_thoughts.py", "What is 123 + 456?")
    assert "579" in output
    assert "thought" in output


def test_summarise_folder(tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text("hello")
    (tmp_path / "sum.md").write_text("what is 1 + 2?")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    run("summarise_folder.py", str(tmp_path))
    index = (tmp_path / "INDEX.md").read_text()

    assert index.startswith(f"# {tmp_path.name}\n")
    assert [line.split(":")[0] for line in index.splitlines()[2:]] == [
        "- **greeting.txt**",
        "- **sum.md**",
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    """At most 40 lines of its own: what is not the header comment or blank."""
    body = path.read_text().split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 40
