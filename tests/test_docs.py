"""What the documentation shows runs: the page of the library, and the examples of docstrings."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import qwen3_mlx

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
MODULES = [
    "qwen3_mlx",
    "qwen3_mlx.api",
    "qwen3_mlx.asking",
    "qwen3_mlx.chat",
    "qwen3_mlx.errors",
    "qwen3_mlx.events",
    "qwen3_mlx.grammar.grammar",
    "qwen3_mlx.grammar.types",
    "qwen3_mlx.interface",
    "qwen3_mlx.mailbox",
    "qwen3_mlx.presets",
    "qwen3_mlx.reading",
    "qwen3_mlx.statistics",
    "qwen3_mlx.testing",
    "qwen3_mlx.text.calls",
    "qwen3_mlx.text.messages",
    "qwen3_mlx.text.stops",
    "qwen3_mlx.text.thinking",
    "qwen3_mlx.text.typing_values",
    "qwen3_mlx.tools.functions",
    "qwen3_mlx.tools.loop",
]


def test_the_library_in_ten_minutes() -> None:
    """The blocks in their order, in one namespace, as a reader would type them."""
    # A file of its own, so that dataclasses find their module.
    module = ModuleType("library_page")
    import sys

    sys.modules["library_page"] = module
    try:
        for number, block in enumerate(
            re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        ):
            exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), module.__dict__)
    finally:
        del sys.modules["library_page"]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    module = import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


# Values that events and replies are made of: what they look like says everything.
@pytest.mark.parametrize(
    "name", [n for n in qwen3_mlx.__all__ if inspect.isclass(getattr(qwen3_mlx, n))]
)
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(qwen3_mlx, name))
