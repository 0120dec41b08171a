"""More experts than slots: expert by expert, each read once, in waves.

    1  the experts that are in slots
    2  those that are not and will not be kept, through the two halves of the scratch bank in
       turn: one half is read while the device computes the other
    3  the ones that are used most, into slots, so that what follows starts warm

A wave computes all tokens of its experts, so nothing is read twice for one chunk; the rows
are put back into the order of the tokens at the end, and summed as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from qwen3_mlx.experts.slots import Bank
from qwen3_mlx.model.moe import SORT_FROM

if TYPE_CHECKING:
    from qwen3_mlx.experts.streamed import StreamedExperts

__all__ = ["Work", "run_in_waves"]


def run_in_waves(layer: StreamedExperts, x: mx.array, flat: list[int], T: int) -> mx.array:
    """Tokens (N, D) and the expert of each (token, choice) pair -> outputs (N, T, D)."""
    work = Work(x, flat, T, layer.count)
    kept = _hottest(work.places, layer.where, layer.bank.capacity)
    hits = [expert for expert in work.places if expert in layer.where]
    rest = [expert for expert in work.places if expert not in layer.where]
    if hits:
        work.run(layer.bank, {expert: layer.where[expert] for expert in hits})
    _through_scratch(layer, work, [expert for expert in rest if expert not in kept])
    _into_slots(layer, work, [expert for expert in rest if expert in kept], kept)
    return work.result()


def _through_scratch(layer: StreamedExperts, work: Work, experts: list[int]) -> None:
    shared = layer.shared
    for number, group in enumerate(_groups(experts, shared.halves[0].capacity)):
        half = shared.halves[number % 2]
        half.settle()
        slots = range(len(group))
        shared.forget(number % 2)
        if shared.options.poison:
            half.poison(range(half.capacity))
        shared.wait(shared.start(layer.layer, group, slots, half))
        half.commit(slots)
        work.run(half, dict(zip(group, slots, strict=True)))


def _into_slots(layer: StreamedExperts, work: Work, experts: list[int], kept: set[int]) -> None:
    for group in _groups(experts, layer.shared.halves[0].capacity):
        slots = layer.place(group, kept)
        layer.end(layer.begin(group, slots), group, slots)
        work.run(layer.bank, {expert: layer.where[expert] for expert in group})


class Work:
    """One call: its tokens, where each expert's rows are, and the outputs so far."""

    def __init__(self, x: mx.array, flat: Sequence[int], T: int, experts: int) -> None:
        self._x, self._T, self._pairs, self._experts = x, T, len(flat), experts
        self.places: dict[int, list[int]] = {}  # expert -> its pairs
        for place, expert in enumerate(flat):
            self.places.setdefault(expert, []).append(place)
        self._outs: list[mx.array] = []
        self._order: list[int] = []

    def run(self, bank: Bank, where: dict[int, int]) -> None:
        """Compute all rows of these experts, which are in these slots of the bank."""
        order: list[int] = []
        slots: list[int] = []
        for expert in sorted(where, key=where.__getitem__):
            places = self.places[expert]
            order += places
            slots += [where[expert]] * len(places)
        padding = self._padding(len(slots), bank)
        rows = self._x[mx.array([place // self._T for place in order] + [0] * padding)]
        index = mx.array(slots + slots[-1:] * padding)
        out = bank.apply(rows, index, is_sorted=self._is_sorted(bank))[: len(order)]
        mx.async_eval(out)
        self._outs.append(out)
        self._order += order

    def result(self) -> mx.array:
        """The outputs in the order of the tokens, (N, T, D)."""
        back = [0] * self._pairs
        for row, place in enumerate(self._order):
            back[place] = row
        out = self._outs[0] if len(self._outs) == 1 else mx.concatenate(self._outs)
        return out[mx.array(back)].reshape(-1, self._T, out.shape[-1])

    def _is_sorted(self, bank: Bank) -> bool:
        """Whether resident experts would say so, which chooses the kernel on a GPU."""
        if self._pairs < SORT_FROM:
            return False
        quantised = any(how is not None for how in bank.format.hows)
        return not quantised or self._pairs // self._experts >= 4

    def _padding(self, rows: int, bank: Bank) -> int:
        """Rows to add so that a GPU takes the kernel that it takes for all experts resident.

        Metal's gather_qmm multiplies row by row unless the experts are sorted and there are
        at least 16 rows and 4 for each expert of the tensor; the two kernels round
        differently. (mlx/backend/metal/quantized.cpp, GatherQMM::eval_gpu, 0.32.)
        """
        on_cpu = mx.default_device().type == mx.DeviceType.cpu
        if on_cpu or not self._is_sorted(bank):
            return 0
        return max(0, 16 - rows, 4 * bank.capacity - rows)


def _groups(experts: list[int], size: int) -> list[list[int]]:
    return [experts[i : i + size] for i in range(0, len(experts), size)]


def _hottest(places: dict[int, list[int]], held: dict[int, int], count: int) -> set[int]:
    """The experts to keep: the most rows first, then those that are here already."""

    def heat(expert: int) -> tuple[int, bool, int]:
        return len(places[expert]), expert in held, places[expert][-1]

    return set(sorted(places, key=heat, reverse=True)[:count])
