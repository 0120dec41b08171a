"""A scripted model for tests: the interface of the real one, without weights.

    >>> from qwen3_mlx.testing import Answer, FakeModel
    >>> model = FakeModel([Answer("Four.", thinking="Two and two.")])
    >>> model.stream("2 + 2?", thinking=True).result().text
    'Four.'
    >>> model.calls[0].thinking
    True

It imports no array library, so a test that uses it starts at once and runs anywhere.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qwen3_mlx.asking import Asking
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import (
    Done,
    Event,
    Failed,
    FinishReason,
    Notice,
    Prefill,
    Reply,
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    ThoughtEnd,
    Timing,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwen3_mlx.interface import Message, ModelInfo, Sampling

if TYPE_CHECKING:
    from qwen3_mlx.grammar.grammar import Grammar

__all__ = ["Answer", "Call", "FakeGeneration", "FakeModel", "pieces"]

INFO = ModelInfo(
    name="Qwen3-fake",
    quantization="4-bit",
    context=32_768,
    weight_bytes=1_200_000_000,
    can_think=True,
    can_switch_thinking=True,
)

_PIECE = re.compile(r"\s*\S{1,6}|\s+\Z")


def pieces(text: str) -> list[str]:
    """Cut a text the way a tokenizer would, roughly: words with their space, six letters at most.

    >>> pieces("Hello world, again")
    ['Hello', ' world,', ' again']
    """
    return _PIECE.findall(text)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer on the tape.

    `tokens_per_second=0` streams as fast as it is read. `error` is met after `error_after`
    tokens. `pause_after` holds the stream after so many tokens until `FakeModel.go_on()`,
    which lets a test look at a half-said answer without racing it. `timing` replaces the
    measured one where a test compares pictures. `calls` are the tool calls of the answer, each a
    name and arguments.
    """

    text: str = ""
    thinking: str = ""
    tokens_per_second: float = 0.0
    finish_reason: FinishReason = "stop"
    error: Exception | None = None
    error_after: int = 0
    pause_after: int | None = None
    notices: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    timing: Timing | None = None
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    thinking_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What `FakeModel.stream` was asked for; a string prompt is kept as one user message."""

    messages: tuple[Message, ...]
    thinking: bool | None
    system: str | None
    sampling: Sampling | None
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    timeout: float | None
    thinking_budget: int | None = None
    grammar: Grammar | None = None
    tools: tuple[Any, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return str(self.messages[-1].get("content", "")) if self.messages else ""


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
        info: ModelInfo = INFO,
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


class FakeGeneration:
    """A running answer of a `FakeModel`: iterate it once, cancel it from any thread."""

    def __init__(
        self, answer: Answer, call: Call, info: ModelInfo, go: threading.Event | None = None
    ) -> None:
        silent = call.thinking is False or call.thinking_budget == 0
        self._answer = replace(answer, thinking="") if silent else answer
        self._call = call
        self._info = info
        self._go = go or threading.Event()
        self._cancelled = threading.Event()
        self._answer_now = threading.Event()
        self._ended_by: ThoughtEnd = ""
        self._events = self._play()
        self._said = {"thinking": "", "text": ""}
        self._counts = {"thinking": 0, "text": 0}
        self._made: list[ToolCall] = []

    def __iter__(self) -> Iterator[Event]:
        """The events from here on; a second loop goes on where the first one stopped."""
        return self._events

    async def __aiter__(self) -> AsyncIterator[Event]:
        import asyncio

        try:
            while (event := await asyncio.to_thread(next, self._events, None)) is not None:
                yield event
        finally:
            self.cancel()

    def when_done(self, function: Callable[[], None]) -> None:
        """Call a function at once: a scripted answer is played while it is read."""
        function()

    async def aresult(self) -> Reply:
        """`result` for coroutines."""
        last: Event | None = None
        async for event in self:
            last = event
        return self._outcome(last)

    def cancel(self) -> None:
        """End before the next token.

        >>> generation = FakeModel(["never said"]).stream("?")
        >>> generation.cancel()
        >>> generation.result().finish_reason
        'cancelled'
        """
        self._cancelled.set()

    def answer_now(self) -> None:
        """End the thought before its next token.

        >>> generation = FakeModel([Answer("Four.", thinking="Two and two.")]).stream("?")
        >>> generation.answer_now()
        >>> generation.result().thought_ended_by
        'user'
        """
        self._answer_now.set()

    def result(self) -> Reply:
        """Run to the end and return the reply; raises the error of the tape."""
        last: Event | None = None
        for event in self:
            last = event
        return self._outcome(last)

    def _outcome(self, last: Event | None) -> Reply:
        if isinstance(last, Failed):
            raise last.error
        if isinstance(last, Done):
            return last.reply
        raise EngineError("this answer was read to its end before: keep the reply of its Done")

    def _play(self) -> Iterator[Event]:
        """Prefill, thought, answer, end; `_step` says before each token whether it may come."""
        self._start = time.monotonic()
        prompt_tokens = self._prompt_tokens()
        yield Prefill(prompt_tokens, prompt_tokens)
        yield from (Notice(text) for text in self._answer.notices)
        reason: FinishReason | Exception | None = None
        for kind, text in self._parts():
            began = time.monotonic()
            for piece in pieces(text):
                reason = self._step()
                if reason is not None or (kind == "thinking" and self._ends_thought()):
                    break
                yield self._say(kind, piece)
            if kind == "thinking" and text:
                self._ended_by = self._ended_by or ("model" if reason is None else "")
                yield self._thinking_done(time.monotonic() - began)
            if reason is not None:
                break
        reason = reason if reason is not None else self._answer.error or self._answer.finish_reason
        if isinstance(reason, Exception):
            yield Failed(reason, kept=self._said["text"])
        else:
            if reason == "stop":
                yield from self._call_tools()
            yield Done(self._reply(reason, prompt_tokens))

    def _call_tools(self) -> Iterator[Event]:
        """The calls of the answer, as a parser of the real model's words tells them."""
        for index, (name, arguments) in enumerate(self._answer.calls):
            yield ToolCallStarted(index, name)
            yield ToolCallDelta(index, json.dumps(arguments, ensure_ascii=False))
            self._made.append(ToolCall(f"call_{secrets.token_hex(8)}", name, arguments))
            yield self._made[-1]

    def _ends_thought(self) -> bool:
        """Whether the thought ends before its next token, by the budget or on demand."""
        budget = self._call.thinking_budget
        if self._answer_now.is_set():
            self._ended_by = "user"
        elif budget is not None and self._counts["thinking"] >= budget:
            self._ended_by = "budget"
        return bool(self._ended_by)

    def _parts(self) -> list[tuple[str, str]]:
        """The thought and the answer, which ends before the first stop string."""
        text = self._answer.text
        for stop in self._call.stop:
            text = text.partition(stop)[0]
        return [("thinking", self._answer.thinking), ("text", text)]

    def _step(self) -> FinishReason | Exception | None:
        """Wait for the next token's time; the reason to end instead of saying it, or None."""
        spoken = sum(self._counts.values())
        if spoken == self._answer.pause_after:
            while not self._go.is_set() and not self._cancelled.wait(0.01):
                pass
        rate = self._answer.tokens_per_second
        if rate > 0:
            due = self._start + (spoken + 1) / rate
            self._cancelled.wait(max(0.0, due - time.monotonic()))
        if self._cancelled.is_set():
            return "cancelled"
        if self._call.timeout is not None and time.monotonic() - self._start > self._call.timeout:
            return "timeout"
        if self._call.max_tokens is not None and spoken >= self._call.max_tokens:
            return "length"
        return self._answer.error if spoken >= self._answer.error_after else None

    def _say(self, kind: str, piece: str) -> Event:
        self._said[kind] += piece
        self._counts[kind] += 1
        delta = ThinkingDelta if kind == "thinking" else TextDelta
        return delta(piece, self._counts[kind])

    def _thinking_done(self, measured: float) -> ThinkingDone:
        given = self._answer.thinking_seconds
        seconds = measured if given is None else given
        return ThinkingDone(self._counts["thinking"], seconds, self._ended_by)

    def _prompt_tokens(self) -> int:
        if self._answer.prompt_tokens is not None:
            return self._answer.prompt_tokens
        texts = [str(message.get("content", "")) for message in self._call.messages]
        return sum(len(pieces(text)) + 4 for text in [*texts, self._call.system or ""] if text)

    def _reply(self, reason: FinishReason, prompt_tokens: int) -> Reply:
        thinking, text = self._counts["thinking"], self._counts["text"]
        elapsed = max(time.monotonic() - self._start, 1e-6)
        return Reply(
            text=self._said["text"],
            thinking=self._said["thinking"],
            finish_reason=reason,
            model=self._info.name,
            usage=Usage(prompt_tokens, thinking, text),
            timing=self._answer.timing
            or Timing(decode_tokens_per_second=(thinking + text) / elapsed),
            peak_bytes=self._info.weight_bytes,
            thought_ended_by=self._ended_by,
            notices=self._answer.notices,
            fits=self._fits(reason),
            tool_calls=tuple(self._made),
        )

    def _fits(self, reason: FinishReason) -> bool | None:
        """Whether the scripted text is what the grammar asks for, as far as it can be parsed."""
        if self._call.grammar is None:
            return None
        try:
            self._call.grammar.parse(self._said["text"])
        except (ValueError, TypeError):
            return False
        return reason == "stop"
