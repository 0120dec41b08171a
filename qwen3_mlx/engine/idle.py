"""Texts that are read while nobody waits, so that a later request finds them read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import mlx.core as mx

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.prefix import PrefixTree
from qwen3_mlx.memory import chunk_at
from qwen3_mlx.model.qwen3 import Qwen3Model

__all__ = ["IdleReader"]

_MOST_TEXTS = 8


class IdleReader:
    """Reads texts into a prefix tree, the newest first, one chunk at a call."""

    def __init__(self, model: Qwen3Model, tree: PrefixTree, chunk: int) -> None:
        self._model, self._tree, self._chunk = model, tree, chunk
        self._texts: deque[tuple[int, ...]] = deque(maxlen=_MOST_TEXTS)
        self._kv: KVCache | None = None
        self.read_tokens = 0

    def add(self, ids: Sequence[int]) -> None:
        """A text to be read."""
        self.pause()
        self._texts.append(tuple(ids))

    @property
    def busy(self) -> bool:
        """Whether there is something to read."""
        return bool(self._texts)

    def pause(self) -> None:
        """Something else comes first; what has been read of a text is kept in the tree."""
        if self._kv is not None:
            self._tree.put(self._texts[-1][: self._kv.length], self._kv)
            self._kv = None

    def advance(self) -> None:
        """Read one chunk."""
        ids = self._texts[-1]
        if self._kv is None:
            known = self._tree.take(ids, len(ids))
            self._kv = known or KVCache(self._model.config, room=len(ids))
        start = self._kv.length
        if start < len(ids):
            chunk = ids[start : start + chunk_at(start, self._chunk)]
            self._model.hidden(mx.array([list(chunk)]), self._kv, last_only=True)
            mx.eval(self._kv.arrays())
            self.read_tokens += len(chunk)
        if self._kv.length == len(ids):
            self.pause()
            self._texts.pop()
