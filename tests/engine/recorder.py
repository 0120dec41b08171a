"""Listeners that keep what they hear, requests that all differ, and engines to be heard."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence

from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import Directive, DrawRule, Request, RequestStats
from qwen3_mlx.events import FinishReason

__all__ = [
    "SENTENCE",
    "VOCAB",
    "Recorder",
    "common",
    "request_for",
    "wait_until_idle",
    "wishing",
]

VOCAB = 300
SENTENCE = [271, 82, 7, 199, 88, 55, 279, 119, 1, 258]


class Recorder:
    """A listener that keeps what it hears.

    Args:
        at: what it does, and answers, at the nth token; at 0 once some of the prompt is read.
            On the engine thread, so that nothing can happen in between.
    """

    def __init__(self, at: dict[int, Callable[[], Directive]] | None = None) -> None:
        self.tokens: list[int] = []
        self.prefills: list[tuple[int, int]] = []
        self.ends: queue.SimpleQueue[FinishReason | Exception] = queue.SimpleQueue()
        self.stats = RequestStats()
        self.at = at or {}

    def prefill(self, done: int, total: int) -> None:
        self.prefills.append((done, total))
        if len(self.prefills) == 1:
            self._act(0)

    def token(self, token: int) -> Directive:
        self.tokens.append(token)
        return self._act(len(self.tokens))

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        self.stats = stats
        self.ends.put(reason)

    def failed(self, error: Exception) -> None:
        self.ends.put(error)

    def end(self) -> FinishReason | Exception:
        return self.ends.get(timeout=300)

    def _act(self, when: int) -> Directive:
        action = self.at.get(when)
        return None if action is None else action()


def wishing(wishes: dict[int, Directive]) -> Recorder:
    """A listener that answers to the nth token with a wish."""
    return Recorder({when: (lambda wish=wish: wish) for when, wish in wishes.items()})


def request_for(number: int, listener: Recorder, max_tokens: int = 12) -> Request:
    """The nth of a set of different requests: lengths, rules and seeds all vary."""
    prompt = [(number * 37 + 11 * i) % VOCAB for i in range(1 + (number * 13) % 40)]
    rule = [
        DrawRule(),
        DrawRule(temperature=1.0, top_k=20, top_p=0.9),
        DrawRule(temperature=1.3, min_p=0.02),
        DrawRule(temperature=0.8, presence_penalty=1.0, repetition_penalty=1.2),
    ][number % 4]
    return Request(prompt, rule, listener, max_tokens, seed=number)


def wait_until_idle(engine: Engine) -> None:
    """Until everything that was to be read ahead is read."""
    while engine.call(lambda: engine.reads_ahead):
        time.sleep(0.002)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of their first ids two texts share."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
