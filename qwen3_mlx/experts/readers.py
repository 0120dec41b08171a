"""Reader threads: several experts from disk at once, while the engine thread goes on.

The threads only call `preadv` and fill memory; they never touch an MLX object. With no
threads, reads happen where they are asked for, which costs the least when the bytes are in
the page cache already.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_mlx.errors import ExpertReadError
from qwen3_mlx.experts.store import Destination, Source

__all__ = ["Read", "Readers", "Ticket"]


_TOO_LATE = "experts were not read before the deadline"


@dataclass(frozen=True, slots=True)
class Read:
    """One expert to be read."""

    layer: int
    expert: int
    into: Destination


class Ticket:
    """Reads under way. `wait` returns when all are done, and raises the first fault."""

    def __init__(self, count: int) -> None:
        self._left, self._lock, self._done = count, threading.Lock(), threading.Event()
        self._fault: BaseException | None = None
        self.nbytes, self._counted = 0, False
        #: Set by whoever no longer wants reads that have not begun.
        self.cancelled = False
        if not count:
            self._done.set()

    def tell(self, nbytes: int, fault: BaseException | None = None) -> None:
        """One read is over. Called by the thread that made it."""
        with self._lock:
            self.nbytes += nbytes
            self._fault = self._fault or fault
            self._left -= 1
            left = self._left
        if not left:
            self._done.set()

    def wait(self, deadline: float | None = None) -> None:
        """Block until all reads are over.

        Args:
            deadline: time.monotonic() at which to stop waiting; None waits as long as it takes.

        Raises:
            ExpertReadError: one of the reads failed.
            TimeoutError: the deadline passed; the reads go on and must be waited for again.
        """
        if not self._done.is_set():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._done.wait(left):
                raise TimeoutError(_TOO_LATE)
        if self._fault is not None:
            raise _as_read_error(self._fault)

    def take_bytes(self) -> int:
        """The bytes that were read, once; 0 when asked again."""
        counted, self._counted = self._counted, True
        return 0 if counted else self.nbytes

    @property
    def done(self) -> bool:
        """Whether `wait` would return at once."""
        return self._done.is_set()


class Readers:
    """A few threads that read experts, started when they are first needed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._inbox: queue.SimpleQueue[tuple[Read, Ticket] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def read(self, reads: Sequence[Read], deadline: float | None = None) -> int:
        """Read here and now; the bytes that were read.

        Raises:
            ExpertReadError: a read failed.
            TimeoutError: time.monotonic() passed the deadline between two experts.
        """
        nbytes = 0
        for each in reads:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(_TOO_LATE)
            try:
                nbytes += self._source.read(each.layer, each.expert, each.into)
            except Exception as error:
                raise _as_read_error(error) from error
        return nbytes

    def start(self, reads: Sequence[Read], threads: int) -> Ticket:
        """Let up to `threads` threads read."""
        ticket = Ticket(len(reads))
        while len(self._threads) < threads:
            self._begin()
        for each in reads:
            self._inbox.put((each, ticket))
        return ticket

    def close(self) -> None:
        """End the threads, after what they are reading. May be called twice."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._inbox.put(None)
        for thread in threads:
            thread.join()

    def _begin(self) -> None:
        number = len(self._threads) + 1
        thread = threading.Thread(
            target=_serve, args=(self._source, self._inbox), daemon=True,
            name=f"qwen3-mlx reader {number}",
        )  # fmt: skip
        self._threads.append(thread)
        thread.start()


def _serve(source: Source, inbox: queue.SimpleQueue[tuple[Read, Ticket] | None]) -> None:
    """A reader's life. It holds no reference to the `Readers`, so those can be collected."""
    while (item := inbox.get()) is not None:
        read, ticket = item
        if ticket.cancelled:
            ticket.tell(0)
            continue
        try:
            ticket.tell(source.read(read.layer, read.expert, read.into))
        except BaseException as error:
            ticket.tell(0, error)


def _as_read_error(fault: BaseException) -> ExpertReadError:
    if isinstance(fault, ExpertReadError):
        return fault
    error = ExpertReadError(f"an expert could not be read ({type(fault).__name__}: {fault})")
    error.__cause__ = fault
    return error
