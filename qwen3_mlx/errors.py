"""Everything that can go wrong, as one small tree.

Each message is for the person at the keyboard: what happened, with the numbers, and
what to do next. The command line prints it and exits with status 2.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # a warm `ask` has no time for typing
    from typing import Any

__all__ = [
    "AgentGoneError",
    "CheckpointError",
    "DownloadPaused",
    "EngineError",
    "ExpertReadError",
    "GrammarError",
    "HubError",
    "IncompleteError",
    "MemoryPlanError",
    "ModelNotFoundError",
    "OptionError",
    "OutputExistsError",
    "PromptError",
    "Qwen3Error",
    "ToolError",
    "UnsupportedModelError",
]


class Qwen3Error(Exception):
    """The root: catch this to catch every error that the library raises on purpose."""


class OptionError(Qwen3Error, ValueError):
    """An argument or a flag has a value that cannot work."""


class GrammarError(OptionError):
    """A schema, type, regex or grammar cannot be used; nothing was generated."""


class PromptError(Qwen3Error, ValueError):
    """The prompt is empty, unreadable, malformed or longer than the context."""


class ModelNotFoundError(Qwen3Error):
    """No folder, catalogue name or hub id answers to the name that was given."""


class CheckpointError(Qwen3Error):
    """A model folder is incomplete or damaged: a file, shard or tensor is not as it must be."""


class UnsupportedModelError(Qwen3Error):
    """The checkpoint is whole, but of an architecture or a format that is not supported yet."""


class HubError(Qwen3Error):
    """The Hugging Face hub cannot be reached or refuses the request."""


class DownloadPaused(HubError):
    """A download was stopped on demand; what came is kept, and the next one goes on from it."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the download of {model} is paused: pull it again to go on")


class OutputExistsError(Qwen3Error):
    """The folder to be written exists already; nothing was touched."""


class IncompleteError(Qwen3Error):
    """A structured answer ended before it was whole; `reply` holds what was said.

    >>> IncompleteError("ended after 3 tokens", reply=None).reply is None
    True
    """

    def __init__(self, message: str, reply: Any) -> None:
        super().__init__(message)
        self.reply = reply


class ToolError(Qwen3Error):
    """A tool cannot be called like this, or did not come back; the model is told in these words."""


class EngineError(Qwen3Error):
    """The engine met a fault while it was running a request."""


class ExpertReadError(EngineError):
    """An expert could not be read from disk, or what was read is not what was written."""


class AgentGoneError(EngineError):
    """The warm agent went away in the middle of an answer."""


class MemoryPlanError(OptionError):
    """The memory limit is too small for the model; `smallest` is the limit that works, in bytes."""

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest
