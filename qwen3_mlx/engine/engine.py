"""The engine: one thread that owns every MLX call, and the schedule of its work.

Requests come in through a queue and join a running batch when their prompt has been read.
Reading is cut into chunks, and between two chunks the others take a step, so nobody waits
for somebody else's long prompt. A single request takes the same road; it is a batch of one.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from traceback import clear_frames
from typing import TypeVar

import mlx.core as mx

from qwen3_mlx.engine.batch import Batch, Prefilling
from qwen3_mlx.engine.bound import Bound
from qwen3_mlx.engine.door import Door, Item, Task
from qwen3_mlx.engine.idle import IdleReader
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.outcome import Outcome, deliver_all
from qwen3_mlx.engine.prefix import PrefixTree
from qwen3_mlx.engine.request import Force, Request
from qwen3_mlx.engine.threads import EngineThread
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import FinishReason
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["Engine"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


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
        kv_bytes: keys and values of the texts that decode together take no more; who would make
            them more waits. One text alone may. None is no bound.
        speculate: guess what a text that is alone repeats.
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
        kv_bytes: int | None = None,
        speculate: bool = False,
    ) -> None:
        self._speculate = speculate
        self._prefix_bytes, self._most = prefix_bytes, (max_rows, kv_bytes)
        self._vocab, self._chunk = vocab, prefill_chunk
        self._max_waiting = max_waiting
        self._door = Door()
        self._waiting: deque[Request] = deque()
        self._readings: deque[Prefilling] = deque()
        self._stepped_back: deque[Prefilling] = deque()  # the batch had no room for them
        self._begun: dict[Request, None] = {}  # those that are read or decode, in order
        self._model: Qwen3Model
        self._batch: Batch
        self._bound: Bound
        self._prefixes: PrefixTree
        self._idle: IdleReader
        ready: Future[None] = Future()
        self._thread = EngineThread(partial(self._run, [load], ready))
        try:
            ready.result()
        except BaseException:  # also a Ctrl-C: what is still being loaded then ends by itself
            self._door.shut()
            raise

    def submit(self, request: Request) -> None:
        """Queue a request; its listener hears everything else.

        Raises:
            EngineError: the engine is closed, or too many requests wait already.
        """
        if len(self._waiting) + len(self._door) >= self._max_waiting:
            raise EngineError(f"{self._max_waiting} requests wait already: try again later")
        request.stats.submitted = time.perf_counter()
        self._door.put(request)

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Run a function on the engine thread, between two steps, and return its result.

        Raises:
            EngineError: the engine is closed.
        """
        task = Task(function)
        if self._thread.is_this:  # what an answer calls at its end: it would wait for itself
            self._door.check()
            self._run_task(task)
        else:
            self._door.put(task)
        return task.result()

    def prepare(self, ids: Sequence[int]) -> None:
        """Read a text when there is nothing else to do, for a request that will begin so."""
        if self._prefix_bytes and ids:
            with suppress(EngineError):  # closed: there will be no such request
                self._door.put(lambda: self._idle.add(ids))

    @property
    def model(self) -> Qwen3Model:
        """The model; use its arrays inside `call` only.

        Raises:
            EngineError: the engine is closed.
        """
        self._door.check()
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

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """Cancel what runs, let the weights and the thread go, do what is to be done then.

        May be called twice. In a child that was forked it does nothing: all is the parent's.
        """
        if self._door.is_here:
            self._door.shut()
            self._thread.join()
            then()

    def _run(self, loads: list[Callable[[], Qwen3Model]], ready: Future[None]) -> None:
        try:
            self._model = loads.pop()()  # a call holds its arguments as long as it runs
            self._start_afresh()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        fault = None
        try:
            while self._turn():
                pass
        except BaseException as error:  # a listener's sys.exit(), for one
            _log.critical("the engine's thread was ended", exc_info=error)
            fault = EngineError(f"the engine was ended by {error!r}: load the model again")
            fault.__cause__ = error
        self._end(fault)

    def _turn(self) -> bool:
        """Do the next of everything; False where the engine is to end."""
        try:
            if not self._take_in():
                return False
            self._drop_interrupted()
            self._be_patient()
            self._prefill()
            self._decode()
            if self._idle.busy and not self._busy() and not self._door.is_shut:
                self._idle.advance()
        except TimeoutError:
            pass  # reading experts took longer than a request has: that one ends now
        except Exception as error:
            self._fail_all(error)
        return True

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
                wait = not self._busy() and not self._idle.busy
                if not self._accept(self._door.take(block=wait)):
                    return False
            except queue.Empty:
                return True

    def _accept(self, item: Item | None) -> bool:
        if isinstance(item, Request):
            self._waiting.append(item)
        elif isinstance(item, Task):
            self._run_task(item)
        elif item is not None:
            item()
        return item is not None

    def _run_task(self, task: Task[_Result]) -> None:
        self._model.patience.deadline = None  # that of a request, which is not this one's
        task.run()

    def _drop_interrupted(self) -> None:
        """End requests that were cancelled or ran out of time, wherever they are."""
        for request in list(self._waiting):
            if reason := request.interruption():
                self._finish(request, reason)
                self._waiting.remove(request)
        for those in (self._readings, self._stepped_back):
            for reading in list(those):
                if reason := reading.request.interruption():
                    those.remove(reading)
                    self._keep(reading.request, reading.kv)
                    self._finish(reading.request, reason)
        self._settle([each.interruption() for each in self._batch.requests])

    def _prefill(self) -> None:
        """Read one chunk: of one text, or of several that are short."""
        left = self._chunk
        while left > 0 and (self._readings or self._may_begin()):
            if not self._readings:
                self._begin()
            reading = self._readings[0]
            known = reading.kv.length
            first = reading.advance()
            self._batch.interrupted()
            left -= reading.kv.length - known
            told = not reading.begins or self._tell(reading.request, reading.kv.length)
            if first is not None or not told:
                self._readings.popleft()
            if first is not None and told:
                self._batch.add(reading, first)

    def _may_begin(self) -> bool:
        """Whether there is room for the next text; nobody behind it is let past."""
        if self._stepped_back:
            coming = self._stepped_back[0].request
        elif self._waiting:
            coming = self._waiting[0]
        else:
            return False
        return self._bound.admits(self._batch.requests, coming)

    def _begin(self) -> None:
        self._idle.pause()
        if self._stepped_back:
            reading = self._stepped_back.popleft()
        else:
            request = self._waiting.popleft()
            self._begun[request] = None
            if not self._batch.requests:
                mx.reset_peak_memory()
            reading = Prefilling(self._model, self._vocab, request, self._chunk)
        reading.look_up(self._prefixes)
        self._readings.append(reading)

    def _keep(self, request: Request, kv: KVCache) -> None:
        """Keep what has been read of a text that is over."""
        self._prefixes.put(request.text[: kv.length], kv)

    def _tell(self, request: Request, done: int) -> bool:
        try:
            request.listener.prefill(done, len(request.prompt))
        except Exception as error:
            self._fail(request, error)
            return False
        return True

    def _decode(self) -> None:
        """One step of the batch: deliver a token to each request, or several that were guessed."""
        self._shrink()
        requests = self._batch.requests
        if not requests:
            return
        tokens = self._batch.step()
        now = time.perf_counter()
        told = [deliver_all(*row, now) for row in zip(requests, tokens, strict=True)]
        self._batch.heard([count for _, count in told])
        self._settle([outcome for outcome, _ in told])

    def _shrink(self) -> None:
        """Where the next step is more than may be held, the newest texts step back."""
        while self._bound.outgrown(self._batch.requests, [each.request for each in self._readings]):
            rows = self._batch.requests
            newest = next(each for each in reversed(self._begun) if each in rows)
            row = rows.index(newest)
            self._keep(newest, self._batch.cache(row))
            self._stepped_back.appendleft(self._batch.step_back(row, self._chunk))
            self._batch.keep([other for other in range(len(rows)) if other != row])

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
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
        """Tell of the end. What cannot even be told leaves it among those that `_end` fails."""
        request.stats.peak_bytes = mx.get_peak_memory()
        try:
            request.listener.finished(reason, request.stats)
        except Exception as error:
            _log.exception("a listener failed at the end of its request")
            self._fail(request, error)
        self._begun.pop(request, None)

    def _fail(self, request: Request, error: Exception) -> None:
        try:
            request.listener.failed(error)
        except Exception:
            _log.exception("a listener failed when it was told of a fault")
        self._begun.pop(request, None)

    def _fail_all(self, error: Exception) -> None:
        """Something went wrong: end all that had begun, and start afresh."""
        _log.error("the engine met a fault", exc_info=error)
        clear_frames(error.__traceback__)  # who keeps the error must not keep the weights
        fault = EngineError(f"the engine met a fault and was restarted: {error}")
        fault.__cause__ = error
        self._start_afresh()
        for request in list(self._begun):
            self._fail(request, fault)

    def _start_afresh(self) -> None:
        """With an empty tree, too: what a fault has touched is not to be trusted."""
        self._readings.clear()
        self._stepped_back.clear()
        self._batch = Batch(self._model, self._vocab, speculate=self._speculate)
        token_bytes = self._model.config.kv_bytes_per_token(self._model.dtype.size)
        self._bound = Bound(*self._most, token_bytes)
        self._prefixes = PrefixTree(self._model.config, self._prefix_bytes)
        self._idle = IdleReader(self._model, self._prefixes, self._chunk)

    def _end(self, fault: EngineError | None) -> None:
        """Cancel what is left, or tell it of a fault that nobody survived; let everything go."""
        self._door.shut()
        left = [*self._waiting, *self._begun]
        if fault is not None:
            left.extend(self._door.refuse(fault))
        for request in left:
            try:
                if fault is None:
                    self._finish(request, "cancelled")
                else:
                    self._fail(request, fault)
            except BaseException:
                _log.exception("a listener failed at the end of the engine")
        self._waiting.clear()
        self._readings.clear()
        self._stepped_back.clear()
        # Compiled functions must go while this thread still runs Python: MLX keeps them in a
        # cache of the thread, and clearing that after the interpreter has ended aborts.
        del self._batch, self._idle, self._prefixes, self._model
