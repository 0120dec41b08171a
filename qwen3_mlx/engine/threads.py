"""Threads for engines. A thread outlives its engine and serves the next one.

MLX keeps a stream for each thread that ever called it, with a thread of its own behind it, and
gives neither back: a new thread for each model would leave one of the system's behind.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

__all__ = ["EngineThread"]

_lock = threading.Lock()
_idle: list[_Worker] = []


class EngineThread:
    """A piece of work on a thread that has none; a new thread only where all have some.

    >>> thread = EngineThread(lambda: print("loads, answers, closes"))
    >>> thread.join()
    loads, answers, closes
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._done = threading.Event()
        with _lock:
            self._worker = _idle.pop() if _idle else _Worker()
        self._worker.inbox.put((work, self._done))

    def join(self) -> None:
        """Wait for the end of the work; at once from within it."""
        if self._worker.thread is not threading.current_thread():
            self._done.wait()


class _Worker:
    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]]
        self.inbox = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="qwen3-mlx engine", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            self._serve(*self.inbox.get())

    def _serve(self, work: Callable[[], None], done: threading.Event) -> None:
        """Work that fails ends the thread too, and nobody is given a thread that has ended."""
        try:
            work()
            with _lock:
                _idle.append(self)
        finally:
            done.set()
