"""Does a model fit? Weights and KV cache against the memory that a program may use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qwen3_mlx.catalogue import active_params, entries, quantized_bytes, total_params
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.fit import OUTSIDE_BYTES, Verdict, verdict
from qwen3_mlx.machines import this_machine
from qwen3_mlx.memory import parse_bytes
from qwen3_mlx.model.config import ModelConfig

__all__ = ["Candidate", "candidates", "usable_bytes"]

#: The chat that is reckoned with, in tokens, and what Python and the work need beside it.
CHAT_TOKENS = 8192
OVERHEAD_BYTES = OUTSIDE_BYTES + 200_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be chosen. `load_name` is what to pass to the loader.

    `least_bytes` is what it takes with its experts on disk, 0 where it has none or is not in
    a form that can be streamed; `partial` the share of a download that is here.
    """

    name: str
    load_name: str
    weight_bytes: int
    kv_bytes: int
    stored: str
    here: bool
    least_bytes: int = 0
    partial: float = 0.0

    def verdict(self, usable: int) -> Verdict:
        """One of "fits", "tight", "streams experts" and "too big"."""
        says = verdict(self.needed_bytes, usable)
        streams = says == "too big" and 0 < self.least_bytes <= usable
        return "streams experts" if streams else says

    @property
    def needed_bytes(self) -> int:
        """What it takes to chat with it."""
        return self.weight_bytes + self.kv_bytes + OVERHEAD_BYTES


def usable_bytes(limit: str = "") -> int:
    """The memory that a model may take on this computer, and under a limit such as "10GB"."""
    usable = this_machine().usable_bytes
    return min(usable, parse_bytes(limit)) if limit else usable


def candidates(
    local: Iterable[tuple[str, Path]], unfinished: Iterable[tuple[str, int, int]] = ()
) -> list[Candidate]:
    """The models on this machine, then the ones of the catalogue that must be downloaded."""
    begun = {hub_id.lower(): done / total for hub_id, done, total in unfinished if total}
    here = [found for name, path in local if (found := _local(name, path)) is not None]
    known = {candidate.name.lower() for candidate in here}
    for entry in entries():
        if entry.name == "tiny":
            here.insert(0, _known(entry.name, entry.config, here=True, stored="built in"))
        elif entry.hub_id.lower() not in known:
            known_one = _known(entry.name, entry.config, here=False, stored="bf16")
            here.append(replace(known_one, partial=begun.get(entry.hub_id.lower(), 0.0)))
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
        name, str(path), checkpoint.weight_bytes, _kv(config), f"{bits}-bit", here=True,
        least_bytes=_least(config, checkpoint.weight_bytes),
    )  # fmt: skip


def _least(config: ModelConfig, weight_bytes: int) -> int:
    """With the experts on disk but for a fifth of them, which is where streaming is pleasant."""
    if not config.experts:
        return 0
    trunk = weight_bytes * active_params(config) // total_params(config)
    return trunk + weight_bytes // 5 + _kv(config) + OVERHEAD_BYTES


def _known(name: str, config: ModelConfig, *, here: bool, stored: str) -> Candidate:
    return Candidate(name, name, quantized_bytes(config, None), _kv(config), stored, here)


def _kv(config: ModelConfig) -> int:
    return min(CHAT_TOKENS, config.max_positions) * config.kv_bytes_per_token()
