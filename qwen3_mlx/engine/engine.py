"""The engine: one thread that owns every MLX call, and the schedule of its work.

Requests come in through a queue and join a running batch when their prompt has been read.
Reading is cut into chunks, and between two chunks the others take a step, so nobody waits
for somebody else's long prompt. A single request takes the same road; it is a batch of one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

import mlx.core as mx

from qwen3_mlx.engine.batch import Batch, Prefilling
from qwen3_mlx.engine.idle import IdleReader
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.prefix import PrefixTree
from qwen3_mlx.engine.request import Force, Request, Stop
from qwen3_mlx.engine.threads import EngineThread
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import FinishReason
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["Engine"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_Task = Callable[[], None]
# What becomes of a row: it ends, it failed, its text changes, or nothing happens.
_Outcome = FinishReason | Exception | Force | None


class Engine:
    """Runs requests against one model, on a thread of its own.

    Args:
        load: makes the model; called on the engine thread, since MLX arrays belong to the
            thread that made them.
        vocab: ids below this may be drawn.
        prefill_chunk: tokens of a prompt that are read between two decode steps.
        max_rows: requests that decode together; more wait.
        max_waiting: requests that may wait; `submit` refuses more.
        prefix_bytes: what has been read is kept up to so many bytes, and texts that begin
            alike are read once; 0 keeps nothing.
    """

    def __init__(
        self,
        load: Callable[[], Qwen3Model],
        vocab: int,
        *,
        prefill_chunk: int = 512,
        max_rows: int = 16,
        max_waiting: int = 1024,
        prefix_bytes: int = 0,
    ) -> None:
        self._prefix_bytes = prefix_bytes
        self._vocab, self._chunk = vocab, prefill_chunk
        self._max_rows, self._max_waiting = max_rows, max_waiting
        self._inbox: queue.SimpleQueue[Request | _Task | None] = queue.SimpleQueue()
        self._waiting: deque[Request] = deque()
        self._readings: deque[Prefilling] = deque()
        self._begun: dict[Request, None] = {}  # those that are read or decode, in order
        self._closed, self._door = False, threading.Lock()
        self._model: Qwen3Model
        self._batch: Batch
        self._prefixes: PrefixTree
        self._idle: IdleReader
        ready: Future[None] = Future()
        self._thread = EngineThread(partial(self._run, [load], ready))
        try:
            ready.result()
        except BaseException:  # also a Ctrl-C: what is still being loaded then ends by itself
            self._shut()
            raise

    def submit(self, request: Request) -> None:
        """Queue a request; its listener hears everything else.

        Raises:
            EngineError: the engine is closed, or too many requests wait already.
        """
        if len(self._waiting) + self._inbox.qsize() >= self._max_waiting:
            raise EngineError(f"{self._max_waiting} requests wait already: try again later")
        request.stats.submitted = time.perf_counter()
        self._hand_in(request)

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Run a function on the engine thread, between two steps, and return its result.

        Raises:
            EngineError: the engine is closed.
        """
        future: Future[_Result] = Future()

        def task() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._hand_in(task)
        return future.result()

    def prepare(self, ids: Sequence[int]) -> None:
        """Read a text when there is nothing else to do, for a request that will begin so."""
        if self._prefix_bytes and ids:
            with suppress(EngineError):  # closed: there will be no such request
                self._hand_in(lambda: self._idle.add(ids))

    @property
    def model(self) -> Qwen3Model:
        """The model; use its arrays inside `call` only.

        Raises:
            EngineError: the engine is closed.
        """
        self._check_open()
        return self._model

    @property
    def prefill_chunk(self) -> int:
        """Tokens that are read at once."""
        return self._chunk

    @property
    def prefixes(self) -> PrefixTree:
        """What has been read; use it inside `call` only."""
        return self._prefixes

    @property
    def reads_ahead(self) -> bool:
        """Whether there are texts to read while idle; use it inside `call` only."""
        return self._idle.busy

    @property
    def prefix_bytes(self) -> int:
        """The bound of what has been read; 0 keeps nothing."""
        return self._prefix_bytes

    def close(self) -> None:
        """Cancel what runs, let the weights and the thread go. May be called twice."""
        self._shut()
        self._thread.join()

    def _shut(self) -> None:
        with self._door:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)

    def _hand_in(self, item: Request | _Task) -> None:
        """Give the engine thread something; nothing comes behind the None that ends it."""
        with self._door:
            self._check_open()
            self._inbox.put(item)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("this model is closed: load it again")

    def _run(self, loads: list[Callable[[], Qwen3Model]], ready: Future[None]) -> None:
        try:
            self._model = loads.pop()()  # a call holds its arguments as long as it runs
            self._start_afresh()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        while True:
            try:
                if not self._take_in():
                    break
                self._drop_interrupted()
                self._be_patient()
                self._prefill()
                self._decode()
                if self._idle.busy and not self._busy():
                    self._idle.advance()
            except TimeoutError:
                continue  # reading experts took longer than a request has: that one ends now
            except Exception as error:
                self._fail_all(error)
        self._end()

    def _be_patient(self) -> None:
        """Tell layers that read from disk until when the most urgent request can wait.

        A step that is given up can be taken again: caches grow, and tokens are drawn, at its end.
        """
        requests = (*self._waiting, *self._begun)
        deadlines = [each.deadline for each in requests if each.deadline is not None]
        self._model.patience.deadline = min(deadlines, default=None)

    def _busy(self) -> bool:
        return bool(self._waiting or self._begun)

    def _take_in(self) -> bool:
        """Empty the inbox, waiting for something if there is nothing to do; False to end."""
        while True:
            try:
                item = self._inbox.get(block=not self._busy() and not self._idle.busy)
            except queue.Empty:
                return True
            if item is None:
                return False
            if isinstance(item, Request):
                self._waiting.append(item)
            else:
                item()

    def _drop_interrupted(self) -> None:
        """End requests that were cancelled or ran out of time, wherever they are."""
        for request in list(self._waiting):
            if reason := request.interruption():
                self._waiting.remove(request)
                self._finish(request, reason)
        for reading in list(self._readings):
            if reason := reading.request.interruption():
                self._readings.remove(reading)
                self._keep(reading.request, reading.kv)
                self._finish(reading.request, reason)
        self._settle([each.interruption() for each in self._batch.requests])

    def _prefill(self) -> None:
        """Read one chunk: of one text, or of several that are short."""
        left = self._chunk
        while left > 0 and (self._readings or self._may_begin()):
            if not self._readings:
                self._begin(self._waiting.popleft())
            reading = self._readings[0]
            known = reading.kv.length
            first = reading.advance()
            left -= reading.kv.length - known
            told = not reading.begins or self._tell(reading.request, reading.kv.length)
            if first is not None or not told:
                self._readings.popleft()
            if first is not None and told:
                self._batch.add(reading, first)

    def _may_begin(self) -> bool:
        return bool(self._waiting) and len(self._batch.requests) < self._max_rows

    def _begin(self, request: Request) -> None:
        self._begun[request] = None
        if not self._batch.requests:
            mx.reset_peak_memory()
        self._idle.pause()
        # The last token has to be read in any case: the first answer token is drawn from it.
        kv = self._prefixes.take(request.prompt, len(request.prompt) - 1)
        request.stats.cached = kv.length if kv is not None else 0
        self._readings.append(Prefilling(self._model, self._vocab, request, self._chunk, kv))

    def _keep(self, request: Request, kv: KVCache) -> None:
        """Keep what has been read of a text that is over."""
        if self._prefix_bytes:
            self._prefixes.put(request.text[: kv.length], kv)

    def _tell(self, request: Request, done: int) -> bool:
        try:
            request.listener.prefill(done, len(request.prompt))
        except Exception as error:
            self._fail(request, error)
            return False
        return True

    def _decode(self) -> None:
        """One step of the batch: deliver a token to each request."""
        requests = self._batch.requests
        if not requests:
            return
        tokens = self._batch.step()
        now = time.perf_counter()
        outcomes = [
            self._deliver(request, token, now)
            for request, token in zip(requests, tokens, strict=True)
        ]
        self._batch.draw()
        self._settle(outcomes)

    def _deliver(self, request: Request, token: int, now: float) -> _Outcome:
        """Hand one token over; what becomes of the request, None if it just goes on."""
        stats = request.stats
        if not stats.first_token:
            stats.first_token = now
        stats.decode_seconds = now - stats.first_token
        if token in request.eos:
            request.end.append(token)
            return "stop"
        request.add(token)
        try:
            wish = request.listener.token(token)
            if isinstance(wish, Force) and request.fits(len(wish.ids), wish.cut):
                return wish
        except Exception as error:
            return error
        if wish is True:
            return "stop"
        if isinstance(wish, Stop):
            return wish.reason
        return None if request.left > 0 else "length"

    def _settle(self, outcomes: Sequence[_Outcome]) -> None:
        """Let rows go that ended, and read again those whose text was changed."""
        requests = self._batch.requests
        if not any(outcomes):
            return
        changed = [
            self._batch.reread(row, outcome, self._chunk)
            for row, outcome in enumerate(outcomes)
            if isinstance(outcome, Force)
        ]
        for row, outcome in enumerate(outcomes):
            if isinstance(outcome, str) and self._prefix_bytes:
                self._keep(requests[row], self._batch.cache(row))
        self._batch.keep([row for row, outcome in enumerate(outcomes) if outcome is None])
        self._readings.extendleft(reversed(changed))
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._fail(request, outcome)
            elif isinstance(outcome, str):
                self._finish(request, outcome)

    def _finish(self, request: Request, reason: FinishReason) -> None:
        self._begun.pop(request, None)
        request.stats.peak_bytes = mx.get_peak_memory()
        try:
            request.listener.finished(reason, request.stats)
        except Exception:
            _log.exception("a listener failed at the end of its request")

    def _fail(self, request: Request, error: Exception) -> None:
        self._begun.pop(request, None)
        try:
            request.listener.failed(error)
        except Exception:
            _log.exception("a listener failed when it was told of a fault")

    def _fail_all(self, error: Exception) -> None:
        """Something went wrong: end all that had begun, and start afresh."""
        _log.error("the engine met a fault", exc_info=error)
        fault = EngineError(f"the engine met a fault and was restarted: {error}")
        fault.__cause__ = error
        self._start_afresh()
        for request in list(self._begun):
            self._fail(request, fault)

    def _start_afresh(self) -> None:
        """With an empty tree, too: what a fault has touched is not to be trusted."""
        self._readings.clear()
        self._batch = Batch(self._model, self._vocab)
        self._prefixes = PrefixTree(self._model.config, self._prefix_bytes)
        self._idle = IdleReader(self._model, self._prefixes, self._chunk)

    def _end(self) -> None:
        """Cancel what is left, and let everything go."""
        for request in (*self._waiting, *self._begun):
            self._finish(request, "cancelled")
        self._waiting.clear()
        self._readings.clear()
        # Compiled functions must go while this thread still runs Python: MLX keeps them in a
        # cache of the thread, and clearing that after the interpreter has ended aborts.
        del self._batch, self._idle, self._prefixes, self._model
