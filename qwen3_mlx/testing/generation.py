"""A scripted answer, played while it is read."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

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
from qwen3_mlx.interface import ModelInfo
from qwen3_mlx.mailbox import Mailbox
from qwen3_mlx.reading import Reading
from qwen3_mlx.testing.tape import Answer, Call, pieces

__all__ = ["FakeGeneration"]


class FakeGeneration(Reading):
    """A running answer of a `FakeModel`: each event is made when it is read.

    >>> from qwen3_mlx.testing import FakeModel
    >>> [type(event).__name__ for event in FakeModel(["Hi."]).stream("?")]
    ['Prefill', 'TextDelta', 'Done']
    """

    def __init__(self, answer: Answer, call: Call, info: ModelInfo, go: threading.Event) -> None:
        super().__init__()
        silent = call.thinking is False or call.thinking_budget == 0
        self._answer = replace(answer, thinking="") if silent else answer
        self._call = call
        self._info = info
        self._go = go
        self._cancelled = threading.Event()
        self._answer_now = threading.Event()
        self._ended_by: ThoughtEnd = ""
        self._events = _Played(self._play())
        self._said = {"thinking": "", "text": ""}
        self._counts = {"thinking": 0, "text": 0}
        self._made: list[ToolCall] = []

    def when_done(self, function: Callable[[], None]) -> None:
        """Call a function at once: a scripted answer is played while it is read."""
        function()

    def cancel(self) -> None:
        """End before the next token.

        >>> from qwen3_mlx.testing import FakeModel
        >>> generation = FakeModel(["never said"]).stream("?")
        >>> generation.cancel()
        >>> generation.result().finish_reason
        'cancelled'
        """
        self._cancelled.set()

    def answer_now(self) -> None:
        """End the thought before its next token.

        >>> from qwen3_mlx.testing import FakeModel
        >>> generation = FakeModel([Answer("Four.", thinking="Two and two.")]).stream("?")
        >>> generation.answer_now()
        >>> generation.result().thought_ended_by
        'user'
        """
        self._answer_now.set()

    def think_more(self, minimum: int) -> None:
        """Nothing: a thought that was written down is as long as it is.

        >>> from qwen3_mlx.testing import FakeModel
        >>> generation = FakeModel([Answer("Four.", thinking="Two and two.")]).stream("?")
        >>> generation.think_more(20)
        >>> generation.result().thinking
        'Two and two.'
        """

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


class _Played(Mailbox[Event]):
    """In the place of a mailbox that another thread fills: the next event, made on demand."""

    def __init__(self, play: Iterator[Event]) -> None:
        super().__init__()
        self._play = play

    def get(self) -> Event:
        return next(self._play)

    async def next(self) -> Event:
        import asyncio

        return await asyncio.to_thread(next, self._play)
