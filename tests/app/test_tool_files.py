"""Files of tools: what becomes a tool, and what is said of files that are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_chat_command import parse

from qwen3_mlx.errors import OptionError
from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app import cli
from qwen3_mlx_app.tool_files import read_tools

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from os.path import basename
from random import shuffle

@dataclass
class Point:
    x: int

def add(a: int, b: int = 0) -> int:
    \"\"\"Add two numbers.\"\"\"
    return a + b

def move(to: Point) -> None:
    _helper(to)

def _helper(x):
    pass

plus = add
"""


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_public_functions_of_the_file_are_tools(tmp_path: Path) -> None:
    add, move = read_tools([write(tmp_path, GOOD)])
    assert (add.name, add.description, add.call({"a": 2, "b": 3})) == ("add", "Add two numbers.", 5)
    assert move.name == "move"
    assert move.call({"to": {"x": 1}}) is None


def test_the_same_name_in_two_files(tmp_path: Path) -> None:
    one, two = write(tmp_path, GOOD), write(tmp_path, GOOD, "other.py")
    with pytest.raises(OptionError, match="two tools are named 'add': rename one"):
        read_tools([one, two])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError"),
        ("from os import getcwd", "no public function"),
        ("", "no public function"),
        ("def f(a): ...", "parameter 'a' has no type hint"),
        ("def f(a: Nope): ...", "cannot be imported: NameError"),
        ("def f(a: 'Nope'): ...", "name 'Nope' is not defined"),
        ("def f(*a: int): ...", "name its parameters"),
        ("async def f(): ...", "f is async or a generator"),
        ("f = lambda: 1", "a tool needs a name"),
    ],
)
def test_files_that_are_no_tools(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    assert cli.main(["chat", "--tools", write(tmp_path, text)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error
    assert "mine.py" in error


@pytest.mark.parametrize(
    ("name", "word"), [("gone.py", "there is no such file"), ("notes.txt", "must end in .py")]
)
def test_paths_that_are_no_files_of_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, word: str
) -> None:
    write(tmp_path, "hello", "notes.txt")
    assert cli.main(["chat", "--tools", str(tmp_path / name)]) == 2
    assert word in capsys.readouterr().err


def test_a_file_imports_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", ["/nowhere", *sys.path])
    write(tmp_path, "def twice(n: int) -> int: return 2 * n", "beside_the_tools.py")
    text = """
def now(n: int) -> int:
    from beside_the_tools import twice
    return twice(n)
"""
    (tool,) = read_tools([write(tmp_path, "import beside_the_tools\n" + text)])
    assert tool.call({"n": 4}) == 8


def test_the_flag_reaches_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
    model = FakeModel(["Hello."])
    args = parse("-m", "tiny", "--plain", "--private", "--tools", write(tmp_path, GOOD))
    assert args.run(args, load=lambda progress: model) == 0
    assert [tool.name for tool in model.calls[0].tools] == ["add", "move"]
