"""Whether a tool may run: the worker's thread asks and waits, the person's thread answers.

Nothing here says yes by itself. A call runs when the person said "yes" to it or "always" to its
tool; stopping the answer is a no.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from qwen3_mlx.events import Done, Event, Notice, ToolCall
from qwen3_mlx.interface import ChatModel, Generation, Message
from qwen3_mlx_app.tui.calls import ToolAsked
from qwen3_mlx_app.tui.language import t

if TYPE_CHECKING:
    from qwen3_mlx.tools.functions import Tool

__all__ = ["Approvals", "ToolAnswer", "Verdict"]

Verdict: TypeAlias = Literal["yes", "always", "no"]


class Approvals:
    """The questions of one chat, and the tools that need none any more.

    >>> approvals = Approvals()
    >>> approvals.answer("call_1", "add", "always")
    >>> approvals.allows(ToolCall("call_2", "add", {}), threading.Event(), print)
    True
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._verdicts: dict[str, bool] = {}
        self._always: set[str] = set()

    def allows(
        self, call: ToolCall, stopped: threading.Event, ask: Callable[[ToolAsked], None]
    ) -> bool:
        """Ask with `ask`, and wait for the answer; False as soon as `stopped` is set."""
        with self._changed:
            if not stopped.is_set() and call.name not in self._always:
                ask(ToolAsked(call.id))
                self._changed.wait_for(lambda: call.id in self._verdicts or stopped.is_set())
            allowed = call.name in self._always or self._verdicts.pop(call.id, False)
            return allowed and not stopped.is_set()

    def answer(self, number: str, name: str, verdict: Verdict) -> None:
        """What the person says to the call with this id."""
        with self._changed:
            if verdict == "always":
                self._always.add(name)
            self._verdicts[number] = verdict != "no"
            self._changed.notify_all()

    def stop(self, stopped: threading.Event) -> None:
        """Set the event, and wake who waits."""
        with self._changed:
            stopped.set()
            self._changed.notify_all()

    def forget(self) -> None:
        """Another chat: nothing is allowed in it yet."""
        with self._changed:
            self._always.clear()


class ToolAnswer:
    """An answer that may call tools, as the worker drives it."""

    def __init__(
        self,
        model: ChatModel,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        approvals: Approvals,
        ask: Callable[[ToolAsked], None],
        wishes: Mapping[str, Any],
    ) -> None:
        from qwen3_mlx.tools.loop import ToolRun  # brings the grammars: not for every chat

        self._model, self._approvals = model, approvals
        self._stopped = threading.Event()
        self._generation: Generation | None = None
        self._run = ToolRun(
            self._begin,
            messages,
            tools,
            approve=lambda call: approvals.allows(call, self._stopped, ask),
            wishes=wishes,
        )

    def __iter__(self) -> Iterator[Event]:
        for event in self._run:
            if isinstance(event, Done):
                yield from self._end(event)
            else:
                yield event

    def cancel(self) -> None:
        """Stop it: a question that waits is answered with no, a tool that runs is left alone."""
        self._approvals.stop(self._stopped)
        self._run.cancel()

    def answer_now(self) -> None:
        """End the thought that goes on."""
        if self._generation is not None:
            self._generation.answer_now()

    def _begin(self, messages: Sequence[Message], **wishes: Any) -> Generation:
        self._generation = self._model.stream(messages, **wishes)
        return self._generation

    def _end(self, event: Done) -> Iterator[Event]:
        """A last reply with calls was not the model's own end."""
        if event.reply.tool_calls and self._stopped.is_set():
            event = Done(replace(event.reply, finish_reason="cancelled"))
        elif event.reply.tool_calls:
            yield Notice(t("Stopped: the model went on calling tools."))
        yield event
