"""The loop: the model answers, its calls are carried out, their results are read, it answers on.

>>> from qwen3_mlx.chat import Chat
>>> from qwen3_mlx.testing import Answer, FakeModel
>>> def add(a: int, b: int) -> int:
...     return a + b
>>> model = FakeModel([Answer(calls=[("add", {"a": 2, "b": 3})]), "It is 5."])
>>> run = Chat(model).run("2 + 3?", tools=[add])
>>> run.reply.text, run.stopped_by, [result.content for result in run.results]
('It is 5.', 'answer', ['5'])
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Done, Event, Failed, Reply, StepDone, ToolResult
from qwen3_mlx.interface import Generation, Message
from qwen3_mlx.tools.functions import Tool, tools_of
from qwen3_mlx.tools.running import Approve, Runner

__all__ = ["RunResult", "StoppedBy", "ToolRun", "Tools", "call_messages"]

#: What a run may call.
Tools: TypeAlias = Sequence[Tool | Callable[..., Any]]

#: "answer": the model answered without a call. "cancelled" and "timeout": what was said so far
#: counts. "max_steps": it wanted to go on calling.
StoppedBy: TypeAlias = Literal["answer", "max_steps", "cancelled", "timeout"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run: the last reply, every result, and why it ended.

    >>> from qwen3_mlx.testing import FakeModel
    >>> run = FakeModel(["Nothing to call."]).chat().run("hello", tools=[])
    >>> run.steps, run.results, run.stopped_by
    (1, (), 'answer')
    """

    reply: Reply
    steps: int
    results: tuple[ToolResult, ...] = ()
    stopped_by: StoppedBy = "answer"


class ToolRun:
    """A run: iterate it for events, cancel it from any thread.

    `StepDone` ends an answer that made calls, `ToolResult` follows for each of them, and
    `Done` with the last reply ends the run.

    Args:
        begin: starts an answer to messages, with wishes.
        messages: the conversation, a question last; the run adds what is said.
        tools: functions, `Tool`s or both.
        max_steps: answers that the model may give; at the last one its calls are not carried
            out any more.
        approve: asked before each call: True, False, or why not in words.
        tool_seconds: how long one call may take.
        timeout: seconds for the whole run.
        wishes: arguments of `Qwen3.stream` for each answer; `tool_choice` for the first.

    >>> from qwen3_mlx.testing import Answer, FakeModel
    >>> def double(n: int) -> int:
    ...     return 2 * n
    >>> model = FakeModel([Answer(calls=[("double", {"n": 4})]), "It is 8."])
    >>> run = model.chat().start_run("twice 4?", tools=[double])
    >>> [event.content for event in run if isinstance(event, ToolResult)]
    ['8']
    """

    def __init__(
        self,
        begin: Callable[..., Generation],
        messages: Sequence[Message],
        tools: Tools,
        *,
        max_steps: int = 8,
        approve: Approve | None = None,
        tool_seconds: float = 60.0,
        timeout: float | None = None,
        wishes: Mapping[str, Any] | None = None,
    ) -> None:
        if max_steps < 1:
            raise OptionError(f"max_steps is {max_steps}, and must be at least 1")
        if tool_seconds <= 0 or (timeout is not None and timeout <= 0):
            raise OptionError("tool_seconds and timeout must be above 0")
        self._tools = tools_of(tools)
        self._begin, self._max_steps = begin, max_steps
        self._runner = Runner({tool.name: tool for tool in self._tools}, approve, tool_seconds)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._wishes = {**(wishes or {}), "tools": self._tools}
        self._stopped = threading.Event()
        self._generation: Generation | None = None
        self._results: list[ToolResult] = []
        self._result: RunResult | None = None
        self.messages: list[Message] = list(messages)
        self._events = self._run()

    def __iter__(self) -> Iterator[Event]:
        """The events from here on. Whoever stops listening before the end cancels."""
        try:
            while (event := next(self._events, None)) is not None:
                yield event
        finally:
            if self._result is None:
                self.cancel()

    def cancel(self) -> None:
        """End within one token; a tool that runs is not waited for.

        >>> from qwen3_mlx.testing import FakeModel
        >>> run = FakeModel(["never said"]).chat().start_run("hello", tools=[])
        >>> run.cancel()
        >>> run.result().stopped_by
        'cancelled'
        """
        self._stopped.set()
        if self._generation is not None:
            self._generation.cancel()

    def result(self) -> RunResult:
        """Run to the end; again, what came of it.

        >>> from qwen3_mlx.testing import FakeModel
        >>> FakeModel(["Hi."]).chat().start_run("hello", tools=[]).result().reply.text
        'Hi.'

        Raises:
            EngineError: or whatever else ended the run.
        """
        for _ in self:
            pass
        assert self._result is not None
        return self._result

    def _run(self) -> Iterator[Event]:
        for step in range(1, self._max_steps + 1):
            reply = yield from self._answer()
            self.messages.extend(call_messages(reply))
            why = self._why_stop(reply, step)
            if why is None:
                yield StepDone(reply)
                for call in reply.tool_calls:
                    if self._out_of_time():
                        break
                    result = self._runner.run(call, self._stopped, self._deadline)
                    self._take(result)
                    yield result
                why = self._out_of_time()
            if why is not None:
                for call in reply.tool_calls[len(self._of_last(reply)) :]:
                    self._take(ToolResult(call, f"error: the run was over ({why})", True))
                self._result = RunResult(reply, step, tuple(self._results), why)
                yield Done(reply)
                return

    def _answer(self) -> Generator[Event, None, Reply]:
        """One answer; returns its reply."""
        wishes = dict(self._wishes)
        if self._deadline is not None:
            wishes["timeout"] = max(0.001, self._deadline - time.monotonic())
        generation = self._generation = self._begin(self.messages, **wishes)
        self._wishes.pop("tool_choice", None)  # a call that was demanded has been made
        if self._stopped.is_set():
            generation.cancel()
        for event in generation:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                return event.reply
            yield event
        raise AssertionError("a stream ends with Done or Failed")

    def _why_stop(self, reply: Reply, step: int) -> StoppedBy | None:
        if reply.finish_reason in ("cancelled", "timeout"):
            return reply.finish_reason
        if not reply.tool_calls:
            return "answer"
        return "max_steps" if step == self._max_steps else None

    def _out_of_time(self) -> StoppedBy | None:
        if self._stopped.is_set():
            return "cancelled"
        over = self._deadline is not None and time.monotonic() >= self._deadline
        return "timeout" if over else None

    def _of_last(self, reply: Reply) -> list[ToolResult]:
        ids = {call.id for call in reply.tool_calls}
        return [result for result in self._results if result.call.id in ids]

    def _take(self, result: ToolResult) -> None:
        self._results.append(result)
        self.messages.append(
            {
                "role": "tool",
                "tool_call_id": result.call.id,
                "name": result.call.name,
                "content": result.content,
            }
        )


def call_messages(reply: Reply) -> list[Message]:
    """The assistant's message that a reply is, with its calls, as chat templates read it."""
    said: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.thinking:
        said["reasoning_content"] = reply.thinking
    if reply.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in reply.tool_calls
        ]
    return [said]
