"""The door of an engine: any thread hands something in, the engine's own takes it out.

What is handed in before the door is shut is taken out, and nothing after that. The door belongs
to the process that made it; in a child that was forked since, it is as good as bricked up.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeAlias, TypeVar

from qwen3_mlx.engine.request import Request
from qwen3_mlx.engine.threads import FORKED
from qwen3_mlx.errors import EngineError

__all__ = ["Door", "Item", "Task"]

_Result = TypeVar("_Result")


class Task(Generic[_Result]):
    """A function to be run on the engine thread, and what came of it.

    >>> task = Task(lambda: 6 * 7)
    >>> task.run()
    >>> task.result()
    42
    """

    def __init__(self, function: Callable[[], _Result]) -> None:
        self._function, self._future = function, Future[_Result]()

    def run(self) -> None:
        """Run it; it never raises here."""
        try:
            self._future.set_result(self._function())
        except BaseException as error:
            self._future.set_exception(error)

    def refuse(self, error: EngineError) -> None:
        """It will not be run."""
        self._future.set_exception(error)

    def result(self) -> _Result:
        """Wait for the result, or raise what the function has raised."""
        return self._future.result()


#: A request, a task, or something to be done for which nobody waits.
Item: TypeAlias = Request | Task[Any] | Callable[[], None]


class Door:
    """A queue that is shut once."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._shut, self._lock, self._pid = False, threading.Lock(), os.getpid()

    def __len__(self) -> int:
        """About how many items are in it."""
        return self._items.qsize()

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made it."""
        return self._pid == os.getpid()

    @property
    def is_shut(self) -> bool:
        """Whether nothing more may be handed in."""
        return self._shut

    def check(self) -> None:
        """Raise the EngineError that `put` would."""
        if not self.is_here:  # first of all: a lock that was held at the fork stays held
            raise EngineError(FORKED)
        if self._shut:
            raise EngineError("this model is closed: load it again")

    def put(self, item: Item) -> None:
        """Hand something in.

        Raises:
            EngineError: the door is shut, or that of another process.
        """
        self.check()
        with self._lock:
            self.check()
            self._items.put(item)

    def shut(self) -> None:
        """Nothing comes in from now on. May be called twice."""
        if not self.is_here:
            return
        with self._lock:
            if not self._shut:
                self._shut = True
                self._items.put(None)

    def take(self, *, block: bool) -> Item | None:
        """The next item, None at the end; queue.Empty where there is none and it may not wait."""
        return self._items.get(block=block)

    def refuse(self, error: EngineError) -> list[Request]:
        """Of a door that is shut: refuse the tasks that are still in it, return the requests."""
        requests = []
        while (item := self._items.get()) is not None:
            if isinstance(item, Task):
                item.refuse(error)
            elif isinstance(item, Request):
                requests.append(item)
        return requests
