"""What one request waits on: news from other threads, or its client's leaving."""

from __future__ import annotations

import queue
import select
import socket
import threading
from contextlib import suppress
from typing import Any

from qwen3_mlx_app.server.faults import Gone

__all__ = ["Line"]

# Where the system can tell that the other side has hung up, whatever is still unread.
_HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Line:
    """News for the thread of a request. Use it in a `with` statement.

    >>> ours, theirs = socket.socketpair()
    >>> with Line(ours) as line:
    ...     line.put("hello")
    ...     line.get()
    'hello'
    >>> ours.close(); theirs.close()
    """

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._lock, self._closed = threading.Lock(), False
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(client, select.POLLIN | _HUNG_UP)

    def put(self, item: Any) -> None:
        """Add news; from any thread, never waits, and after the end means nothing."""
        self._news.put(item)
        with self._lock, suppress(BlockingIOError):  # full: it is awake already
            if not self._closed:
                self._waker.send(b"!")

    def get(self) -> Any:
        """The next news.

        Raises:
            Gone: the client has left.
        """
        while True:
            with suppress(queue.Empty):
                return self._news.get_nowait()
            self._look(None)

    def check(self) -> None:
        """Raise where the client has left, without waiting for news.

        Raises:
            Gone: the client has left.
        """
        self._look(0)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._closed = True
            self._wake.close()
            self._waker.close()

    def _look(self, milliseconds: int | None) -> None:
        """Wait for so long, None for ever, until there is news or the client has left."""
        for descriptor, events in self._poll.poll(milliseconds):
            if descriptor == self._wake.fileno():
                self._wake.recv(4096)
            elif events & _HUNG_UP or self._has_left():
                raise Gone

    def _has_left(self) -> bool:
        """There is something to read: the end, or the next request, which waits its turn."""
        try:
            if not self._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        self._poll.modify(self._client, _HUNG_UP)
        return False
