"""Models as the chat's list offers them, on a computer that never changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qwen3_mlx import hub
from qwen3_mlx.catalogue import find
from qwen3_mlx.machines import Machine
from qwen3_mlx_app.fit_subjects import planned
from qwen3_mlx_app.tui.fitting import Candidate, candidate

__all__ = ["offer"]


def offer(
    of: str, bits: int, usable: int, *, name: str = "", here: bool = True, partial: float = 0.0
) -> Candidate:
    """A model of the catalogue with so many bits, where so many bytes can be used."""
    entry = find(of)
    assert entry is not None
    subject = planned(name or of, entry.config, bits)
    if here:
        folder = hub.resolve("tiny") if of == "tiny" else Path(subject.name)
        subject = replace(subject, folder=folder)
    return candidate(subject, Machine("a computer", usable, usable, None), partial=partial)
