"""The one thread that owns the model: it loads it, runs its generations, and closes it.

A front end posts jobs and drains what came. Nothing here waits for the front end, so a slow
screen cannot slow the engine.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import Done, Event, Failed, Loading
from qwen3_mlx.interface import ChatModel, Message
from qwen3_mlx_app.tui.faults import log_fault
from qwen3_mlx_app.tui.state import Loaded, LoadFailed, Update

if TYPE_CHECKING:
    from qwen3_mlx.tools.functions import Tool

__all__ = ["Envelope", "Job", "Loader", "Running", "Worker", "usable"]

#: Loads the model on the worker's thread, and says how far it is.
Loader: TypeAlias = Callable[[Callable[[Loading], None]], ChatModel]


_Errand: TypeAlias = Callable[[ChatModel], None]
_log = logging.getLogger(__name__)


class Running(Protocol):
    """An answer that comes: a `Generation`, or the run of one that may call tools."""

    def __iter__(self) -> Iterator[Event]: ...
    def cancel(self) -> None: ...
    def answer_now(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to make: `start` is called with the model on the worker's thread."""

    number: int
    start: Callable[[ChatModel], Running]


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event and the job that it belongs to; 0 is the model itself."""

    job: int
    event: Update


def usable(model: ChatModel, tools: Sequence[Tool]) -> Sequence[Tool]:
    """The tools, or none for a model that cannot call any."""
    return tools if model.info.can_call_tools else ()


class Worker:
    """Run `load` and then jobs, one at a time, on a thread of its own."""

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._jobs: queue.SimpleQueue[Job | _Errand | None] = queue.SimpleQueue()
        self._out: deque[Envelope] = deque()
        self._arrived = threading.Event()
        self._loaded = threading.Event()
        self._lock = threading.Lock()
        self.model: ChatModel | None = None
        self._generation: Running | None = None
        self._cancelled: set[int] = set()
        self._current = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="qwen3-chat", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def post(self, job: Job) -> None:
        """Hand over a job; it starts when the model is there and the job before is done."""
        self._jobs.put(job)

    def prepare(
        self, messages: Sequence[Message], system: str | None, tools: Sequence[Tool] = ()
    ) -> None:
        """Have a conversation read before its next turn, if the model is there."""
        self._jobs.put(lambda model: model.prepare(messages, system, usable(model, tools)))

    def cancel(self, number: int) -> None:
        """End a job within one token, also one that has not started yet."""
        with self._lock:
            self._cancelled.add(number)
            if self._generation is not None and self._current == number:
                self._generation.cancel()

    def answer_now(self, number: int) -> None:
        """End the thought of the job that runs."""
        with self._lock:
            if self._generation is not None and self._current == number:
                self._generation.answer_now()

    def drain(self) -> list[Envelope]:
        """Everything that came since the last call, in order."""
        self._arrived.clear()
        envelopes = []
        while self._out:
            envelopes.append(self._out.popleft())
        return envelopes

    def wait(self, timeout: float) -> None:
        """Sleep until something comes or the time is over."""
        self._arrived.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Cancel what runs, drop what waits, close the model, and wait for the thread.

        A model that is still loading is left behind: nobody wants to wait for it to leave.
        """
        self._closing = True
        self._jobs.put(None)
        with self._lock:
            if self._generation is not None:
                self._generation.cancel()
        if self._thread.is_alive() and self._loaded.is_set():
            self._thread.join(timeout)

    def push(self, job: int, event: Update) -> None:
        """Say something of a job, from its own thread."""
        self._out.append(Envelope(job, event))
        self._arrived.set()

    def _run(self) -> None:
        self.push(0, Loading(0, 0))
        try:
            model = self._load(lambda progress: self.push(0, progress))
        except Exception as error:
            log_fault(error)
            self.push(0, LoadFailed(error))
            return
        self.model = model
        self._loaded.set()
        self.push(0, Loaded(model.info))
        try:
            while (job := self._jobs.get()) is not None and not self._closing:
                if isinstance(job, Job):
                    self._do(job, model)
                else:
                    self._run_errand(job, model)
        finally:
            self.model = None
            model.close()

    def _run_errand(self, errand: _Errand, model: ChatModel) -> None:
        """Nobody waits for it: if it fails, the next answer takes longer or says why."""
        try:
            errand(model)
        except Exception:
            _log.exception("the conversation could not be read ahead")

    def _do(self, job: Job, model: ChatModel) -> None:
        """Run one job to its one end; whatever is raised becomes that end."""
        ended = False
        try:
            generation = job.start(model)
            with self._lock:
                self._generation, self._current = generation, job.number
                if self._closing or job.number in self._cancelled:
                    generation.cancel()
            for event in generation:
                ended = isinstance(event, (Done, Failed))
                if isinstance(event, Failed):
                    log_fault(event.error)
                self.push(job.number, event)
                if ended:
                    break
        except Exception as error:
            log_fault(error)
            self.push(job.number, Failed(error))
            ended = True
        finally:
            with self._lock:
                self._generation = None
        if not ended:
            silence = EngineError("the engine ended the answer without a word: ask again")
            self.push(job.number, Failed(silence))
