"""Room for a model beside what other programs of this machine have planned.

What is claimed is what was planned. Where nobody set a limit, all of a model is taken if there
is room for it; else experts stay on disk, which is said through logging; else it is refused
with the numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import MemoryPlanError
from qwen3_mlx.fit import OUTSIDE_BYTES
from qwen3_mlx.ledger import Book, Claim, open_book
from qwen3_mlx.memory import Plan, round_up

__all__ = ["Room"]

#: Models that take less than this are not worth a word to others.
SMALL_BYTES = 250_000_000
_log = logging.getLogger("qwen3_mlx")


class Room:
    """The memory that programs may use on this machine.

    Args:
        folder: where the ledger is.
        usable: tells the bytes for all of them together; asked only for models of some size.
    """

    def __init__(self, folder: Path, usable: Callable[[], int]) -> None:
        self._folder, self._usable = folder, usable

    def take(self, plan: Plan, what: str) -> Claim:
        """Claim a plan that the person's own limit made; it is only said if it is too much."""
        if plan.total_bytes < SMALL_BYTES:
            return Claim()
        with open_book(self._folder) as book:
            wanted = plan.total_bytes + OUTSIDE_BYTES
            if wanted + book.claimed_bytes > self._usable():
                _log.warning(
                    "%s plans %s and %s are left of the machine's memory%s: expect swapping",
                    what, format_bytes(wanted), format_bytes(self._left(book)), _others(book),
                )  # fmt: skip
            return book.claim(wanted, what)

    def fit(
        self, full: Plan, limited: Callable[[int], Plan] | None, what: str
    ) -> tuple[Plan | None, Claim]:
        """The plan that fits what is left, None for all in memory, and the claim of it.

        Args:
            full: with everything in memory.
            limited: makes a plan under a limit; None where no part can stay on disk.
            what: the name of the claim.

        Raises:
            MemoryPlanError: there is no room.
        """
        wanted = full.total_bytes + OUTSIDE_BYTES
        if full.total_bytes < SMALL_BYTES:
            return None, Claim()
        with open_book(self._folder) as book:
            left = self._left(book)
            if wanted <= left:
                return None, book.claim(wanted, what)
            plan = _under(limited, left - OUTSIDE_BYTES)
            if plan is None:
                raise self._refusal(full, wanted, book, what)
            _log.warning(
                "%s needs %s and %s are left%s: %.0f %% of the experts are kept in memory, the "
                "others are read from disk", what, format_bytes(wanted), format_bytes(left),
                _others(book), 100 * plan.resident_fraction,
            )  # fmt: skip
            return plan, book.claim(plan.total_bytes + OUTSIDE_BYTES, what)

    def _left(self, book: Book) -> int:
        return max(0, self._usable() - book.claimed_bytes)

    def _refusal(self, full: Plan, wanted: int, book: Book, what: str) -> MemoryPlanError:
        closing = "close the other program, " if book.entries else ""
        return MemoryPlanError(
            f"{what} needs {format_bytes(wanted)} with {full.context:,} tokens, and "
            f"{format_bytes(self._left(book))} of {format_bytes(self._usable())} are left"
            f"{_others(book)}: {closing}choose a smaller model (`qwen3-mlx fit`), convert it with "
            f"--q4, or pass --memory-limit {round_up(full.total_bytes)} to use so much all the "
            "same",
            full.total_bytes,
        )


def _under(limited: Callable[[int], Plan] | None, limit: int) -> Plan | None:
    if limited is None or limit <= 0:
        return None
    try:
        return limited(limit)
    except MemoryPlanError:
        return None


def _others(book: Book) -> str:
    if not book.entries:
        return ""
    each = (f"{entry.what} (process {entry.pid}) {format_bytes(entry.nbytes)}"
            for entry in book.entries)  # fmt: skip
    return ", since others plan theirs: " + ", ".join(each)
