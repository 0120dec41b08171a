"""What no test of the app may depend on: the terminal's wish for no colour, and the clipboard."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_TURNS = "qwen3_mlx_app.tui.screens.turns"


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures have their colours, and what the person has copied stays where it is."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if _TURNS in sys.modules:
        monkeypatch.setattr(f"{_TURNS}.copy_to_system", lambda text: None)


@pytest.fixture
def chinese() -> Iterator[None]:
    """The interface in Chinese."""
    from qwen3_mlx_app.tui import language

    language.use("zh")
    yield
    language.use("en")
