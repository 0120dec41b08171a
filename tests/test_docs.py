"""What the documentation shows runs: the page of the library, and the examples of docstrings."""

from __future__ import annotations

import doctest
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import qwen3_mlx

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
LIBRARY = Path(qwen3_mlx.__file__).parent


def modules() -> Iterator[str]:
    """The modules of the library that have examples."""
    for file in sorted(LIBRARY.rglob("*.py")):
        if re.search(r"^\s*>>> ", file.read_text(encoding="utf-8"), re.MULTILINE):
            path = file.relative_to(LIBRARY.parent).with_suffix("")
            yield ".".join(part for part in path.parts if part != "__init__")


MODULES = list(modules())


def test_the_library_in_ten_minutes() -> None:
    """The blocks in their order, in one namespace, as a reader would type them."""
    # A file of its own, so that dataclasses find their module.
    module = ModuleType("library_page")
    sys.modules["library_page"] = module
    try:
        for number, block in enumerate(
            re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        ):
            exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), module.__dict__)
    finally:
        del sys.modules["library_page"]


def test_the_page_has_its_blocks() -> None:
    assert PAGE.read_text(encoding="utf-8").count("```python\n") >= 9


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(import_module(name), optionflags=flags)
    assert result.attempted
    assert result.failed == 0


# Methods of public classes that only the engine calls, on its own thread.
FOR_THE_ENGINE = {
    f"TextGeneration.{name}" for name in ("attach", "failed", "finished", "prefill", "token")
}


def public() -> Iterator[tuple[str, Any]]:
    """Every public name and every public method, property and class method behind it."""
    for name in qwen3_mlx.__all__:
        thing = getattr(qwen3_mlx, name)
        yield name, thing
        for member in dir(thing) if inspect.isclass(thing) else ():
            found = inspect.getattr_static(thing, member)
            function = getattr(found, "fget", None) or getattr(found, "__func__", found)
            ours = isinstance(function, FunctionType) and "qwen3_mlx" in function.__module__
            if ours and not member.startswith("_") and f"{name}.{member}" not in FOR_THE_ENGINE:
                yield f"{name}.{member}", function


PUBLIC = dict(public())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    """In its docstring; a name that cannot have one has it in the docstring of its module."""
    thing, parser = PUBLIC[name], doctest.DocTestParser()
    if isinstance(thing, type | FunctionType):
        assert parser.get_examples(inspect.getdoc(thing) or "")
        assert thing.__module__ in MODULES
        return
    homes = [module for module in map(import_module, MODULES) if name in vars(module)]
    examples = [each for module in homes for each in parser.get_examples(module.__doc__ or "")]
    assert any(re.search(rf"\b{name}\b", example.source) for example in examples)
