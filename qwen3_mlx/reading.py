"""The reading half of a running answer: events out of a queue, on any thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from qwen3_mlx.events import Done, Event, Failed, Reply
from qwen3_mlx.mailbox import Mailbox

__all__ = ["Reading"]

_log = logging.getLogger(__name__)


class Reading:
    """Iterated for the events that another thread puts into `_events`, `Done` or `Failed` last.

    Whoever stops listening before that cancels: the rest need not be computed.

    >>> from qwen3_mlx.events import TextDelta
    >>> reading = Reading()
    >>> reading._events.put(TextDelta("hi", 1))
    >>> next(iter(reading)).text
    'hi'
    """

    def __init__(self) -> None:
        self._events: Mailbox[Event] = Mailbox()
        self._last_event: Done | Failed | None = None
        self._ending = threading.Lock()  # of the next two, which reader and writer both touch
        self._over = False
        self._when_done: list[Callable[[], None]] = []

    @property
    def _ended(self) -> bool:
        """True as soon as one side knows: the writer may be at its last steps still."""
        return self._over or self._last_event is not None

    def __iter__(self) -> Iterator[Event]:
        """The events from here on."""
        try:
            while self._last_event is None:
                yield self._kept(self._events.get())
        finally:
            if self._last_event is None:
                self.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while self._last_event is None:
                yield self._kept(await self._events.next())
        finally:
            if self._last_event is None:
                self.cancel()

    def cancel(self) -> None:
        """End within one token; what was said is kept and comes with `Done`.

        >>> from qwen3_mlx.testing import FakeModel
        >>> answer = FakeModel(["never said"]).stream("hello")
        >>> answer.cancel()
        >>> answer.result().finish_reason
        'cancelled'
        """

    def when_done(self, function: Callable[[], None]) -> None:
        """Call a function at the end, on the thread that writes; at once if that is over.

        What it raises on that thread is logged. It must not wait there for another answer.

        >>> from qwen3_mlx.testing import FakeModel
        >>> FakeModel(["Hi."]).stream("hello").when_done(lambda: print("done"))
        done
        """
        with self._ending:
            over = self._over
            if not over:
                self._when_done.append(function)
        if over:
            function()

    def result(self) -> Reply:
        """Run to the end and return the reply.

        Raises:
            EngineError: the engine met a fault, or whatever else a `Failed` event carries.

        >>> from qwen3_mlx.testing import FakeModel
        >>> FakeModel(["Hi."]).stream("hello").result().text
        'Hi.'
        """
        for _ in self:
            pass
        return self._outcome()

    async def aresult(self) -> Reply:
        """`result` for coroutines; one that is cancelled cancels the answer.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> asyncio.run(FakeModel(["Hi."]).stream("hello").aresult()).text
        'Hi.'
        """
        async for _ in self:
            pass
        return self._outcome()

    def _finish(self) -> None:
        """Called by the writer, after the last event."""
        with self._ending:
            self._over, functions = True, self._when_done
        for function in functions:
            try:
                function()
            except KeyboardInterrupt:
                raise
            except BaseException:  # also a sys.exit(): the thread is not this function's to end
                _log.exception("what was to be called at the end of an answer failed")

    def _kept(self, event: Event) -> Event:
        if isinstance(event, Done | Failed):
            self._last_event = event
            self._events.put(event)  # for another reader, who waits for the next one too
        return event

    def _outcome(self) -> Reply:
        assert self._last_event is not None
        if isinstance(self._last_event, Failed):
            raise self._last_event.error
        return self._last_event.reply
