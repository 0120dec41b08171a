"""Does a model fit? Weights and KV cache against the memory that a program may use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qwen3_mlx.catalogue import entries, quantized_bytes
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.model.config import ModelConfig

__all__ = ["Candidate", "candidates", "usable_bytes", "verdict"]

#: The chat that is reckoned with, in tokens, and what Python and the work need beside it.
CHAT_TOKENS = 8192
OVERHEAD_BYTES = 400_000_000
#: macOS lets the GPU keep about three quarters of the memory.
USABLE = 0.75


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be chosen. `load_name` is what to pass to the loader."""

    name: str
    load_name: str
    weight_bytes: int
    kv_bytes: int
    stored: str
    here: bool

    @property
    def needed_bytes(self) -> int:
        """What it takes to chat with it."""
        return self.weight_bytes + self.kv_bytes + OVERHEAD_BYTES


def usable_bytes() -> int:
    """The memory that a model may take on this computer."""
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * USABLE)


def verdict(needed: int, usable: int) -> str:
    """One of "fits", "tight" and "too big".

    >>> [verdict(size, 100) for size in (80, 100, 101)]
    ['fits', 'tight', 'too big']
    """
    if needed <= 0.8 * usable:
        return "fits"
    return "tight" if needed <= usable else "too big"


def candidates(local: Iterable[tuple[str, Path]]) -> list[Candidate]:
    """The models on this machine, then the ones of the catalogue that must be downloaded."""
    here = [found for name, path in local if (found := _local(name, path)) is not None]
    known = {candidate.name.lower() for candidate in here}
    for entry in entries():
        if entry.name == "tiny":
            here.insert(0, _known(entry.name, entry.config, here=True, stored="built in"))
        elif entry.hub_id.lower() not in known:
            here.append(_known(entry.name, entry.config, here=False, stored="bf16"))
    return here


def _local(name: str, path: Path) -> Candidate | None:
    """A folder that is whole; one that is not cannot be chosen."""
    try:
        checkpoint = open_checkpoint(path)
        config = ModelConfig.from_dict(checkpoint.config)
    except (Qwen3Error, OSError):
        return None
    bits = config.quantization.bits if config.quantization is not None else 16
    return Candidate(
        name, str(path), checkpoint.weight_bytes, _kv(config), f"{bits}-bit", here=True
    )


def _known(name: str, config: ModelConfig, *, here: bool, stored: str) -> Candidate:
    return Candidate(name, name, quantized_bytes(config, None), _kv(config), stored, here)


def _kv(config: ModelConfig) -> int:
    return min(CHAT_TOKENS, config.max_positions) * config.kv_bytes_per_token()
