"""Looking inside a model: prompts as it reads them, and what it predicts at each position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.errors import PromptError
from qwen3_mlx.interface import Message, ModelInfo
from qwen3_mlx.loading import Parts
from qwen3_mlx.memory import chunks
from qwen3_mlx.model.qwen3 import Qwen3Model

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Looking"]

#: Positions that go through the head at once. What one of them predicts is as long as the
#: vocabulary, and the memory plan provides for one.
_HEAD_ROWS = 32


class Looking:
    """What can be seen of a loaded model."""

    if TYPE_CHECKING:

        @property
        def info(self) -> ModelInfo: ...

    _parts: Parts
    _engine: Engine

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> str:
        """The exact prompt text that the model would read for these messages.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     prompt = model.render([{"role": "user", "content": "hi"}])
        >>> prompt.endswith("<|im_start|>assistant\\n")
        True

        Raises:
            PromptError: the messages are malformed, or the model has no chat template.
        """
        return self._parts.template.render(messages, tools=tools, thinking=thinking)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; control tokens that it spells become control tokens.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     print(len(model.encode("<|im_end|>")))
        1
        """
        return self._parts.tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens left out.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     print(model.decode(model.encode("hello<|im_end|>")))
        hello
        """
        return self._parts.tokenizer.decode(ids)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """What the model predicts after each token: float32 (L, V), nothing masked.

        The text is read in chunks, as any prompt. The array itself is no part of a memory limit.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     rows = model.logits(model.encode("1 + 1 ="))
        >>> rows.dtype.name, rows.ndim
        ('float32', 2)

        Raises:
            PromptError: there are no ids, more than the context holds, or one is out of range.
        """
        ids, engine = self._checked(token_ids), self._engine
        model, chunk = engine.model, engine.prefill_chunk
        return engine.call(lambda: _logits(model, ids, chunk))

    def routing(self, token_ids: Sequence[int]) -> np.ndarray:
        """Which experts each token goes to: booleans (layers, L, E), the MoE layers in order.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     chosen = model.routing(model.encode("1 + 1 ="))
        >>> chosen.dtype.name, chosen.shape[-1]
        ('bool', 16)

        Raises:
            PromptError: there are no ids, more than the context holds, or one is out of range.
            OptionError: the model has no experts.
        """
        from qwen3_mlx.experts.routing import routed

        ids, engine = self._checked(token_ids), self._engine
        model, pieces = engine.model, chunks(ids, engine.prefill_chunk)
        return engine.call(lambda: routed(model, pieces, KVCache(model.config, room=len(ids))))

    def _checked(self, token_ids: Sequence[int]) -> list[int]:
        ids, size, context = list(token_ids), self._parts.config.vocab_size, self.info.context
        if not ids:
            raise PromptError("there are no token ids to look at")
        if len(ids) > context:
            raise PromptError(
                f"there are {len(ids):,} token ids and the context holds {context:,}: look at "
                "fewer, or load the model with a longer context"
            )
        wrong = [each for each in ids if not 0 <= each < size]
        if wrong:
            raise PromptError(f"token ids must be from 0 to {size - 1}, got {wrong[0]}")
        return ids


def _logits(model: Qwen3Model, ids: list[int], chunk: int) -> np.ndarray:
    """On the engine thread."""
    import numpy as np

    made = np.empty((len(ids), model.config.vocab_size), np.float32)
    kv = KVCache(model.config, room=len(ids))
    for piece in chunks(ids, chunk):
        start = kv.length
        hidden = model.hidden(mx.array([list(piece)]), kv)[0]  # (L, D)
        mx.eval(hidden, kv.arrays())
        for row in range(0, len(piece), _HEAD_ROWS):
            logits = model.logits(hidden[row : row + _HEAD_ROWS]).astype(mx.float32)
            made[start + row : start + row + len(logits)] = np.array(logits)
    return made
