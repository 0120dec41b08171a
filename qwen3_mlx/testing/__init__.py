"""A scripted model for tests: the interface of the real one, without weights.

    >>> from qwen3_mlx.testing import Answer, FakeModel
    >>> model = FakeModel([Answer("Four.", thinking="Two and two.")])
    >>> model.stream("2 + 2?", thinking=True).result().text
    'Four.'
    >>> model.calls[0].thinking
    True

It imports no array library, so a test that uses it starts at once and runs anywhere.
"""

from __future__ import annotations

from qwen3_mlx.testing.generation import FakeGeneration
from qwen3_mlx.testing.model import FakeModel
from qwen3_mlx.testing.tape import Answer, Call, pieces

__all__ = ["Answer", "Call", "FakeGeneration", "FakeModel", "pieces"]
