"""The scripted model: a tape of answers, and a list of what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwen3_mlx.asking import Asking
from qwen3_mlx.errors import EngineError
from qwen3_mlx.interface import Message, ModelInfo, Sampling
from qwen3_mlx.testing.generation import FakeGeneration
from qwen3_mlx.testing.tape import Answer, Call, pieces

if TYPE_CHECKING:
    from qwen3_mlx.grammar.grammar import Grammar

__all__ = ["FakeModel"]

_INFO = ModelInfo(
    name="Qwen3-fake",
    quantization="4-bit",
    context=32_768,
    weight_bytes=1_200_000_000,
    can_think=True,
    can_switch_thinking=True,
)


class FakeModel(Asking):
    """A `ChatModel` that plays a tape and writes down what it was asked.

    >>> model = FakeModel(["one", Answer("two", finish_reason="length")])
    >>> [model.stream("?").result().finish_reason for _ in range(2)]
    ['stop', 'length']
    >>> model.stream("?")
    Traceback (most recent call last):
    qwen3_mlx.errors.EngineError: the tape holds 2 answers and this is call 3: add an Answer

    A function in the place of the tape answers each call:

    >>> FakeModel(lambda call: call.prompt.upper()).stream("hi").result().text
    'HI'
    """

    def __init__(
        self,
        tape: Sequence[Answer | str] | Callable[[Call], Answer | str],
        *,
        info: ModelInfo = _INFO,
    ) -> None:
        super().__init__()
        self._tape = tape
        self._info = info
        self._go = threading.Event()
        self.calls: list[Call] = []
        self.prepared: list[tuple[Message, ...]] = []
        self.closed = False

    @property
    def info(self) -> ModelInfo:
        """The description that was given, by default a small 4-bit model that can think."""
        return self._info

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
        grammar: Grammar | None = None,
        tools: Sequence[Any] = (),
        **more: Any,
    ) -> FakeGeneration:
        """Record the call and start the next answer of the tape."""
        messages = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
        call = Call(
            tuple(messages), thinking, system, sampling, max_tokens, tuple(stop), seed, timeout,
            thinking_budget, grammar, tuple(tools), more,
        )  # fmt: skip
        with self._lock:
            self.calls.append(call)
            answer = self._answer(call)
        generation = FakeGeneration(answer, call, self._info, self._go)
        self._watch(generation)
        return generation

    def go_on(self) -> None:
        """Let every stream that waits at its `pause_after` go on.

        >>> model = FakeModel([Answer("a b c", pause_after=1)])
        >>> model.go_on()
        >>> model.stream("?").result().text
        'a b c'
        """
        self._go.set()

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> str:
        r"""The messages in Qwen's frame, without any of the template's rules.

        >>> FakeModel([]).render([{"role": "user", "content": "hi"}])
        '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n'
        """
        frames = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
        return "".join(frames) + "<|im_start|>assistant\n"

    def encode(self, text: str) -> list[int]:
        """As many ids as the text has `pieces`.

        >>> len(FakeModel([]).encode("one two"))
        2
        """
        return list(range(len(pieces(text))))

    def prepare(
        self,
        messages: Sequence[Message],
        system: str | None = None,
        tools: Sequence[Any] = (),
    ) -> None:
        """Note the messages that were to be read ahead, in `prepared`."""
        self.prepared.append(tuple(messages))

    def close(self) -> None:
        """Note that the model was closed, in `closed`."""
        self.closed = True

    def _answer(self, call: Call) -> Answer:
        """The next answer, from the tape or from the function."""
        if callable(self._tape):
            answer = self._tape(call)
        elif len(self.calls) <= len(self._tape):
            answer = self._tape[len(self.calls) - 1]
        else:
            raise EngineError(
                f"the tape holds {len(self._tape)} answers and this is call "
                f"{len(self.calls)}: add an Answer"
            )
        return Answer(answer) if isinstance(answer, str) else answer
