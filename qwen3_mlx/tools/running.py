"""One call carried out: checked, approved, within its time, and its result as text."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from qwen3_mlx.errors import ToolError
from qwen3_mlx.events import ToolCall, ToolResult
from qwen3_mlx.tools.functions import Tool

__all__ = ["Approve", "Runner"]

#: Asked before each call: True to carry it out; False, or why not in words, to refuse.
Approve: TypeAlias = Callable[[ToolCall], bool | str]


class Runner:
    """Carries out calls. Whatever goes wrong becomes a result that the model reads.

    Args:
        tools: by their names.
        approve: asked before each call; None approves all.
        seconds: how long a call may take. Python cannot stop a thread: a call that takes
            longer is left alone, and its result is not waited for.
        most: characters of a result that the model is shown.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        approve: Approve | None = None,
        seconds: float = 60.0,
        most: int = 20_000,
    ) -> None:
        self._tools, self._approve = tools, approve
        self._seconds, self._most = seconds, most

    def run(self, call: ToolCall, stopped: threading.Event, deadline: float | None) -> ToolResult:
        """Carry out one call; `stopped` and the deadline (time.monotonic()) end the wait."""
        began = time.monotonic()
        try:
            content, failed = self._cut(_text(self._value(call, stopped, deadline))), False
        except Exception as error:  # of the tool: the model is told, and may do better
            content, failed = self._cut(_sentence(error)), True
        return ToolResult(call, content, failed, time.monotonic() - began)

    def _value(self, call: ToolCall, stopped: threading.Event, deadline: float | None) -> Any:
        tool = self._tools.get(call.name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            raise ToolError(f"there is no tool named {call.name!r}: the tools are {names}")
        function = tool.bound(call.arguments)
        answer = True if self._approve is None else self._approve(call)
        if answer is not True:
            why = f": {answer}" if isinstance(answer, str) and answer else ""
            raise ToolError(f"the person did not allow this call{why}")
        seconds = self._seconds if tool.seconds is None else tool.seconds
        if deadline is not None:
            seconds = min(seconds, max(0.0, deadline - time.monotonic()))
        return _within(function, seconds, stopped)

    def _cut(self, text: str) -> str:
        # Half a character, as a file's name may have, could be neither read nor stored.
        text = text.encode("utf-8", "replace").decode()
        if len(text) <= self._most:
            return text
        return (
            f"{text[: self._most]}\n[cut: the result has {len(text):,} characters, and the first "
            f"{self._most:,} are shown]"
        )


def _within(function: Callable[[], Any], seconds: float, stopped: threading.Event) -> Any:
    """The function's value, or ToolError when the time is over, also before it began."""
    if stopped.is_set():  # while somebody was asked for approval
        raise ToolError("the run was cancelled before the tool was called")
    if seconds <= 0:
        raise ToolError("the run's time was over before the tool was called")
    done: list[tuple[bool, Any]] = []
    ended = threading.Event()

    def work() -> None:
        try:
            done.append((True, function()))
        except BaseException as error:
            done.append((False, error))
        ended.set()

    threading.Thread(target=work, name="qwen3-mlx tool", daemon=True).start()
    until = time.monotonic() + seconds
    while not ended.wait(min(0.05, max(0.001, until - time.monotonic()))):
        if stopped.is_set():
            raise ToolError("the run was cancelled before the tool came back")
        if time.monotonic() >= until:
            raise ToolError(f"the tool did not come back within {seconds:g} seconds")
    fine, value = done[0]
    if fine:
        return value
    if not isinstance(value, Exception):  # sys.exit in a tool ends the tool, not the program
        raise ToolError(f"the tool ended with {type(value).__name__}: {value}")
    raise value


def _text(value: Any) -> str:
    """A result as the model reads it: texts as they are, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _sentence(error: Exception) -> str:
    """An error as the model reads it."""
    kind = "" if isinstance(error, ToolError) else f"{type(error).__name__}: "
    return f"error: {kind}{error}"
