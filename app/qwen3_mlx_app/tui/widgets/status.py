"""The gauges under the composer: context, speed, memory."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.state import ChatState
from qwen3_mlx_app.tui.text import compact_count, gigabytes, meter, tokens_per_second

__all__ = ["StatusLine"]

#: From here on the meter changes its colour: a chat should not run into the wall unwarned.
_CONTEXT_WARNING = 0.8


class StatusLine(Static):
    """One line, drawn from the state; what is not known is not shown."""

    def sync(self, state: ChatState, now: float) -> None:
        """Draw the state."""
        parts = [_context(state), _speed(state, now), _memory(state)]
        self.update(Content("   ").join([part for part in parts if part is not None]))


def _context(state: ChatState) -> Content | None:
    if state.info is None:
        return None
    used, total = state.context_used, state.info.context
    filled, empty = meter(used / total if total else 0.0)
    colour = "$warning" if used > _CONTEXT_WARNING * total else "$primary"
    return Content.assemble(
        ("ctx ", "$text-muted"),
        (filled + empty, f"{colour} on $panel"),
        (f" {compact_count(used)}/{compact_count(total)}", "$text-muted"),
    )


def _speed(state: ChatState, now: float) -> Content | None:
    rate = state.turns[-1].rate(now) if state.turns else 0.0
    if rate <= 0:
        return None
    return Content.styled(tokens_per_second(rate), "$text-muted")


def _memory(state: ChatState) -> Content | None:
    """The peak of the last answer, or the weights while there is none."""
    if state.info is None:
        return None
    peak = next((turn.reply.peak_bytes for turn in reversed(state.turns) if turn.reply), 0)
    size = max(peak, state.info.weight_bytes)
    return Content.styled(f"mem {gigabytes(size)}", "$text-muted") if size else None
