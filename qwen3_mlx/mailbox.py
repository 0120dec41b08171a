"""A queue that threads and coroutines read alike, and that any thread fills."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

_Item = TypeVar("_Item")


class Mailbox(Generic[_Item]):
    """First in, first out, for one reader.

    >>> box = Mailbox()
    >>> box.put(1)
    >>> box.get()
    1
    """

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._wake: Callable[[], object] | None = None

    def put(self, item: _Item) -> None:
        """Add an item; from any thread, never waits."""
        self._items.put(item)
        wake = self._wake  # looked at once: the reader may stop waiting in the meantime
        if wake is not None:
            with suppress(RuntimeError):  # the reader's event loop is closed: nobody waits
                wake()

    def get(self) -> _Item:
        """The next item, waiting for it."""
        return self._items.get()

    async def next(self) -> _Item:
        """The next item, waiting for it without a thread."""
        import asyncio

        came, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(came.set)
        try:
            while True:
                came.clear()
                try:
                    return self._items.get_nowait()
                except queue.Empty:
                    await came.wait()
        finally:
            self._wake = None
