"""Notes between the turns: errors with a red edge, notices as dim lines."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.describe import describe
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import Turn
from qwen3_mlx_app.tui.text import clean

__all__ = ["ErrorNote", "NoticeLine", "load_error", "turn_error"]


class ErrorNote(Static):
    """What happened, what was kept, and what to do next."""

    def __init__(self, title: str, cause: str, kept: str, step: str) -> None:
        lines = [(f"{title}\n", "$text-error bold"), (clean(cause), "")]
        if kept:
            lines.append((f"\n{kept}", "$text-muted"))
        lines.append((f"\n→ {step}", "$text-muted"))
        super().__init__(Content.assemble(*lines))


class NoticeLine(Static):
    """One dim line."""

    def __init__(self, text: str) -> None:
        super().__init__(Content(clean(text)))


def turn_error(turn: Turn, error: Exception, loaded: bool) -> ErrorNote:
    """The note for a turn that failed, in the middle or before it began."""
    if not loaded:
        return load_error(error)
    step = t("^r asks again")
    if turn.answer:
        n = turn.answer_tokens
        kept = t("Kept: the answer so far, {n:,} tokens, and your message.", n=n)
        step = t("^g continues, ^r asks again")
    elif turn.thought:
        n = turn.thought_tokens
        kept = t("Kept: the thought so far, {n:,} tokens, and your message.", n=n)
    else:
        kept = t("Kept: your message.")
    return ErrorNote(t("The answer broke off"), describe(error), kept, step)


def load_error(error: Exception) -> ErrorNote:
    """The note for a model that could not be loaded."""
    step = t("Send a message to try again, or choose another model with ^l")
    return ErrorNote(t("The model could not be loaded"), describe(error), "", step)
