"""Models to hold against a machine: a folder as it is, or a config as it would be converted."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from qwen3_mlx import hub
from qwen3_mlx.fit import Fit, fit, sizes_from_config
from qwen3_mlx.ledger import read_book
from qwen3_mlx.machines import Machine
from qwen3_mlx.memory import Sizes
from qwen3_mlx.model.config import ModelConfig

__all__ = ["DEFAULT_CONTEXT", "Subject", "judge", "planned", "stored"]

#: Tokens that are reckoned with where nobody says how many, as in a chat under a limit.
DEFAULT_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to judge: `stored` is "4-bit" and so on, `folder` where it is, if it is here."""

    name: str
    stored: str
    config: ModelConfig
    sizes: Sizes
    weight_bytes: int
    folder: Path | None = None


def judge(
    subject: Subject,
    machine: Machine,
    context: int | None,
    disk: float | None = None,
    *,
    limit: int | None = None,
) -> Fit:
    """Hold it against a machine, of which it may take at most `limit` bytes.

    `context` None is a chat of 8,192 tokens.
    """
    tokens = min(DEFAULT_CONTEXT, subject.config.max_positions) if context is None else context
    others = _claimed() if machine.here else 0
    if limit is not None:
        machine = replace(machine, usable_bytes=min(machine.usable_bytes, limit + others))
    return fit(subject.config, subject.sizes, machine, tokens, other_bytes=others, disk=disk)


def stored(name: str, folder: Path) -> Subject:
    """A folder as it is; its headers are read.

    Raises:
        CheckpointError, UnsupportedModelError: it cannot be used.
    """
    from qwen3_mlx.loading import open_weights, sizes_of  # mlx: only for a folder

    weights = open_weights(folder)
    sizes = sizes_of(weights)
    return Subject(name, weights.quantization, weights.config, sizes, weights.weight_bytes, folder)


def planned(name: str, config: ModelConfig, bits: int) -> Subject:
    """A model as `convert` would write it with so many bits; 16 is bf16."""
    from qwen3_mlx.model.allocation import SPEND
    from qwen3_mlx_convert.plan import forecast_config
    from qwen3_mlx_convert.quantize import Recipe

    recipe = Recipe(None if bits == 16 else bits, spend=SPEND if bits == 4 else 0.0)
    after = forecast_config(config, recipe)
    sizes = sizes_from_config(after)
    weights = sizes.trunk_bytes + config.experts * sum(sizes.slot_bytes.values())
    return Subject(name, "bf16" if bits == 16 else f"{bits}-bit", after, sizes, weights)


def _claimed() -> int:
    """What other programs of this machine have planned.

    What runs has its memory already; the model of this process makes room for the next one.
    """
    book = read_book(hub.data_dir() / "memory")
    return sum(entry.nbytes for entry in book if entry.pid != os.getpid())
