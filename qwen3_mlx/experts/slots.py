"""Banks: tensors with room for a fixed number of experts, written in place by the reader.

A slot is written by `preadv` into the memory of an MLX array, behind MLX's back. That is
exact as long as one rule holds: *a slot is overwritten only after everything that reads it
has been computed*. A bank therefore remembers the last result that was computed from it, and
`settle` waits for that result; MLX runs the work of one thread in order, so earlier ones are
done then too.

Where a back end would hand out a copy of its memory instead of the memory itself (none does
today), `writes_in_place` finds out, and a bank then goes through a copy and `tensor[slot] =`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import mlx.core as mx
import numpy as np

from qwen3_mlx.experts.layout import ExpertFormat, Part
from qwen3_mlx.experts.numbers import BUFFER, MLX, converter, run_type
from qwen3_mlx.experts.store import Destination
from qwen3_mlx.model.config import Quantization
from qwen3_mlx.model.linear import ExpertMatrix, PlainExperts, QuantizedExperts
from qwen3_mlx.model.moe import ResidentExperts

__all__ = ["Bank", "writes_in_place"]


class _SlotTensor:
    """One tensor of a bank: (capacity, rows, columns), the rows of its parts stacked."""

    def __init__(
        self, parts: Sequence[Part], capacity: int, dtype: mx.Dtype | None, in_place: bool
    ) -> None:
        self.stored = parts[0].dtype
        self.kept = run_type(self.stored, dtype)
        self.convert = converter(self.stored, self.kept)
        self.shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])
        self.part_bytes = [part.nbytes for part in parts]
        self._in_place = in_place
        full = (capacity, *self.shape)
        if in_place:
            buffer = mx.zeros(full, BUFFER[self.kept][0])
            self.array = buffer.view(MLX[self.kept]) if self.kept == "BF16" else buffer
            mx.eval(buffer, self.array)
            self._memory = np.array(buffer, copy=False)
        else:
            self.array = mx.zeros(full, MLX[self.kept])
            mx.eval(self.array)

    def room(self, slot: int) -> np.ndarray[Any, Any]:
        """Where the numbers of a slot are to be put."""
        if self._in_place:
            row: np.ndarray[Any, Any] = self._memory[slot]
            return row
        return np.empty(self.shape, BUFFER[self.kept][1])

    def update(self, slot: int, values: np.ndarray[Any, Any]) -> None:
        """The safe copy: a new array from `values`, assigned to the slot."""
        made = mx.array(values)
        self.array[slot] = made.view(MLX[self.kept]) if self.kept == "BF16" else made


class Bank:
    """Room for `capacity` experts of one format.

    Args:
        format: of every expert that will be put here.
        capacity: how many slots there are.
        dtype: the type of the floats; None keeps the stored one.
        in_place: whether the reader writes into the tensors' own memory.
    """

    def __init__(
        self,
        format: ExpertFormat,
        capacity: int,
        dtype: mx.Dtype | None = None,
        *,
        in_place: bool = True,
    ) -> None:
        self.capacity, self.format, self.in_place = capacity, format, in_place
        self._tensors = [_SlotTensor(parts, capacity, dtype, in_place) for parts in format.tensors]
        self._destinations: dict[int, Destination] = {}
        self._staged: dict[int, list[np.ndarray[Any, Any]]] = {}
        self._last: mx.array | None = None
        self.experts = self._matrices()

    def destination(self, slot: int) -> Destination:
        """Where to read an expert to that shall be in this slot."""
        known = self._destinations.get(slot)
        if known is not None:
            return known
        rooms = [tensor.room(slot) for tensor in self._tensors]
        made = _destination(self._tensors, rooms)
        if self.in_place:
            if made.finish is None:  # otherwise it holds buffers that are worth freeing
                self._destinations[slot] = made
        else:
            self._staged[slot] = rooms
        return made

    def commit(self, slots: Sequence[int]) -> None:
        """Take over what was read for these slots; nothing to do where it is in place."""
        if self.in_place:
            return
        for slot in slots:
            for tensor, values in zip(self._tensors, self._staged.pop(slot), strict=True):
                tensor.update(slot, values)
        mx.eval(self.arrays())

    def copy_from(self, other: Bank, source: int, slot: int) -> None:
        """Take an expert over from a slot of another bank; both are written in place."""
        for mine, theirs in zip(self._tensors, other._tensors, strict=True):
            mine.room(slot)[...] = theirs.room(source)

    def apply(self, rows: mx.array, slots: mx.array, *, is_sorted: bool) -> mx.array:
        """Rows (n, D), each through the expert in its slot (n,) -> (n, D)."""
        out = self.experts.run(rows[:, None], slots, is_sorted=is_sorted).squeeze(1)
        self.used_by(out)
        return out

    def used_by(self, result: mx.array) -> None:
        """Remember the last result that was computed from this bank."""
        self._last = result

    def settle(self) -> None:
        """Wait until everything that reads this bank is computed: it may be overwritten then."""
        if self._last is not None:
            mx.eval(self._last)
            self._last = None

    def poison(self, slots: Sequence[int]) -> None:
        """Fill slots with NaN, so that a stale read cannot go unseen. For tests."""
        for slot in slots:
            for tensor in self._tensors:
                room = tensor.room(slot)
                room.view(np.uint8)[...] = 0xFF
                if not self.in_place:
                    tensor.update(slot, room)

    def arrays(self) -> list[mx.array]:
        return [tensor.array for tensor in self._tensors]

    def _matrices(self) -> ResidentExperts:
        """The tensors as expert matrices: gate|up (one or two) and down."""
        hows = self.format.hows
        order = (hows[0], hows[2]) if self.format.joined else hows
        arrays = iter(self.arrays())
        made = [_matrix(arrays, how) for how in order]
        return ResidentExperts(tuple(made[:-1]), made[-1])


def _matrix(arrays: Iterator[mx.array], how: Quantization | None) -> ExpertMatrix:
    if how is None:
        return PlainExperts(next(arrays))
    weight, scales = next(arrays), next(arrays)
    biases = next(arrays) if how.mode == "affine" else None
    return QuantizedExperts(weight, scales, biases, how)


def _destination(
    tensors: Sequence[_SlotTensor], rooms: Sequence[np.ndarray[Any, Any]]
) -> Destination:
    """Buffers for the rooms; those that need another number format go through a copy."""
    buffers, parts, late = [], [], []
    for tensor, room in zip(tensors, rooms, strict=True):
        raw = room
        if tensor.convert is not None:
            raw = np.empty(tensor.shape, BUFFER[tensor.stored][1])
            late.append((tensor.convert, raw, room))
        buffer = memoryview(cast(Any, raw)).cast("B")
        buffers.append(buffer)
        start = 0
        for nbytes in tensor.part_bytes:
            parts.append(buffer[start : start + nbytes])
            start += nbytes

    def finish() -> None:
        for convert, raw, room in late:
            convert(raw, room)

    return Destination(buffers, parts, finish if late else None)


def writes_in_place() -> bool:
    """The self-test: bytes written behind MLX's back are what its kernels read.

    Two types, one of them through the bf16 alias, and one value read after a second write.
    """
    buffer = mx.zeros((2, 64), mx.uint16)
    alias, words = buffer.view(mx.bfloat16), mx.zeros((2, 64), mx.uint32)
    mx.eval(buffer, alias, words)
    bits, codes = np.array(buffer, copy=False), np.array(words, copy=False)
    for value, pattern in ((1.0, 0x3F80), (2.0, 0x4000)):
        bits[1] = pattern
        codes[1] = pattern
        seen = mx.sum(alias[1]).item(), mx.max(words[1]).item(), mx.sum(alias[0]).item()
        if seen != (64 * value, pattern, 0.0):
            return False
    return True
