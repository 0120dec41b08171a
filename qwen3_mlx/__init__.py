"""Run Qwen3 on a Mac: load a model, ask it, stream from it.

>>> import qwen3_mlx
>>> with qwen3_mlx.load("tiny") as model:
...     print(model.ask("What is 2 + 2?", thinking=False).usage.prompt_tokens > 0)
True
"""

from qwen3_mlx.api import Qwen3, load
from qwen3_mlx.errors import (
    CheckpointError,
    EngineError,
    ExpertReadError,
    HubError,
    MemoryPlanError,
    ModelNotFoundError,
    OptionError,
    PromptError,
    Qwen3Error,
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
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    Timing,
    Usage,
)
from qwen3_mlx.generation import TextGeneration
from qwen3_mlx.interface import Message, ModelInfo, Sampling
from qwen3_mlx.statistics import ExpertStats
from qwen3_mlx.version import __version__

__all__ = [
    "CheckpointError",
    "Done",
    "EngineError",
    "Event",
    "ExpertReadError",
    "ExpertStats",
    "Failed",
    "HubError",
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
    "Sampling",
    "TextDelta",
    "TextGeneration",
    "ThinkingDelta",
    "ThinkingDone",
    "Timing",
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "load",
]
