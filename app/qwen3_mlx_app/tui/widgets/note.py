"""Notes between the turns: errors with a red edge, notices as dim lines."""

from __future__ import annotations

from pathlib import Path

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx.errors import EngineError, HubError, MemoryPlanError, PromptError, Qwen3Error
from qwen3_mlx_app.tui.describe import describe
from qwen3_mlx_app.tui.faults import has_details
from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.state import Turn
from qwen3_mlx_app.tui.stderr import log_path
from qwen3_mlx_app.tui.text import clean, gigabytes

__all__ = ["ErrorNote", "NoticeLine", "load_error", "store_error", "turn_error"]


class ErrorNote(Static):
    """What happened, what was kept, and the one thing to do next; where the details are."""

    def __init__(
        self, title: str, step: str, *, kept: str, cause: str = "", error: Exception | None = None
    ) -> None:
        if error is not None:
            cause = cause or describe(error)
        lines = [(f"{title}\n", "$text-error bold"), (clean(cause), "")]
        lines.append((f"\n{kept}", "$text-muted"))
        lines.append((f"\n→ {step}", ""))
        if error is not None and has_details(error):
            lines.append((f"\n{t('Details: {path}', path=_short(log_path()))}", "$text-muted"))
        super().__init__(Content.assemble(*lines))


class NoticeLine(Static):
    """One dim line."""

    def __init__(self, text: str) -> None:
        super().__init__(Content(clean(text)))


def turn_error(turn: Turn, error: Exception) -> ErrorNote:
    """The note for a turn that failed, in the middle or before it began."""
    if turn.unloaded:
        return load_error(error)
    if turn.answer:
        n = turn.answer_tokens
        kept = t("Kept: the answer so far, {n:,} tokens, and your message.", n=n)
    elif turn.thought:
        n = turn.thought_tokens
        kept = t("Kept: the thought so far, {n:,} tokens, and your message.", n=n)
    else:
        kept = t("Kept: your message.")
    return ErrorNote(*_turn_words(turn, error), kept=kept, error=error)


def load_error(error: Exception) -> ErrorNote:
    """The note for a model that could not be loaded."""
    title, kept = t("The model could not be loaded"), t("Kept: this chat, and what you type.")
    step = say("{models}: choose another model, or send a message to try again")
    match error:
        case MemoryPlanError():
            title = t("The model does not fit")
            step = say("{models}: choose a model that fits")
            if error.smallest:
                size = gigabytes(error.smallest)
                step = say("{settings}: set the memory limit to {size} or more", size=size)
        case HubError():
            title = t("The download broke off")
            kept = t("Kept: what was downloaded.")
            step = say("{models}: ⏎ goes on with the download")
    return ErrorNote(title, step, kept=kept, error=error)


def store_error(why: str) -> ErrorNote:
    """The note for a chat that cannot be written to the database."""
    return ErrorNote(
        t("This chat is not being saved"), t("/export FILE keeps it"),
        kept=t("Kept: all of it, in this window. It is saved as soon as that can be done."),
        cause=t("The database of chats cannot be written: {why}.", why=why),
    )  # fmt: skip


def _turn_words(turn: Turn, error: Exception) -> tuple[str, str]:
    """Title and next step."""
    if isinstance(error, PromptError):
        if "context" in str(error):
            return t("The context is full"), say("{new} starts a new chat; this one stays")
        return t("The message was not understood"), say("↑ edits it")
    if isinstance(error, EngineError) or not isinstance(error, Qwen3Error):
        return t("The engine met a fault"), t("/restart loads the model anew and asks again")
    if turn.answer:
        return t("The answer broke off"), say("{go_on} continues, {retry} asks again")
    return t("The answer broke off"), say("{retry} asks again")


def _short(path: Path) -> str:
    """The path, from ~ on where it is below it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
