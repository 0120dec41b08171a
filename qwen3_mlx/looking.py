"""Looking inside a model: what it predicts at each position, and whether ids can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.errors import PromptError
from qwen3_mlx.model.qwen3 import Qwen3Model

if TYPE_CHECKING:
    import numpy as np

__all__ = ["checked_ids", "logits_of"]


def checked_ids(token_ids: Sequence[int], size: int) -> list[int]:
    """The ids as a list.

    Raises:
        PromptError: there are none, or one is no id of a vocabulary of this size.
    """
    ids = list(token_ids)
    wrong = [each for each in ids if not 0 <= each < size]
    if not ids or wrong:
        raise PromptError(
            f"token ids must be from 0 to {size - 1}, got {wrong[0]}"
            if wrong
            else "there are no token ids to look at"
        )
    return ids


def logits_of(model: Qwen3Model, ids: Sequence[int]) -> np.ndarray:
    """What the model predicts after each id: float32 (L, V); on the engine thread."""
    import numpy as np

    hidden = model.hidden(mx.array([list(ids)]), KVCache(model.config))
    return np.array(model.logits(hidden)[0].astype(mx.float32))
