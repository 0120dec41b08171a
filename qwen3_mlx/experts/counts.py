"""What streaming did, counted on the engine thread."""

from __future__ import annotations

from dataclasses import dataclass, fields

from qwen3_mlx.statistics import ExpertStats, PrefetchStats

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """Totals since the start, or between two moments (`minus`). Seconds are of waiting.

    `uses` counts (layer, expert) pairs that a decode step asked for and `hits` those that
    were in a slot; prefill is not part of either, because it asks for nearly all experts.
    """

    tokens: int = 0
    prefill_tokens: int = 0
    uses: int = 0
    hits: int = 0
    reads: int = 0
    decode_reads: int = 0
    read_bytes: int = 0
    useful_bytes: int = 0
    decode_bytes: int = 0
    syncs: int = 0
    decode_syncs: int = 0
    stall_seconds: float = 0.0
    launched: int = 0
    used: int = 0

    @property
    def misses(self) -> int:
        """How many of the experts that decode steps asked for were in no slot."""
        return self.uses - self.hits

    def copy(self) -> Counts:
        """The totals of this moment."""
        return Counts(**{each.name: getattr(self, each.name) for each in fields(self)})

    def minus(self, earlier: Counts) -> Counts:
        """What came since `earlier`."""
        return Counts(
            **{
                each.name: getattr(self, each.name) - getattr(earlier, each.name)
                for each in fields(self)
            }
        )

    def stats(self, slots: tuple[int, ...], experts: int, choice: str) -> ExpertStats:
        """The figures for people: rates, and amounts per decoded token."""
        tokens = max(1, self.tokens)
        return ExpertStats(
            slots=slots,
            resident_fraction=sum(slots) / max(1, experts * len(slots)),
            hit_rate=self.hits / self.uses if self.uses else 1.0,
            bytes_per_token=self.decode_bytes / tokens,
            read_amplification=self.read_bytes / self.useful_bytes if self.useful_bytes else 1.0,
            reads_per_token=self.decode_reads / tokens,
            stall_seconds=self.stall_seconds,
            syncs_per_token=self.decode_syncs / tokens,
            prefetch=PrefetchStats(self.launched, self.used),
            governor=choice,
        )
