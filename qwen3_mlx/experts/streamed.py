"""The experts of one layer, fewer of them in memory than there are.

A call waits for the router's choice (the one host sync of a streamed layer), reads what is
missing into slots, and then runs the same products as `ResidentExperts`: row by row the
arithmetic is the same, so the result is, bit for bit.

When more experts are wanted than there are slots, which is the rule while a prompt is read,
the work goes expert by expert in waves (`waves.py`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import mlx.core as mx

from qwen3_mlx.experts.counts import Counts
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.policy import Policy
from qwen3_mlx.experts.readers import Read, Readers, Ticket
from qwen3_mlx.experts.slots import Bank
from qwen3_mlx.experts.waves import Waves
from qwen3_mlx.model.moe import SORT_FROM

__all__ = ["Shared", "StreamedExperts"]


class Shared:
    """What the layers of one format share: readers, counts and the scratch bank's halves."""

    def __init__(
        self, options: PoolOptions, readers: Readers, counts: Counts, halves: tuple[Bank, Bank]
    ) -> None:
        self.options, self.counts, self.halves = options, counts, halves
        self.threads, self.overlap = options.threads, options.overlap
        self.first_layer: int | None = None
        self.deadline: float | None = None
        self._readers = readers
        self._abandoned: list[Ticket] = []

    def start(self, layer: int, experts: Sequence[int], slots: Sequence[int], bank: Bank) -> Ticket:
        """Begin to read experts into slots of a bank that nothing reads any more.

        Without threads the reads are over when this returns.

        Raises:
            ExpertReadError: a read failed.
        """
        self._finish_abandoned()
        reads = [Read(layer, e, bank.destination(s)) for e, s in zip(experts, slots, strict=True)]
        self.counts.reads += len(reads)
        self.counts.useful_bytes += len(reads) * bank.format.nbytes
        if self.threads:
            return self._readers.start(reads, self.threads)
        began = time.perf_counter()
        ticket = Ticket(0)
        ticket.nbytes = self._readers.read(reads)
        self.counts.stall_seconds += time.perf_counter() - began
        return ticket

    def wait(self, ticket: Ticket) -> None:
        """Wait for reads, at most until the deadline of whoever needs them.

        Raises:
            ExpertReadError: a read failed.
            TimeoutError: the deadline passed first.
        """
        began = time.perf_counter()
        try:
            ticket.wait(self.deadline)
        except TimeoutError:
            self._abandoned.append(ticket)
            raise
        finally:
            self.counts.stall_seconds += time.perf_counter() - began
        self.counts.read_bytes += ticket.nbytes

    def _finish_abandoned(self) -> None:
        """Reads that nobody waits for still write into their slots: let them end first."""
        while self._abandoned:
            ticket = self._abandoned.pop()
            try:
                self.wait(ticket)
            except TimeoutError:
                raise
            except Exception:  # it belongs to a request that is over
                continue


class StreamedExperts:
    """Where expert outputs come from, for a layer with fewer slots than experts.

    Args:
        layer: its number in the model.
        experts: how many there are, E.
        bank: the layer's own slots.
        shared: readers, counts and scratch.
        policy: which expert leaves.
    """

    streamed = True

    def __init__(
        self, layer: int, experts: int, bank: Bank, shared: Shared, policy: Policy
    ) -> None:
        self.layer, self.count = layer, experts
        self.bank, self.shared, self.policy = bank, shared, policy
        self.where: dict[int, int] = {}  # expert -> slot
        self._empty = list(range(bank.capacity))[::-1]
        self._waves = Waves(self)

    def __call__(self, x: mx.array, chosen: mx.array, *, decoding: bool = False) -> mx.array:
        """Tokens (N, D) and their experts (N, T) -> outputs (N, T, D)."""
        N, T = chosen.shape
        picked: list[list[int]] = chosen.tolist()  # type: ignore[assignment]
        flat = [expert for row in picked for expert in row]
        wanted = list(dict.fromkeys(flat))
        before = self.shared.counts.reads, self.shared.counts.read_bytes
        missing = [expert for expert in wanted if expert not in self.where]
        self.policy.use(wanted)
        try:
            if N * T < SORT_FROM and len(wanted) <= self.bank.capacity:
                return self._at_once(x, flat, wanted, missing, (N, T))
            return self._waves.run(x, flat, T)
        finally:
            self._count(N, len(wanted), len(missing), before, decoding)

    def arrays(self) -> list[mx.array]:
        return self.bank.arrays()

    def place(self, experts: Sequence[int], pinned: Collection[int]) -> list[int]:
        """Slots for experts that are about to be read, taken from those not `pinned`."""
        self.bank.settle()
        slots = []
        for _ in experts:
            if self._empty:
                slots.append(self._empty.pop())
            else:
                slots.append(self.where.pop(self.policy.victim(self.where, pinned)))
        if self.shared.options.poison:
            self.bank.poison(slots)
        return slots

    def begin(self, experts: Sequence[int], slots: Sequence[int]) -> Ticket:
        """Start to read into slots that `place` gave."""
        try:
            return self.shared.start(self.layer, experts, slots, self.bank)
        except BaseException:
            self._empty += slots
            raise

    def end(self, ticket: Ticket, experts: Sequence[int], slots: Sequence[int]) -> None:
        """Wait for the reads; only then do the slots count as filled."""
        try:
            self.shared.wait(ticket)
        except BaseException:
            self._empty += slots  # nothing is read into them before the ticket is over
            raise
        self.bank.commit(slots)
        self.where.update(zip(experts, slots, strict=True))

    def _at_once(
        self, x: mx.array, flat: list[int], wanted: list[int], missing: list[int],
        shape: tuple[int, int],
    ) -> mx.array:  # fmt: skip
        """All wanted experts have a slot: one product, or two if hits need not wait."""
        if missing:
            slots = self.place(missing, set(wanted))
            ticket = self.begin(missing, slots)
            if self.shared.overlap and len(missing) < len(wanted) and not ticket.done:
                return self._overlapped(x, flat, missing, slots, ticket, shape)
            self.end(ticket, missing, slots)
        index = mx.array([self.where[expert] for expert in flat]).reshape(shape)
        out = self.bank.experts(x, index)
        self.bank.used_by(out)
        return out

    def _overlapped(
        self, x: mx.array, flat: list[int], missing: list[int], slots: list[int],
        ticket: Ticket, shape: tuple[int, int],
    ) -> mx.array:  # fmt: skip
        """Compute the hits while the misses are read."""
        T, late = shape[1], set(missing)
        hits = [place for place, expert in enumerate(flat) if expert not in late]
        misses = [place for place, expert in enumerate(flat) if expert in late]
        early = self._rows(x, hits, flat, T)
        mx.async_eval(early)
        self.end(ticket, missing, slots)
        both = mx.concatenate([early, self._rows(x, misses, flat, T)])
        self.bank.used_by(both)
        back = [0] * len(flat)
        for row, place in enumerate([*hits, *misses]):
            back[place] = row
        return both[mx.array(back)].reshape(*shape, -1)

    def _rows(self, x: mx.array, places: list[int], flat: list[int], T: int) -> mx.array:
        rows = x[mx.array([place // T for place in places])]
        slots = mx.array([self.where[flat[place]] for place in places])
        return self.bank.apply(rows, slots, is_sorted=False)

    def _count(
        self, rows: int, wanted: int, missing: int, before: tuple[int, int], decoding: bool
    ) -> None:
        counts = self.shared.counts
        counts.syncs += 1
        first = self.layer == self.shared.first_layer
        if not decoding:
            counts.prefill_tokens += rows if first else 0
            return
        counts.tokens += rows if first else 0
        counts.uses += wanted
        counts.hits += wanted - missing
        counts.decode_syncs += 1
        counts.decode_reads += counts.reads - before[0]
        counts.decode_bytes += counts.read_bytes - before[1]
