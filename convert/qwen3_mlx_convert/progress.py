"""How far a conversion is, for whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen3_mlx_convert.plan import Job

__all__ = ["ConvertProgress", "Doing", "Listener", "Meter"]

#: Writing the result, then reading source and result again; each goes through all bytes.
Doing: TypeAlias = Literal["converting", "comparing"]


@dataclass(frozen=True, slots=True)
class ConvertProgress:
    """How far it is with what it is `doing`: source bytes done and in all, and the seconds so far.

    `resumed_bytes` of the done ones were converted by an earlier run.
    """

    done_bytes: int
    total_bytes: int
    tensor: str
    seconds: float
    resumed_bytes: int = 0
    doing: Doing = "converting"

    @property
    def bytes_per_second(self) -> float:
        """Speed so far, in source bytes."""
        return (self.done_bytes - self.resumed_bytes) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """The rest at this speed."""
        speed = self.bytes_per_second
        return (self.total_bytes - self.done_bytes) / speed if speed else 0.0


Listener = Callable[[ConvertProgress], None]


class Meter:
    """Counts source bytes."""

    def __init__(self, total: int, listener: Listener | None, doing: Doing = "converting") -> None:
        self._total, self._listener, self._doing = total, listener, doing
        self._done = self._resumed = 0
        self._begun = time.monotonic()

    def resume(self, nbytes: int) -> None:
        """So many were done by an earlier run."""
        self._done += nbytes
        self._resumed += nbytes

    def add(self, job: Job) -> None:
        """A job is done."""
        self._done += job.nbytes
        if self._listener is not None:
            seconds = time.monotonic() - self._begun
            self._listener(ConvertProgress(
                self._done, self._total, job.name, seconds, self._resumed, self._doing
            ))  # fmt: skip
