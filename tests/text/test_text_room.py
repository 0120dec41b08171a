"""The room as a whole stays a leaf."""

from __future__ import annotations

import subprocess
import sys

MODULES = ["messages", "sandbox", "template", "thinking", "tokenizer"]


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """Jinja2 alone would cost a third of the time that the command has until its first word."""
    names = ", ".join(f"qwen3_mlx.text.{name}" for name in MODULES)
    code = f"import sys, {names}; print({{'jinja2', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
