"""Every English string of the interface, read from the source: what chinese.py must have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import qwen3_mlx_app.tui

__all__ = ["interface_strings"]

#: Positions of the arguments that are shown, by the name that is called.
_CALLS = {
    "t": (0,), "say": (0,), "Binding": (2,), "_key": (2, 3), "Command": (1,),
    # These want a text that is translated already: a bare one is missed in chinese.py.
    "_note": (0,), "_say": (0,), "_tell": (0,), "notice": (0,), "notify": (0,),
    "ErrorNote": (0, 1), "SystemCommand": (0, 1),
}  # fmt: skip
#: Assignments whose strings are shown.
_TABLES = {"HELP", "PLACEHOLDER", "_LABELS", "_NAMES", "_DOING", "_TINY_HINT", "text"}


def interface_strings() -> set[str]:
    """All of them, without those that are a name or a sign only."""
    root = Path(str(qwen3_mlx_app.tui.__file__)).parent
    files = [*root.rglob("*.py"), root.parent / "chat_command.py"]
    found = {text for file in files for text in _strings(ast.parse(file.read_text("utf-8")))}
    return {text for text in found if any(letter.isalpha() for letter in text)}


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            wanted = _CALLS.get(name, ())
            yield from _constants([node.args[at] for at in wanted if at < len(node.args)])
            if name == "Binding":
                yield from _constants([k.value for k in node.keywords if k.arg == "tooltip"])
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in _TABLES:
            value = node.value
            yield from _constants(value.values if isinstance(value, ast.Dict) else [value])


def _constants(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.IfExp):
            yield from _constants([node.body, node.orelse])
        elif isinstance(node, ast.JoinedStr):
            yield from _constants([part for part in node.values if _has_words(part)])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _has_words(part: ast.expr) -> bool:
    """Whether a piece of an f-string says something; a command such as `/chats ` is a name."""
    return isinstance(part, ast.Constant) and not str(part.value).startswith("/")
