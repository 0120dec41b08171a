"""Vectors of texts, as Qwen3-Embedding makes them.

Every text ends with <|endoftext|>. What the last layer has made of that token, normed and brought
to length 1, is the text's vector. What is searched for says first what the search is about:

    Instruct: {task}
    Query:{text}

and what is searched in is read as it stands. A part of a vector, from its beginning, is a vector
too, only coarser. Source: the model cards of Qwen3-Embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.errors import OptionError, PromptError
from qwen3_mlx.interface import ModelInfo
from qwen3_mlx.loading import Parts
from qwen3_mlx.memory import chunks
from qwen3_mlx.model.qwen3 import Qwen3Model

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Embedding"]

_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"

_SMALLEST = 32  # numbers of a vector that the cards speak of


class Embedding:
    """The vectors of a loaded model."""

    if TYPE_CHECKING:

        @property
        def info(self) -> ModelInfo: ...

    _parts: Parts
    _engine: Engine

    def embed(
        self,
        texts: Sequence[str],
        *,
        query: bool | str = False,
        dimensions: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Vectors of length 1: float32 (N, D). Their products are cosines: `queries @ texts.T`.

        Texts of like length are read together, and a vector is the same in any company but for
        rounding.

        Args:
            texts: what to read; each must fit into the context.
            query: True for texts that are searched for, False for those that are searched in. An
                English sentence is a task of your own: "Given a claim, retrieve what refutes it".
            dimensions: keep so many numbers of each vector, 32 or more; None for all.
            progress: told how many texts are read, and of how many.

        Raises:
            OptionError: the model is not an embedding model, or has no so many dimensions.
            PromptError: a text is empty or longer than the context. Nothing was read.

        With a real model, which is downloaded first::

            with qwen3_mlx.load("embedding-0.6b") as model:
                notes = model.embed(["The meter is read in May.", "Bees dance."])
                asked = model.embed(["when is the meter read?"], query=True)
                best = (asked @ notes.T).argmax()

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     model.embed(["Bees dance."])
        Traceback (most recent call last):
            ...
        qwen3_mlx.errors.OptionError: tiny converses and makes no vectors: ...
        """
        import numpy as np

        size = self._parts.config.hidden_size
        kept = size if dimensions is None else dimensions
        self._must_embed(kept, size)
        rows = self._ids_of(texts, query)
        model, chunk = self._engine.model, self._engine.prefill_chunk
        made, done = np.empty((len(rows), kept), np.float32), 0
        for batch in _batches(rows, chunk):
            together = [rows[place] for place in batch]
            vectors = self._engine.call(lambda: _vectors(model, together, chunk))  # noqa: B023
            made[batch] = vectors[:, :kept]
            done += len(batch)
            if progress is not None:
                progress(done, len(rows))
        made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
        return made

    def _must_embed(self, kept: int, size: int) -> None:
        if self.info.family != "embedding":
            raise OptionError(
                f"{self.info.name} converses and makes no vectors: load an embedding model, such "
                "as embedding-0.6b"
            )
        if not min(_SMALLEST, size) <= kept <= size:
            raise OptionError(
                f"dimensions is {kept}, and must be from {min(_SMALLEST, size)} to {size}"
            )

    def _ids_of(self, texts: Sequence[str], query: bool | str) -> list[list[int]]:
        if isinstance(texts, str):
            raise OptionError("texts is one text, and must be a list of them: put it into [ ]")
        tokenizer, context = self._parts.tokenizer, self.info.context
        task = _SEARCH if query is True else query
        rows, end = [], tokenizer.closing_ids
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise PromptError(f"text {number} of {len(texts)} is empty: leave it out")
            whole = f"Instruct: {task}\nQuery:{text}" if task else text
            rows.append(tokenizer.encode_plain(whole) + end)
            if len(rows[-1]) > context:
                raise PromptError(
                    f"text {number} of {len(texts)} has {len(rows[-1]):,} tokens and the context "
                    f"holds {context:,}: cut it into parts"
                )
        return rows


def _batches(rows: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Places of texts that are read together: of like length, `most` tokens with the filling."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place])):
        if batch and (len(batch) + 1) * len(rows[place]) > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _vectors(model: Qwen3Model, rows: Sequence[Sequence[int]], chunk: int) -> np.ndarray:
    """The normed last positions of texts, float32 (N, D); on the engine thread."""
    import numpy as np

    last = _alone(model, rows[0], chunk) if len(rows) == 1 else _together(model, rows)
    return np.array(model.normed(last).astype(mx.float32))


def _together(model: Qwen3Model, rows: Sequence[Sequence[int]]) -> mx.array:
    """(N, D). What stands behind the end of a shorter text is seen by nobody before it."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    ids = mx.array([[*row, *[0] * (longest - len(row))] for row in rows])  # (N, L)
    hidden = model.hidden(ids, KVCache(model.config, step=longest))  # (N, L, D)
    return hidden[mx.arange(len(rows)), mx.array(lengths) - 1]


def _alone(model: Qwen3Model, row: Sequence[int], chunk: int) -> mx.array:
    """(1, D), of a text that may have many chunks."""
    kv = KVCache(model.config, room=len(row))
    for piece in chunks(row, chunk):
        hidden = model.hidden(mx.array([list(piece)]), kv, last_only=True)  # (1, 1, D)
        mx.eval(hidden, kv.arrays())
    return hidden[:, -1]
