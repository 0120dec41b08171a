"""A model made to say what a test has written: a mask that leaves one token at a time.

The engine, the cache and the batch are real; only the draw has no choice. The script has two
parts, since what was drawn while the engine was told to force other ids is never seen:

    script = Script(thought=[...], answer=[...])    # the answer is what follows a Force
    scripted(model, …)                             # all requests of this Qwen3 follow it
    go = held(model, …)                            # none of them begins before go()

The last id of a part is drawn for ever, so an answer ends only where its script does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import pytest

from qwen3_mlx import Qwen3
from qwen3_mlx.engine.mask import Mask
from qwen3_mlx.engine.request import Request

__all__ = ["Script", "held", "scripted"]


class Script:
    """Draws `thought` until ids are forced, and `answer` after that.

    Where the request's own mask forbids the next token of the script, `instead` comes.
    """

    def __init__(
        self,
        request: Request,
        vocab: int,
        thought: Sequence[int],
        answer: Sequence[int] = (),
        instead: int = 0,
    ) -> None:
        self._request, self._vocab, self._instead = request, vocab, instead
        self._parts, self._own = [list(thought), list(answer)], request.mask
        self.drawn = 0
        self._forced = False

    @property
    def needs_last(self) -> bool:
        return self._own is not None and self._own.needs_last

    def allowed(self) -> mx.array:
        if bool(self._request.stats.forced) != self._forced:
            self._forced, self.drawn = True, 0
        part = self._parts[self._forced]
        token = part[min(self.drawn, len(part) - 1)]
        self.drawn += 1
        own = self._own.allowed() if self._own is not None else None
        if own is not None and not _allows(own, token):
            token = self._instead
        return mx.arange(self._vocab) == token


def _allows(allowed: mx.array, token: int) -> bool:
    """Whether a mask's bools, or its bits, have this token."""
    if allowed.dtype == mx.int32:
        return bool(int(allowed[token // 32].item()) >> token % 32 & 1)
    return bool(allowed[token].item())


def scripted(
    model: Qwen3,
    monkeypatch: pytest.MonkeyPatch,
    thought: Sequence[int],
    answer: Sequence[int] = (),
    instead: int = 0,
) -> list[Request]:
    """Let the model's requests follow a script; the requests, as they come."""
    requests: list[Request] = []
    submit = model._engine.submit

    def follow(request: Request) -> None:
        mask: Mask = Script(request, model._tokenizer.size, thought, answer, instead)
        request.mask = mask
        requests.append(request)
        submit(request)

    monkeypatch.setattr(model._engine, "submit", follow)
    return requests


def held(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Keep requests from the engine until the function that comes back is called.

    What a test does in between is done before the first token, on a machine of any speed.
    """
    submit, kept = model._engine.submit, list[Request]()
    monkeypatch.setattr(model._engine, "submit", kept.append)

    def go() -> None:
        monkeypatch.setattr(model._engine, "submit", submit)
        for request in kept:
            submit(request)

    return go
