"""Python files whose functions a model may call: `qwen3-mlx chat --tools FILE.py`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from qwen3_mlx.errors import OptionError
from qwen3_mlx.tools.functions import Tool, tools_of

__all__ = ["read_tools"]


def read_tools(paths: Sequence[str]) -> tuple[Tool, ...]:
    """The public functions that are defined in these files, as tools.

    Imported functions, classes and names that begin with _ are left out.

    Raises:
        OptionError: a file is not there, does not run, or has no function that can be a tool.
    """
    return tuple(tools_of([tool for path in paths for tool in _tools_in(Path(path))]))


def _tools_in(path: Path) -> list[Tool]:
    path = path.expanduser()
    if not path.is_file():
        raise OptionError(f"--tools {path}: there is no such file; give a Python file")
    module = _imported(path)
    functions = [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if not functions:
        raise OptionError(
            f"--tools {path} defines no public function: write one with type hints, such as "
            "def add(a: int, b: int) -> int"
        )
    return [_tool(path, function) for function in dict.fromkeys(functions)]


def _imported(path: Path) -> ModuleType:
    """The file as a module of its own, which `sys.modules` has: type hints are looked up there."""
    name = f"_qwen3_mlx_tools_{path.stem}_{len(sys.modules)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OptionError(f"--tools {path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    beside = str(path.resolve().parent)
    if beside not in sys.path:  # also later: a tool may import when it is called
        sys.path.append(beside)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise OptionError(
            f"--tools {path} cannot be imported: {_why(error)}; python {path} shows where"
        ) from error
    return module


def _tool(path: Path, function: Callable[..., Any]) -> Tool:
    name = function.__name__
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise OptionError(f"--tools {path}: {name} is async or a generator: a tool returns a value")
    try:
        return Tool.of(function)
    except Exception as error:  # also of a hint that names what is not there
        raise OptionError(
            f"--tools {path}: {_why(error)}; mend it, or name it _{name} to keep it from the model"
        ) from error


def _why(error: BaseException) -> str:
    """The error on one line, with its kind where the text alone says little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OptionError) else f"{type(error).__name__}: {text}"
