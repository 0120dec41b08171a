"""A queue that threads and coroutines read alike, and that any thread fills."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

_Item = TypeVar("_Item")


class Mailbox(Generic[_Item]):
    """First in, first out; of several readers, each gets what no other has.

    >>> box = Mailbox()
    >>> box.put(1)
    >>> box.get()
    1
    """

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._wakes: set[Callable[[], object]] = set()  # of coroutines that wait

    def put(self, item: _Item) -> None:
        """Add an item; from any thread, never waits."""
        self._items.put(item)
        for wake in tuple(self._wakes):
            with suppress(RuntimeError):  # the reader's event loop is closed: nobody waits
                wake()

    def get(self) -> _Item:
        """The next item, waiting for it."""
        return self._items.get()

    async def next(self) -> _Item:
        """The next item, waiting for it without a thread."""
        import asyncio

        came, loop = asyncio.Event(), asyncio.get_running_loop()
        wake = partial(loop.call_soon_threadsafe, came.set)
        self._wakes.add(wake)
        try:
            while True:
                came.clear()
                try:
                    return self._items.get_nowait()
                except queue.Empty:
                    await came.wait()
        finally:
            self._wakes.discard(wake)
