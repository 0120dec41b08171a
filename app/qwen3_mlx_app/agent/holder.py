"""The model of an agent: loaded when it is wanted, let go when nobody has wanted it for long."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from qwen3_mlx.events import Loading
from qwen3_mlx.interface import ChatModel

__all__ = ["Holder", "Load"]

#: Loads the model, and tells how far it is.
Load = Callable[[Callable[[Loading], None]], ChatModel]


class Holder:
    """Keeps one model for many threads.

    Args:
        load: makes the model.
        idle_seconds: let it go after so long without a request; 0 never does.
        signature: what the files of the model look like. When that changes, the model is
            loaded anew for the next request that comes while no other runs.
        log: told what happened, in one line.
    """

    def __init__(
        self,
        load: Load,
        *,
        idle_seconds: float = 0.0,
        signature: Callable[[], Hashable] = lambda: None,
        log: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._signature, self._log, self._clock = load, signature, log, clock
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._model: ChatModel | None = None
        self._made_of: Hashable = None
        self._users = 0
        self._last_used = clock()
        self.loads = 0

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory now."""
        return self._model is not None

    @property
    def users(self) -> int:
        """How many requests have it."""
        return self._users

    @contextmanager
    def model(self, tell: Callable[[Loading], None]) -> Iterator[ChatModel]:
        """The model, for one request; it is not let go meanwhile.

        Raises:
            Qwen3Error: it cannot be loaded.
        """
        with self._lock:
            model = self._ready(tell)
            self._users += 1
        try:
            yield model
        finally:
            with self._lock:
                self._last_used = self._clock()
                self._users -= 1

    def tidy(self) -> None:
        """Let the model go if it has been idle for long. Returns at once while it loads."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            idle = self._clock() - self._last_used
            if self._model is not None and not self._users and 0 < self._idle_seconds <= idle:
                self._let_go(f"idle for {idle:.0f} s")
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let the model go, whoever has it; running answers end."""
        with self._lock:
            self._let_go("the agent ends")

    def _ready(self, tell: Callable[[Loading], None]) -> ChatModel:
        signature = self._signature()
        if self._model is not None and signature != self._made_of and not self._users:
            self._let_go("its files have changed")
        if self._model is None:
            began = self._clock()
            self._model, self._made_of = self._load(tell), signature
            self.loads += 1
            self._log(f"loaded {self._model.info.name} in {self._clock() - began:.2f} s")
        return self._model

    def _let_go(self, why: str) -> None:
        if self._model is None:
            return
        model, self._model = self._model, None
        model.close()
        del model
        gc.collect()  # arrays in cycles would stay until the next request
        self._log(f"unloaded: {why}")
