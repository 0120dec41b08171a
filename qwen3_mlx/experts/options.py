"""How experts are kept and read; plain values, so that front ends can make them."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_mlx.experts.store import Throttle

__all__ = ["PoolOptions"]


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How experts are kept and read.

    Args:
        policy: which expert leaves, a key of `policy.POLICIES`.
        threads: reader threads; 0 reads on the engine thread.
        overlap: compute the hits of a step while its misses are read.
        chunk: tokens of a prompt that are read at once; None leaves it to the plan.
        whole_layers: give the first layers slots for all their experts.
        poison: fill slots with NaN when an expert leaves, for tests.
        in_place: None tests whether slots can be written in place; False forces the copy.
        verify: check the checksum of a record at every read, and not at the first only.
        throttle: makes the disk slower, for measurements.
    """

    policy: str = "lru"
    threads: int = 0
    overlap: bool = False
    chunk: int | None = None
    whole_layers: int = 0
    poison: bool = False
    in_place: bool | None = None
    verify: bool = False
    throttle: Throttle | None = None
