"""Threads for engines. A thread outlives its engine and serves the next one.

MLX keeps a stream for each thread that ever called it, with a thread of its own behind it, and
gives neither back: a new thread for each model would leave one of the system's behind.

Threads do not come along when a process is forked, and MLX waits for ever for those that it
misses. So a child of a process that had such a thread is refused one.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable

from qwen3_mlx.errors import EngineError

__all__ = ["FORKED", "EngineThread"]

FORKED = (
    "this process was forked from one that had loaded a model, and MLX does not survive a fork: "
    'use the start method "spawn" of multiprocessing, or load models in the children only'
)
# No lock is held while a worker is found or made: the garbage collector may run there, and close
# a model whose thread would wait for that lock.
_idle: deque[_Worker] = deque()
_made = _forked = False


class EngineThread:
    """A piece of work on a thread that has none; a new thread only where all have some.

    Raises:
        EngineError: this process was forked from one that had such threads.

    >>> thread = EngineThread(lambda: print("loads, answers, closes"))
    >>> thread.join()
    loads, answers, closes
    """

    def __init__(self, work: Callable[[], None]) -> None:
        if _forked:
            raise EngineError(FORKED)
        self._done = threading.Event()
        try:
            self._worker = _idle.pop()
        except IndexError:
            self._worker = _Worker()
        self._worker.inbox.put((work, self._done))

    @property
    def is_this(self) -> bool:
        """Whether the caller is on this thread."""
        return self._worker.thread is threading.current_thread()

    def join(self) -> None:
        """Wait for the end of the work; at once from within it."""
        if not self.is_this:
            self._done.wait()


class _Worker:
    def __init__(self) -> None:
        global _made
        _made = True
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
            _idle.append(self)
        finally:
            done.set()


def _after_fork() -> None:
    global _forked
    _forked = _made
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)
