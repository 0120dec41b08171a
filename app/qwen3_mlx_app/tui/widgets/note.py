"""Notes between the turns: errors with a red edge, notices as dim lines."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from ..describe import describe
from ..state import Turn
from ..text import clean

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
    if turn.answer:
        kept = f"Kept: the answer so far, {turn.answer_tokens:,} tokens, and your message."
    elif turn.thought:
        kept = f"Kept: the thought so far, {turn.thought_tokens:,} tokens, and your message."
    else:
        kept = "Kept: your message."
    return ErrorNote("The answer broke off", describe(error), kept, "^r asks again")


def load_error(error: Exception) -> ErrorNote:
    """The note for a model that could not be loaded."""
    step = "Send a message to try again, or leave with ^q and choose another with -m NAME"
    return ErrorNote("The model could not be loaded", describe(error), "", step)
