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

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "library.md", ROOT / "README.md"]
#: Every module of ours with an example in a docstring.
MODULES = sorted(
    ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
    for folder in (ROOT, ROOT / "app", ROOT / "convert")
    for path in folder.glob("qwen3_mlx*/**/*.py")
    if re.search(r"^\s*>>> (?!.*\+SKIP)", path.read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_on_a_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks in their order, in one namespace, as a reader would type them."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    # A module of its own, since dataclasses look theirs up.
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), module.__dict__)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.attempted > 0
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
