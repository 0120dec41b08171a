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
        governor: "auto" tries the ways of `governor.WAYS` and keeps the best, a name of one
            fixes it.
        threads: reader threads of a fixed way, None for its own number.
        chunk: tokens of a prompt that are read at once; None leaves it to the plan.
        whole_layers: give the first layers slots for all their experts.
        hold: decode steps for which the governor's choice stands.
        poison: fill slots with NaN when an expert leaves, for tests.
        in_place: None tests whether slots can be written in place; False forces the copy.
        verify: check the checksum of a record at every read, and not at the first only.
        throttle: makes the disk slower, for measurements.
    """

    policy: str = "lru"
    governor: str = "auto"
    threads: int | None = None
    chunk: int | None = None
    whole_layers: int = 0
    hold: int = 600
    poison: bool = False
    in_place: bool | None = None
    verify: bool = False
    throttle: Throttle | None = None
