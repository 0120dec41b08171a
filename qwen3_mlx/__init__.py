"""Run Qwen3 on a Mac: load a model, ask it, stream from it.

>>> import qwen3_mlx
>>> with qwen3_mlx.load("tiny") as model:
...     print(model.ask("What is 2 + 2?", thinking=False).usage.prompt_tokens > 0)
True
"""

from importlib import import_module

from qwen3_mlx.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 3 ms to import, which a warm `ask` has better use for
    from qwen3_mlx.api import Qwen3, load
    from qwen3_mlx.chat import Chat
    from qwen3_mlx.errors import (
        CheckpointError,
        EngineError,
        ExpertReadError,
        GrammarError,
        HubError,
        IncompleteError,
        MemoryPlanError,
        ModelNotFoundError,
        OptionError,
        PromptError,
        Qwen3Error,
        ToolError,
        UnsupportedModelError,
    )
    from qwen3_mlx.events import (
        Done,
        Event,
        Failed,
        Loading,
        Notice,
        Prefill,
        Reply,
        StepDone,
        TextDelta,
        ThinkingDelta,
        ThinkingDone,
        Timing,
        TokenLogprob,
        ToolCall,
        ToolCallDelta,
        ToolCallStarted,
        ToolResult,
        Usage,
    )
    from qwen3_mlx.generation import TextGeneration
    from qwen3_mlx.grammar.grammar import Grammar
    from qwen3_mlx.interface import Message, ModelInfo, Sampling
    from qwen3_mlx.statistics import ExpertStats
    from qwen3_mlx.tools.functions import Tool
    from qwen3_mlx.tools.loop import RunResult, ToolRun

__all__ = [
    "Chat",
    "CheckpointError",
    "Done",
    "EngineError",
    "Event",
    "ExpertReadError",
    "ExpertStats",
    "Failed",
    "Grammar",
    "GrammarError",
    "HubError",
    "IncompleteError",
    "Loading",
    "MemoryPlanError",
    "Message",
    "ModelInfo",
    "ModelNotFoundError",
    "Notice",
    "OptionError",
    "Prefill",
    "PromptError",
    "Qwen3",
    "Qwen3Error",
    "Reply",
    "RunResult",
    "Sampling",
    "StepDone",
    "TextDelta",
    "TextGeneration",
    "ThinkingDelta",
    "ThinkingDone",
    "Timing",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallStarted",
    "ToolError",
    "ToolResult",
    "ToolRun",
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "load",
]

# Where the names live, the cheap modules first: a front end that needs an event or an error
# does not wait for mlx, and the names come when they are asked for (PEP 562).
_HOMES = (
    "errors",
    "events",
    "statistics",
    "interface",
    "api",
    "generation",
    "grammar.grammar",
    "chat",
    "tools.functions",
    "tools.loop",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"qwen3_mlx.{home}")
            if name in module.__all__:
                value = getattr(module, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module 'qwen3_mlx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
