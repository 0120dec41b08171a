"""What a front end may ask of a model; the real one and the scripted one both answer to it.

>>> from qwen3_mlx.testing import FakeModel
>>> question: Message = {"role": "user", "content": "2 + 2?"}
>>> FakeModel(["It is 4."]).ask([question]).text
'It is 4.'
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

from qwen3_mlx.events import Event, Reply

if TYPE_CHECKING:
    from qwen3_mlx.grammar.grammar import Grammar

__all__ = ["ChatModel", "Generation", "Message", "ModelInfo", "Overflow", "Sampling", "Wishes"]

#: One turn in the form that chat templates read: {"role": "user", "content": "…"}, and for
#: assistants also "reasoning_content" and "tool_calls".
Message: TypeAlias = Mapping[str, Any]

#: What happens to a conversation that is too long: an error, or its oldest turns are left out.
Overflow: TypeAlias = Literal["error", "drop-oldest"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `None` means: as the checkpoint and the mode say.

    The order is penalties, temperature, top_k, top_p, min_p. `temperature=0` is greedy.

    >>> from qwen3_mlx.testing import FakeModel
    >>> FakeModel(["4"]).ask("2 + 2?", sampling=Sampling(temperature=0)).text
    '4'
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class Wishes(TypedDict, total=False):
    """What may be asked for beside the prompt; `Qwen3.stream` explains each.

    >>> wishes: Wishes = {"thinking": False, "max_tokens": 100}
    >>> sorted(wishes)
    ['max_tokens', 'thinking']
    """

    thinking: bool | None
    system: str | None
    sampling: Sampling | None
    max_tokens: int | None
    stop: Sequence[str]
    seed: int | None
    timeout: float | None
    raw: bool
    thinking_budget: int | None
    min_thinking: int
    loop_guard: bool
    overflow: Overflow
    logprobs: int | None
    grammar: Grammar | None
    tools: Sequence[Any]
    tool_choice: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a front end shows of a loaded model. Sizes are bytes, the context is tokens.

    `family` is "hybrid", "thinking", "instruct", "coder", "base" or "embedding"; `planned_bytes`
    what the memory plan reckons with for the whole context, 0 where there is no plan.
    `can_call_tools` is False where nothing was trained for them, and where the chat template
    knows of none.

    >>> from qwen3_mlx.testing import FakeModel
    >>> info = FakeModel([]).info
    >>> info.context, info.can_think
    (32768, True)
    """

    name: str
    quantization: str
    context: int
    weight_bytes: int
    can_think: bool
    can_switch_thinking: bool
    family: str = ""
    planned_bytes: int = 0
    can_call_tools: bool = True


class Generation(Protocol):
    """A running answer: iterate it for events, cancel it from any thread."""

    def __iter__(self) -> Iterator[Event]: ...

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def cancel(self) -> None:
        """End within one token; what was said is kept and comes with `Done`."""

    def answer_now(self) -> None:
        """End the thought within one token, and answer from what has been thought."""

    def think_more(self, minimum: int) -> None:
        """Do not let the thought end before it has this many tokens in all."""

    def result(self) -> Reply:
        """Run to the end and return the reply; raises what a `Failed` event carries."""

    async def aresult(self) -> Reply:
        """`result` for coroutines; cancelling the task cancels the answer."""

    def when_done(self, function: Callable[[], None]) -> None:
        """Call a function, on any thread, when the answer is over."""


class ChatModel(Protocol):
    """A model that holds conversations."""

    @property
    def info(self) -> ModelInfo: ...

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        thinking: bool | None = None,
        system: str | None = None,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        timeout: float | None = None,
        thinking_budget: int | None = None,
        overflow: Overflow = "error",
        grammar: Grammar | None = None,
        tools: Sequence[Any] = (),
    ) -> Generation:
        """Start an answer. `thinking=None` leaves the choice to the checkpoint."""

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> str:
        """The exact prompt text that the model would read for these messages."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""

    def prepare(
        self,
        messages: Sequence[Message],
        system: str | None = None,
        tools: Sequence[Any] = (),
    ) -> None:
        """Read a conversation while there is nothing else to do. Returns at once."""

    def close(self) -> None:
        """End the engine thread and free the memory."""
