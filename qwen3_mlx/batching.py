"""Many questions at once: a window of running answers, refilled as they end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.events import Reply
from qwen3_mlx.interface import Generation, Message

__all__ = ["ask_many"]

# More than an engine decodes at once, so that it never waits, and fewer than it lets wait.
_WINDOW = 64
_NAP_SECONDS = 0.2


def ask_many(
    begin: Callable[[str | Sequence[Message], Mapping[str, Any]], Generation],
    prompts: Sequence[str | Sequence[Message]],
    wishes: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
    keep: bool = False,
    cancelled: threading.Event | None = None,
) -> Any:
    """Run all prompts; the replies in their order, and with `keep` errors in their places.

    Whatever is raised, also by `progress`, cancels what still runs. `cancelled` does too.
    """
    results: list[Reply | Qwen3Error | None] = [None] * len(prompts)
    running: dict[int, Generation] = {}
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    left, done = iter(range(len(prompts))), 0

    def settle(place: int, result: Reply | Qwen3Error) -> None:
        nonlocal done
        if isinstance(result, Qwen3Error) and not keep:
            raise result
        results[place], done = result, done + 1
        if progress is not None:
            progress(done, len(prompts))

    try:
        while done < len(prompts) and not (cancelled is not None and cancelled.is_set()):
            while len(running) < _WINDOW and (place := next(left, None)) is not None:
                try:
                    running[place] = begin(prompts[place], wishes)
                except Qwen3Error as error:
                    settle(place, error)
                    continue
                running[place].when_done(lambda place=place: ended.put(place))  # type: ignore[misc]
            if not running:
                continue
            try:
                place = ended.get(timeout=_NAP_SECONDS if cancelled else None)
            except queue.Empty:
                continue
            settle(place, _result(running.pop(place)))
    finally:
        for generation in running.values():
            generation.cancel()
    return results


def _result(generation: Generation) -> Reply | Qwen3Error:
    try:
        return generation.result()
    except Qwen3Error as error:
        return error
