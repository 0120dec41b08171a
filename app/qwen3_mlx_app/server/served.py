"""The one model of a server: loaded again after a fault, and asked whether it still answers."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import Done, Event, Failed
from qwen3_mlx.interface import ChatModel, Generation
from qwen3_mlx_app.server.faults import ApiError, told

__all__ = ["Served"]

_Result = TypeVar("_Result")
_PROBE_SECONDS = 10.0
#: An engine that was heard so shortly ago need not be asked.
_FRESH_SECONDS = 1.0


class Served:
    """Keeps a model for many threads.

    Args:
        load: makes the model.
        probe: has the engine of a model do the least it can; raises if it cannot.
        probe_seconds: how long that may take.
        log: told what happened, in one line.
    """

    def __init__(
        self,
        load: Callable[[], ChatModel],
        *,
        probe: Callable[[ChatModel], None] = lambda model: None,
        probe_seconds: float = _PROBE_SECONDS,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._load, self._probe, self._log = load, probe, log
        self._probe_seconds = probe_seconds
        self._lock = threading.Lock()  # of the model; held while it loads
        self._guard = threading.Lock()  # of what follows; held for moments
        self._model: ChatModel | None = None
        self._fault, self._closed = "", False
        self._running: set[Generation] = set()
        self._starting = 0
        self._heard = 0.0
        self._probing: threading.Thread | None = None
        self.loads = 0

    def open(self) -> None:
        """Load the model now.

        Raises:
            Qwen3Error: it cannot be loaded.
        """
        with self._lock:
            self._ready()

    def use(self, work: Callable[[ChatModel], _Result]) -> _Result:
        """Do something with the model that ends by itself, after loading it if need be.

        Raises:
            ApiError: the model cannot be loaded, or the server ends.
            Exception: whatever `work` raises.
        """
        with self._lock:
            model = self._loaded()
            with self._guard:
                self._starting += 1
        try:
            return work(model)
        finally:
            with self._guard:
                self._starting -= 1

    def start(
        self,
        begin: Callable[[ChatModel], Generation],
        hear: Callable[[Event], None],
        over: Callable[[], None],
    ) -> Generation:
        """Start an answer, after loading the model if need be.

        Args:
            begin: starts it.
            hear: told its events, on another thread; a `Done` or a `Failed` comes last.
            over: called when it takes the engine's time no more.

        Raises:
            ApiError: the model cannot be loaded, or the server ends.
            Qwen3Error: whatever `begin` raises.
        """
        generation = self.use(lambda model: self._noted(begin(model)))
        if self._closed:
            generation.cancel()
        pump = threading.Thread(target=self._pump, args=(generation, hear, over), daemon=True)
        try:
            pump.start()
        except RuntimeError:  # the system has no thread left
            generation.cancel()
            with self._guard:
                self._running.discard(generation)
            raise
        return generation

    def _noted(self, generation: Generation) -> Generation:
        """Among those that run, before nobody knows of it any more as starting."""
        with self._guard:
            self._running.add(generation)
        return generation

    def health(self) -> str:
        """Why no answer can be had now; "" if one can."""
        with self._guard:
            fault, model, running = self._fault, self._model, bool(self._running)
            fresh = running and time.monotonic() - self._heard < _FRESH_SECONDS
        if fault or model is None:
            self._revive()
            return fault or "the model is not loaded"
        return "" if fresh else self._asked_for_a_sign(model)

    def cancel(self) -> None:
        """End running answers, and begin no more."""
        with self._guard:
            self._closed = True
            running = list(self._running)
        for generation in running:
            generation.cancel()

    def close(self) -> None:
        """Let the model go, after ending what runs on it."""
        self.cancel()
        with self._lock:
            self._let_go()

    def _loaded(self) -> ChatModel:
        if self._closed:
            raise ApiError(503, "the server is ending", code="ending")
        try:
            return self._ready()
        except Exception as error:
            known = told(error)
            raise ApiError(503, known.message, code="model_unavailable") from error

    def _ready(self) -> ChatModel:
        """The model; one whose engine met a fault is replaced as soon as nothing runs on it."""
        with self._guard:
            spoiled = bool(self._fault) and not self._running and not self._starting
        if spoiled:
            self._let_go()
        if self._model is not None:
            return self._model
        began = time.monotonic()
        try:
            model = self._load()
        except Exception as error:
            with self._guard:
                self._fault = told(error).message
            raise
        with self._guard:
            self._model, self._fault = model, ""
        self.loads += 1
        self._log(f"loaded in {time.monotonic() - began:.2f} s")
        return model

    def _let_go(self) -> None:
        with self._guard:
            model, self._model = self._model, None
        if model is not None:
            model.close()
            del model
            gc.collect()  # arrays in cycles would stay beside the next model

    def _pump(
        self, generation: Generation, hear: Callable[[Event], None], over: Callable[[], None]
    ) -> None:
        """Hand the events on; an engine that is stuck holds up this thread and no other."""
        try:
            last = self._hand_on(generation, hear)
        except Exception as error:  # of the generation itself: it has no end of its own
            last = Failed(error)
        self._forget(generation, last)
        over()
        hear(last)

    def _hand_on(self, generation: Generation, hear: Callable[[Event], None]) -> Done | Failed:
        for event in generation:
            self._heard = time.monotonic()
            if isinstance(event, Done | Failed):
                return event
            hear(event)
        raise EngineError("the answer has no end")

    def _forget(self, generation: Generation, last: Done | Failed) -> None:
        with self._guard:
            self._running.discard(generation)
            if isinstance(last, Failed) and isinstance(last.error, EngineError):
                self._fault = str(last.error)
            revives = bool(self._fault) and not self._running
        if revives:
            self._revive()

    def _revive(self) -> None:
        """Load the model again, meanwhile; whoever asks before that waits or does it himself."""
        if self._closed or not self._lock.acquire(blocking=False):
            return

        def load() -> None:
            try:
                self._loaded()
            except ApiError as error:
                self._log(f"not loaded: {error.message}")
            finally:
                self._lock.release()

        threading.Thread(target=load, daemon=True).start()

    def _asked_for_a_sign(self, model: ChatModel) -> str:
        """Have the engine do something; why it did not, or ""."""
        with self._guard:
            probing = self._probing
            if probing is None:
                probing = threading.Thread(target=self._try, args=(model,), daemon=True)
                self._probing = probing
                probing.start()
        probing.join(self._probe_seconds)
        if probing.is_alive():
            return f"the engine has not answered for {self._probe_seconds:.0f} s"
        with self._guard:
            return self._fault

    def _try(self, model: ChatModel) -> None:
        fault = ""
        try:
            self._probe(model)
        except Exception as error:
            fault = told(error).message
        with self._guard:
            self._probing = None
            if fault and self._model is model:
                self._fault = fault
