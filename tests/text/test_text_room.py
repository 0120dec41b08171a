"""The room as a whole: its examples run, and it stays a leaf."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

MODULES = ["messages", "sandbox", "template", "thinking", "tokenizer"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"qwen3_mlx.text.{name}")
    assert doctest.testmod(module).failed == 0
    assert module.__all__ == sorted(module.__all__)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """Jinja2 alone would cost a third of the time that the command has until its first word."""
    names = ", ".join(f"qwen3_mlx.text.{name}" for name in MODULES)
    code = f"import sys, {names}; print({{'jinja2', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
