"""Figures about experts that are read from disk, as a reply and the app's gauge show them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ExpertStats", "PrefetchStats"]


@dataclass(frozen=True, slots=True)
class PrefetchStats:
    """Experts read before the router asked for them, and how many of those it then did."""

    launched: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class ExpertStats:
    """What streaming did.

    `slots` are by MoE layer, `resident_fraction` is their share of all experts. `hit_rate` is
    of decoded tokens, as are `bytes_per_token`, `reads_per_token` (experts) and
    `syncs_per_token` (times that the host waited for a router). `read_amplification` is bytes
    read over bytes used. `stall_seconds` is the time spent waiting for the disk, and
    `governor` says what the governor chose.

    >>> stats = ExpertStats(slots=(64, 64), resident_fraction=0.5, hit_rate=0.9)
    >>> f"{stats.hit_rate:.0%} of the experts were in memory"
    '90% of the experts were in memory'
    """

    slots: tuple[int, ...] = ()
    resident_fraction: float = 1.0
    hit_rate: float = 1.0
    bytes_per_token: float = 0.0
    read_amplification: float = 1.0
    reads_per_token: float = 0.0
    stall_seconds: float = 0.0
    syncs_per_token: float = 0.0
    prefetch: PrefetchStats = field(default_factory=PrefetchStats)
    governor: str = ""
