"""The gauges under the composer: memory, experts, context, speed."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import ChatState
from qwen3_mlx_app.tui.text import compact_count, gigabytes, meter, tokens_per_second

__all__ = ["StatusLine"]

#: From here on the meter changes its colour: a chat should not run into the wall unwarned.
_CONTEXT_WARNING = 0.8


class StatusLine(Static):
    """One line, drawn from the state; what is not known is not shown."""

    def sync(self, state: ChatState, now: float) -> None:
        """Draw the state."""
        parts = [
            _memory(state),
            _experts(state),
            _context(state),
            _speed(state, now),
            _tools(state),
        ]
        self.update(Content("   ").join([part for part in parts if part is not None]))


def _context(state: ChatState) -> Content | None:
    if state.info is None:
        return None
    used, total = state.context_used, state.info.context
    colour = "$warning" if used > _CONTEXT_WARNING * total else "$primary"
    figure = f"{compact_count(used)}/{compact_count(total)}"
    return _gauge(t("ctx"), used / total if total else 0.0, figure, colour)


def _speed(state: ChatState, now: float) -> Content | None:
    rate = state.turns[-1].rate(now) if state.turns else 0.0
    if rate <= 0:
        return None
    return Content.styled(tokens_per_second(rate), "$text-muted")


def _tools(state: ChatState) -> Content | None:
    """How many tools the model may call; a warning where it cannot."""
    if state.info is None or not state.tools:
        return None
    if not state.info.can_call_tools:
        return Content.styled(t("⚙ this model cannot call tools"), "$text-warning")
    return Content.styled(f"⚙ {state.tools}", "$text-muted")


def _memory(state: ChatState) -> Content | None:
    """The peak of the last answer, or the weights while there is none, against the plan."""
    if state.info is None:
        return None
    peak = next((turn.reply.peak_bytes for turn in reversed(state.turns) if turn.reply), 0)
    size, plan = max(peak, state.info.weight_bytes), state.info.planned_bytes
    if not size:
        return None
    if not plan:
        return Content.styled(f"{t('mem')} {gigabytes(size)}", "$text-muted")
    colour = "$warning" if size > plan else "$primary"
    return _gauge(t("mem"), size / plan, f"{gigabytes(size)}/{gigabytes(plan)}", colour)


def _experts(state: ChatState) -> Content | None:
    """How many experts were in memory when they were wanted; only where some are on disk."""
    replies = (turn.reply for turn in reversed(state.turns) if turn.reply)
    stats = next((reply.experts for reply in replies if reply.experts is not None), None)
    if stats is None or stats.resident_fraction >= 1:
        return None
    return _gauge(t("experts"), stats.hit_rate, f"{stats.hit_rate:.0%}", "$secondary")


def _gauge(name: str, part: float, figure: str, colour: str) -> Content:
    filled, empty = meter(part)
    return Content.assemble(
        (f"{name} ", "$text-muted"), (filled + empty, f"{colour} on $panel"),
        (f" {figure}", "$text-muted"),
    )  # fmt: skip
