"""What the pages say of the tree and of the command line holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from qwen3_mlx_app.cli import full_parser

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "training" / "README.md",
    ROOT / "qwen3_mlx" / "tiny" / "README.md",
]
MAP = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_scripts_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
    scripts = re.findall(r"\b((?:scripts|tests|examples|training)/[\w/-]+\.(?:py|sh))\b", text)
    assert not [script for script in scripts if not (ROOT / script).exists()]


def _commands() -> list[str]:
    """Every `qwen3-mlx …` of the pages' blocks and paragraphs that could be typed."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
                 for line in block.replace("\\\n", " ").splitlines()]  # fmt: skip
        lines += re.findall(r"`(qwen3-mlx [^`\s]+ [^`\n]+)`", text)
        for line in lines:
            typed = re.sub(r"\s{2,}#.*", "", line)
            for command in re.split(r" \| | > | & ?|; |<\(|\)\"?$|&& ", typed):
                place = command.find("qwen3-mlx ")
                if place >= 0 and "…" not in command:
                    found.add(command[place:].strip())
    return sorted(found)


@pytest.mark.parametrize("command", _commands())
def test_the_command_line_understands_it(command: str) -> None:
    _, *words = shlex.split(command, comments=True)
    words = [word for word in words if not re.fullmatch(r"2?>.*", word)]
    assert callable(full_parser().parse_args(words).run)


def test_every_module_of_the_library_is_on_the_map() -> None:
    rooms = [path for path in (ROOT / "qwen3_mlx").iterdir() if path.name[0] != "_"]
    names = [f"{path.name}/" for path in rooms if (path / "__init__.py").exists()]
    names += [path.name for path in rooms if path.suffix == ".py"]
    assert not [name for name in sorted(names) if f"`{name}`" not in MAP]


def test_every_module_of_the_converter_is_on_the_map() -> None:
    paths = (ROOT / "convert" / "qwen3_mlx_convert").glob("[a-z]*.py")
    names = [path.stem for path in paths if not path.stem.endswith("command")]
    assert not [name for name in sorted(names) if f"`{name}`" not in MAP]


def test_the_map_names_nothing_that_is_not_there() -> None:
    every = {path.name for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    named = re.findall(r"`[\w/]*?(\w+\.py)`", MAP)
    assert not [name for name in named if name not in every]
