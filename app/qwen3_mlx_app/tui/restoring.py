"""A turn of the screen as a row of the database, and back."""

from __future__ import annotations

import math
from typing import Any, cast

from qwen3_mlx.errors import EngineError, HubError, OptionError, PromptError, Qwen3Error
from qwen3_mlx.events import FinishReason, Reply, Timing, Usage
from qwen3_mlx_app.tui import calls
from qwen3_mlx_app.tui.describe import describe
from qwen3_mlx_app.tui.state import Phase, Turn
from qwen3_mlx_app.tui.store import SavedTurn

__all__ = ["restored", "saved_turn"]

#: The kinds of errors whose notes say different things; any other is a fault of the engine.
_KINDS: dict[str, type[Qwen3Error]] = {
    kind.__name__: kind for kind in (EngineError, HubError, OptionError, PromptError)
}


def saved_turn(turn: Turn) -> SavedTurn:
    """What is kept of a turn; `finish` is never "" here, since that means: still coming."""
    finish = "failed" if turn.error is not None else turn.finish or "interrupted"
    return SavedTurn(
        turn.user, turn.saved, turn.parent.saved if turn.parent is not None else None,
        thought=turn.thought, answer=turn.answer, thinks=turn.thinks, finish=finish,
        details=_details(turn),
    )  # fmt: skip


def restored(saved: SavedTurn) -> Turn:
    """The turn as it stood at its end, with its figures."""
    details = saved.details
    turn = Turn(0, saved.question, saved.thinks, Phase.DONE)
    turn.thought, turn.answer = saved.thought, saved.answer
    turn.thought_tokens = _whole(details, "thought_tokens")
    turn.thought_seconds = _number(details, "thought_seconds")
    turn.answer_tokens = _whole(details, "answer_tokens")
    notices = details.get("notices")
    turn.notices = [str(text) for text in notices] if isinstance(notices, list) else []
    calls.restore(turn, details.get("steps"))
    if saved.finish == "failed":
        turn.phase = Phase.FAILED
        kind = _KINDS.get(str(details.get("error_kind")), EngineError)
        turn.error = kind(str(details.get("error") or "the answer broke off"))
    elif saved.finish in ("", "interrupted"):
        turn.finish = "interrupted"
    else:
        turn.finish = cast("FinishReason", saved.finish)
        turn.reply = _reply(turn, details)
    return turn


def _details(turn: Turn) -> dict[str, Any]:
    details: dict[str, Any] = {
        "thought_tokens": turn.thought_tokens,
        "thought_seconds": round(turn.thought_seconds, 2),
        "answer_tokens": turn.answer_tokens,
        "notices": turn.notices,
    }
    if turn.tools:
        details["steps"] = calls.to_json(turn)
    if turn.error is not None:
        details["error"] = describe(turn.error)
        names = (kind.__name__ for kind in type(turn.error).__mro__)
        details["error_kind"] = next((name for name in names if name in _KINDS), "")
    if (reply := turn.reply) is not None:
        details["model"] = reply.model
        details["prompt_tokens"] = reply.usage.prompt_tokens
        details["ttft_seconds"] = round(reply.timing.ttft_seconds, 4)
        details["tokens_per_second"] = round(reply.timing.decode_tokens_per_second, 2)
    return details


def _reply(turn: Turn, details: dict[str, Any]) -> Reply:
    return Reply(
        turn.answer,
        turn.thought,
        cast("FinishReason", turn.finish),
        str(details.get("model") or ""),
        Usage(_whole(details, "prompt_tokens"), turn.thought_tokens, turn.answer_tokens),
        Timing(
            ttft_seconds=_number(details, "ttft_seconds"),
            decode_tokens_per_second=_number(details, "tokens_per_second"),
        ),
    )


def _number(details: dict[str, Any], name: str) -> float:
    value = details.get(name)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return 0.0


def _whole(details: dict[str, Any], name: str) -> int:
    return int(_number(details, name))
