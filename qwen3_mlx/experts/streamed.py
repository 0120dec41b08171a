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
from contextlib import suppress
from dataclasses import dataclass

import mlx.core as mx

from qwen3_mlx.errors import ExpertReadError
from qwen3_mlx.experts.ahead import Oracle
from qwen3_mlx.experts.counts import Counts
from qwen3_mlx.experts.governor import Governor, Way
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.policy import Policy
from qwen3_mlx.experts.readers import Read, Readers, Ticket
from qwen3_mlx.experts.slots import Bank
from qwen3_mlx.experts.trace import Trace
from qwen3_mlx.experts.waves import Work, run_in_waves
from qwen3_mlx.model.moe import SORT_FROM
from qwen3_mlx.model.qwen3 import Patience

__all__ = ["Common", "Shared", "StreamedExperts"]


@dataclass(frozen=True, slots=True)
class _Pending:
    """An expert that is being read into a slot of a scratch half."""

    expert: int
    slot: int
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class _Miss:
    """Experts on their way into slots; `ahead` is the scratch slot of one that was guessed."""

    experts: list[int]
    slots: list[int]
    ticket: Ticket
    ahead: int | None = None


@dataclass(frozen=True, slots=True)
class _Guess:
    """Experts that are read before their layer asks for them."""

    layer: int
    coming: list[_Pending]


class Common:
    """What all layers share: counts, the governor, how long to wait, a trace if one is wanted."""

    def __init__(self, governor: Governor) -> None:
        self.counts, self.governor = Counts(), governor
        self.first_layer: int | None = None
        self.patience = Patience()
        self.trace: Trace | None = None


class Shared:
    """What the layers of one format share: readers, counts and the scratch bank's halves."""

    def __init__(
        self, options: PoolOptions, readers: Readers, common: Common, halves: tuple[Bank, Bank]
    ) -> None:
        self.options, self.common, self.halves = options, common, halves
        self.counts = common.counts
        self.guesses: list[_Guess | None] = [None, None]  # what is being read into each half
        self._readers = readers
        self._flying: list[Ticket] = []
        self._abandoned: list[Ticket] = []

    @property
    def way(self) -> Way:
        """How to read in this step."""
        return self.common.governor.way

    def start(self, layer: int, experts: Sequence[int], slots: Sequence[int], bank: Bank) -> Ticket:
        """Begin to read experts into slots of a bank that nothing reads any more.

        Without threads the reads are over when this returns.

        Raises:
            ExpertReadError: a read failed.
            TimeoutError: the deadline passed first.
        """
        self.finish_abandoned()
        reads = [Read(layer, e, bank.destination(s)) for e, s in zip(experts, slots, strict=True)]
        self.counts.reads += len(reads)
        self.counts.useful_bytes += len(reads) * bank.format.nbytes
        if self.way.threads:
            ticket = self._readers.start(reads, self.way.threads)
            self._flying.append(ticket)
            return ticket
        began = time.perf_counter()
        ticket = Ticket(0)
        try:
            ticket.nbytes = self._readers.read(reads, self.common.patience.deadline)
        finally:
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
            ticket.wait(self.common.patience.deadline)
        finally:
            self.counts.stall_seconds += time.perf_counter() - began
            if ticket.done and ticket in self._flying:
                self._flying.remove(ticket)
        self.counts.read_bytes += ticket.take_bytes()

    def guess(self, number: int, layer: int, experts: Sequence[int]) -> None:
        """Begin to read experts that a layer may want into a half of the scratch bank."""
        self.forget(number)
        half = self.halves[number]
        half.settle()
        coming = [
            _Pending(e, slot, self._readers.start(
                [Read(layer, e, half.destination(slot))], self.way.threads))
            for slot, e in enumerate(experts[: half.capacity])
        ]  # fmt: skip
        self.guesses[number] = _Guess(layer, coming)

    def guessed(self, number: int, layer: int, wanted: Collection[int]) -> dict[int, _Pending]:
        """Of what was guessed for this layer, what it wants; the rest is not read any more."""
        guess = self.guesses[number]
        if guess is None or guess.layer != layer:
            return {}
        for each in guess.coming:
            each.ticket.cancelled = each.ticket.cancelled or each.expert not in wanted
        return {each.expert: each for each in guess.coming if not each.ticket.cancelled}

    def forget(self, number: int) -> None:
        """Wait until nothing is being read into a half, whatever becomes of it."""
        self.finish_abandoned()  # they may be of a wave, which reads into the halves too
        guess = self.guesses[number]
        if guess is None:
            return
        for each in guess.coming:
            each.ticket.cancelled = True
        for each in guess.coming:
            with suppress(ExpertReadError):  # whoever needs it reads it again, and hears of it
                self.wait(each.ticket)
            self.counts.launched += each.ticket.nbytes > 0
        self.guesses[number] = None

    def abandon(self) -> None:
        """A step was given up: nobody waits any more for what is being read for it."""
        self._abandoned, self._flying = [*self._abandoned, *self._flying], []

    def finish_abandoned(self) -> None:
        """Abandoned reads still write into their slots: let them end before any other begins.

        Raises:
            TimeoutError: the deadline passed first.
        """
        while self._abandoned:
            with suppress(ExpertReadError):  # it belongs to a step that is over
                self.wait(self._abandoned[-1])
            self._abandoned.pop()


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
        self._oracle: Oracle | None = None

    def look_ahead(self, oracle: Oracle | None) -> None:
        """What the next layer may want, as far as this one can tell."""
        self._oracle = oracle

    def __call__(self, x: mx.array, chosen: mx.array, *, decoding: bool = False) -> mx.array:
        """Tokens (N, D) and their experts (N, T) -> outputs (N, T, D)."""
        N, T = chosen.shape
        common = self.shared.common
        if self.layer == common.first_layer:
            common.governor.step(common.counts.misses) if decoding else common.governor.pause()
        guess = None
        if decoding and self._oracle is not None and self.shared.way.prefetch:
            guess = self._oracle(x)
            mx.eval(guess, chosen)
        picked: list[list[int]] = chosen.tolist()  # type: ignore[assignment]
        flat = [expert for row in picked for expert in row]
        wanted = list(dict.fromkeys(flat))
        before = self.shared.counts.reads, self.shared.counts.read_bytes
        missing = [expert for expert in wanted if expert not in self.where]
        self.policy.use(wanted)
        if decoding and common.trace is not None:
            common.trace.add(self.layer, wanted)
        try:
            if N * T < SORT_FROM and len(wanted) <= self.bank.capacity:
                return self._at_once(x, flat, wanted, missing, (N, T), guess)
            return run_in_waves(self, x, flat, T)
        except BaseException:  # what is still being read ends before anything else is (`start`)
            self._empty = sorted(set(range(self.bank.capacity)) - set(self.where.values()))
            self.shared.abandon()
            raise
        finally:
            self._count(N, len(wanted), len(missing), before, decoding)

    def arrays(self) -> list[mx.array]:
        return self.bank.arrays()

    def place(self, experts: Sequence[int], pinned: Collection[int]) -> list[int]:
        """Slots for experts that are about to be read, taken from those not `pinned`."""
        self.shared.finish_abandoned()  # or a late read would write into one of them
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
        return self.shared.start(self.layer, experts, slots, self.bank)

    def end(self, ticket: Ticket, experts: Sequence[int], slots: Sequence[int]) -> None:
        """Wait for the reads; only then do the slots count as filled."""
        self.shared.wait(ticket)
        self.bank.commit(slots)
        self.where.update(zip(experts, slots, strict=True))

    def _at_once(
        self, x: mx.array, flat: list[int], wanted: list[int], missing: list[int],
        shape: tuple[int, int], guess: mx.array | None,
    ) -> mx.array:  # fmt: skip
        """All wanted experts have a slot: one product, or two if hits need not wait."""
        misses = self._begin_misses(missing, wanted)
        if guess is not None and self._oracle is not None:
            self._oracle.read_ahead(guess, self.shared)
        if misses and self.shared.way.overlap:
            return self._overlapped(x, flat, misses, shape)
        for miss in misses:
            self._finish(miss)
        index = mx.array([self.where[expert] for expert in flat]).reshape(shape)
        out = self.bank.experts(x, index)
        self.bank.used_by(out)
        return out

    def _begin_misses(self, missing: list[int], wanted: list[int]) -> list[_Miss]:
        """Start to read what is missing, and find what was read ahead of time."""
        ahead = self.shared.guessed(self.layer % 2, self.layer, missing)
        if not missing:
            return []
        slots = dict(zip(missing, self.place(missing, set(wanted)), strict=True))
        late = [expert for expert in missing if expert not in ahead]
        together = [[expert] for expert in late] if self.shared.way.overlap else [late]
        misses = [
            _Miss(experts, places, self.begin(experts, places))
            for experts in together
            if experts and (places := [slots[expert] for expert in experts])
        ]
        return misses + [
            _Miss([each.expert], [slots[each.expert]], each.ticket, each.slot)
            for each in ahead.values()
        ]

    def _finish(self, miss: _Miss) -> None:
        """Wait for experts until they are in their slots."""
        if miss.ahead is None:
            self.end(miss.ticket, miss.experts, miss.slots)
            return
        shared = self.shared
        try:
            shared.wait(miss.ticket)
        except ExpertReadError:  # read it again: the fault may be over, or is told now
            self.end(self.begin(miss.experts, miss.slots), miss.experts, miss.slots)
            return
        self.bank.copy_from(shared.halves[self.layer % 2], miss.ahead, miss.slots[0])
        shared.counts.used += 1
        shared.counts.useful_bytes += self.bank.format.nbytes
        self.where[miss.experts[0]] = miss.slots[0]

    def _overlapped(
        self, x: mx.array, flat: list[int], misses: list[_Miss], shape: tuple[int, int]
    ) -> mx.array:
        """Compute the hits while the misses are read, and each miss while the next is read."""
        work = Work(x, flat, shape[1], self.count)
        late = {expert for miss in misses for expert in miss.experts}
        if hits := work.places.keys() - late:
            work.run(self.bank, {expert: self.where[expert] for expert in hits})
        while misses:
            ready = [miss for miss in misses if miss.ticket.done] or misses[:1]
            misses = [miss for miss in misses if miss not in ready]
            for miss in ready:
                self._finish(miss)
            come = (expert for miss in ready for expert in miss.experts)
            work.run(self.bank, {expert: self.where[expert] for expert in come})
        return work.result()

    def _count(
        self, rows: int, wanted: int, missing: int, before: tuple[int, int], decoding: bool
    ) -> None:
        counts = self.shared.counts
        counts.syncs += 1
        first = self.layer == self.shared.common.first_layer
        if not decoding:
            counts.prefill_tokens += rows if first else 0
            return
        counts.tokens += rows if first else 0
        counts.uses += wanted
        counts.hits += wanted - missing
        counts.decode_syncs += 1
        counts.decode_reads += counts.reads - before[0]
        counts.decode_bytes += counts.read_bytes - before[1]
