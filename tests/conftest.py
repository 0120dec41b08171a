"""Shared ground: helpers on the path, and a home folder that no test can spill out of."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from qwen3_mlx.warm import place

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

# A slow computer is no fault of the code: examples have no deadline, and may be slow to make. They
# are few and the same on every run; `pytest --hypothesis-profile=explore` draws more and new ones.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", _PATIENT)
settings.register_profile("patient", _PATIENT, derandomize=True, max_examples=50)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or writes the user's models and state, or asks the user's agent."""
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("QWEN3_MLX_AGENT", raising=False)
    yield
    mine = os.environ.get("QWEN3_MLX_HOME", "").startswith(str(tmp_path))
    if mine and not place.folder().startswith(str(tmp_path)):  # too deep for a socket
        shutil.rmtree(place.folder(), ignore_errors=True)
