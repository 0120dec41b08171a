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
    """The root: catch this to catch every error that the library raises on purpose.

    >>> from qwen3_mlx import load
    >>> try:
    ...     load("no-such-model")
    ... except Qwen3Error as error:
    ...     print(type(error).__name__)
    ModelNotFoundError
    """


class OptionError(Qwen3Error, ValueError):
    """An argument or a flag has a value that cannot work.

    >>> from qwen3_mlx.testing import FakeModel
    >>> FakeModel(["Hi."]).ask_many(["hello"], errors="drop")
    Traceback (most recent call last):
    qwen3_mlx.errors.OptionError: errors is 'drop', and must be raise or keep
    """


class GrammarError(OptionError):
    """A schema, type, regex or grammar cannot be used; nothing was generated.

    >>> from qwen3_mlx import Grammar
    >>> Grammar.choice([])
    Traceback (most recent call last):
    qwen3_mlx.errors.GrammarError: options must be texts that are not empty, at least one
    """


class PromptError(Qwen3Error, ValueError):
    """The prompt is empty, unreadable, malformed or longer than the context.

    >>> from qwen3_mlx import load
    >>> with load("tiny") as model:
    ...     model.ask(" ")
    Traceback (most recent call last):
    qwen3_mlx.errors.PromptError: the prompt is empty: say something to the model
    """


class ModelNotFoundError(Qwen3Error):
    """No folder, catalogue name or hub id answers to the name that was given.

    >>> from qwen3_mlx import load
    >>> load("no-such-model")
    Traceback (most recent call last):
    qwen3_mlx.errors.ModelNotFoundError: ...no-such-model...
    """


class CheckpointError(Qwen3Error):
    """A model folder is incomplete or damaged: a file, shard or tensor is not as it must be.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from qwen3_mlx import load
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text("{")
    ...     load(folder)
    Traceback (most recent call last):
    qwen3_mlx.errors.CheckpointError: ...config.json...
    """


class UnsupportedModelError(Qwen3Error):
    """The checkpoint is whole, but of an architecture or a format that is not supported yet.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from qwen3_mlx import load
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"model_type": "llama"}')
    ...     load(folder)
    Traceback (most recent call last):
    qwen3_mlx.errors.UnsupportedModelError: ...llama...
    """


class HubError(Qwen3Error):
    """The Hugging Face hub cannot be reached or refuses the request.

    >>> raise HubError("huggingface.co cannot be reached: look at the network, and pull again")
    Traceback (most recent call last):
    qwen3_mlx.errors.HubError: huggingface.co cannot be reached: look at the network, and pull again
    """


class DownloadPaused(HubError):
    """A download was stopped on demand; what came is kept, and the next one goes on from it."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the download of {model} is paused: pull it again to go on")


class OutputExistsError(Qwen3Error):
    """The folder to be written exists already; nothing was touched."""


class IncompleteError(Qwen3Error):
    """A structured answer ended before it was whole; `reply` holds what was said.

    >>> from qwen3_mlx.testing import FakeModel
    >>> try:
    ...     FakeModel(["[1, 2, 3]"]).json("numbers", list[int], max_tokens=2)
    ... except IncompleteError as error:
    ...     print(error.reply.text, error.reply.finish_reason)
    [1, 2, length
    """

    def __init__(self, message: str, reply: Any) -> None:
        super().__init__(message)
        self.reply = reply


class ToolError(Qwen3Error):
    """A tool cannot be called like this, or did not come back; the model is told in these words.

    >>> from qwen3_mlx import Tool
    >>> def double(n: int) -> int:
    ...     return 2 * n
    >>> Tool.of(double).call({"n": "four"})
    Traceback (most recent call last):
    qwen3_mlx.errors.ToolError: argument 'n' of double: 'four' is not of type int
    """


class EngineError(Qwen3Error):
    """The engine met a fault while it was running a request.

    >>> from qwen3_mlx import load
    >>> model = load("tiny")
    >>> model.close()
    >>> model.ask("hi")
    Traceback (most recent call last):
    qwen3_mlx.errors.EngineError: ...closed...
    """


class ExpertReadError(EngineError):
    """An expert could not be read from disk, or what was read is not what was written.

    >>> try:
    ...     raise ExpertReadError("experts-00.bin ends after 3,145,728 bytes")
    ... except EngineError as error:
    ...     print(error)
    experts-00.bin ends after 3,145,728 bytes
    """


class AgentGoneError(EngineError):
    """The warm agent went away in the middle of an answer."""


class MemoryPlanError(OptionError):
    """The memory limit is too small for the model; `smallest` is the limit that works, in bytes.

    >>> from qwen3_mlx import load
    >>> try:
    ...     load("tiny", memory_limit="1MB")
    ... except MemoryPlanError as error:
    ...     print(error.smallest > 1_000_000)
    True
    """

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest
