"""What becomes of a row of the batch, when its next token is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from qwen3_mlx.engine.request import Force, Request, Stop
from qwen3_mlx.events import FinishReason

__all__ = ["Outcome", "deliver", "deliver_all"]

#: A row ends, it failed, its text changes, or nothing happens.
Outcome: TypeAlias = FinishReason | Exception | Force | None


def deliver(request: Request, token: int, now: float) -> Outcome:
    """Hand one token over, at a time by perf_counter(); None if the row just goes on."""
    stats = request.stats
    if not stats.first_token:
        stats.first_token = now
    stats.decode_seconds = now - stats.first_token
    if token in request.eos:
        request.end.append(token)
        return "stop"
    request.add(token)
    try:
        wish = request.listener.token(token)
        if isinstance(wish, Force) and request.fits(len(wish.ids), wish.cut):
            return wish
    except Exception as error:
        return error
    if wish is True:
        return "stop"
    if isinstance(wish, Stop):
        return wish.reason
    return None if request.left > 0 else "length"


def deliver_all(request: Request, tokens: Sequence[int], now: float) -> tuple[Outcome, int]:
    """Hand tokens over until one changes what may come behind it; how many that were."""
    for heard, token in enumerate(tokens, 1):
        outcome = deliver(request, token, now)
        if outcome is not None or heard == len(tokens):
            break
        if request.restricted or request.interruption() is not None:
            break
    return outcome, heard
