"""The calls of a turn: how they come, what came of them, and what the model is told of them later.

An answer that calls tools is said in steps: each ends with calls, whose results the next one
reads. The turn shows one thought, its calls and one answer; `Steps` knows where in these texts
the running step begins, so that the conversation can be put together again as it was read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from qwen3_mlx.events import ToolCall, ToolCallDelta, ToolCallStarted, ToolResult
from qwen3_mlx.interface import Message

if TYPE_CHECKING:
    from qwen3_mlx_app.tui.state import Turn

__all__ = [
    "CallEvent",
    "Steps",
    "ToolAsked",
    "ToolUse",
    "advance",
    "end_step",
    "restore",
    "settle",
    "to_json",
]

#: What the model reads of a call that was not carried out.
OVER = "error: the run was over"


@dataclass(frozen=True, slots=True)
class ToolAsked:
    """A call waits for the person to allow it; `number` is its id."""

    number: str


CallEvent: TypeAlias = ToolCallStarted | ToolCallDelta | ToolCall | ToolAsked | ToolResult


@dataclass(slots=True, eq=False)
class ToolUse:
    """One call. Its `number` is "" while it is being said, its `result` None until it is over.

    `after` is how much of the turn's thought and answer comes before it, None while unknown.
    """

    name: str
    arguments: str = ""
    number: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    asks: bool = False
    result: str | None = None
    failed: bool = False
    after: tuple[int, int] | None = None


@dataclass(slots=True)
class Steps:
    """The messages of the steps that are over, and where the texts of the running one begin."""

    messages: list[Message] = field(default_factory=list)
    thought_from: int = 0
    answer_from: int = 0
    tools_from: int = 0


def advance(turn: Turn, event: CallEvent) -> None:
    """One event of a call."""
    match event:
        case ToolCallStarted(_, name):
            turn.tools.append(ToolUse(name))
        case ToolCallDelta(_, text):
            if (use := _being_said(turn)) is not None:
                use.arguments += text
        case ToolCall(number, name, values):
            _said(turn, number, name, values)
        case ToolAsked(number):
            for use in turn.tools:
                use.asks = use.asks or use.number == number
        case ToolResult(call, content, failed):
            for use in turn.tools:
                if use.number == call.id:
                    _end(turn, use, content, failed)


def end_step(turn: Turn) -> None:
    """The step has made its calls: it is a message now, and their results follow."""
    steps = turn.steps
    # A call that was begun and is none after all has become text.
    turn.tools[steps.tools_from :] = [use for use in turn.tools[steps.tools_from :] if use.number]
    for use in turn.tools[steps.tools_from :]:
        use.after = len(turn.thought), len(turn.answer)
    message: dict[str, Any] = {"role": "assistant", "content": turn.answer[steps.answer_from :]}
    if thought := turn.thought[steps.thought_from :]:
        message["reasoning_content"] = thought
    message["tool_calls"] = [
        {
            "id": use.number,
            "type": "function",
            "function": {"name": use.name, "arguments": dict(use.values)},
        }
        for use in turn.tools[steps.tools_from :]
    ]
    steps.messages.append(message)
    steps.thought_from, steps.answer_from = len(turn.thought), len(turn.answer)
    steps.tools_from = len(turn.tools)


def settle(turn: Turn) -> None:
    """The turn is over: calls that were not carried out will not be."""
    steps = turn.steps
    if any(use.number for use in turn.tools[steps.tools_from :]):
        end_step(turn)
    del turn.tools[steps.tools_from :]
    for use in turn.tools:
        if use.result is None:
            _end(turn, use, OVER, failed=True)


def to_json(turn: Turn) -> dict[str, Any]:
    """The steps of a turn that are over, as the database and exported files have them."""
    steps = turn.steps
    return {
        "messages": steps.messages,
        "thought_from": steps.thought_from,
        "answer_from": steps.answer_from,
        "failed": [use.number for use in turn.tools if use.failed],
        "after": [use.after for use in turn.tools if use.after is not None],
    }


def restore(turn: Turn, value: Any) -> None:
    """What `to_json` made; anything else, as a file may hold it, leaves the turn without calls."""
    try:
        messages, failed = value["messages"], value["failed"]
        results = {m["tool_call_id"]: str(m["content"]) for m in messages if m["role"] == "tool"}
        uses = [
            _used(call, results.get(call["id"], OVER), call["id"] in failed)
            for message in messages
            if message["role"] == "assistant"
            for call in message["tool_calls"]
        ]
        for use, (thought, answer) in zip(uses, value["after"], strict=True):
            use.after = int(thought), int(answer)
        lost = [use for use in uses if use.number not in results]  # the program died meanwhile
        said = [*messages, *(_result(use) for use in lost)]
        steps = Steps(said, int(value["thought_from"]), int(value["answer_from"]), len(uses))
    except (TypeError, KeyError, ValueError, OverflowError):
        return
    if all(message["role"] in ("assistant", "tool") for message in messages):
        turn.tools, turn.steps = uses, steps


def _used(call: Mapping[str, Any], result: str, failed: bool) -> ToolUse:
    values = dict(call["function"]["arguments"])
    text = json.dumps(values, ensure_ascii=False)
    return ToolUse(
        str(call["function"]["name"]), text, str(call["id"]), values, result=result, failed=failed
    )


def _being_said(turn: Turn) -> ToolUse | None:
    last = turn.tools[-1] if turn.tools else None
    return last if last is not None and not last.number else None


def _said(turn: Turn, number: str, name: str, values: Mapping[str, Any]) -> None:
    use = _being_said(turn)
    if use is None:
        use = ToolUse(name)
        turn.tools.append(use)
    use.number, use.name, use.values = number, name, values
    use.arguments = json.dumps(dict(values), ensure_ascii=False)


def _end(turn: Turn, use: ToolUse, content: str, failed: bool) -> None:
    use.asks, use.result, use.failed = False, content, failed
    turn.steps.messages.append(_result(use))


def _result(use: ToolUse) -> dict[str, Any]:
    said = {"role": "tool", "tool_call_id": use.number, "name": use.name}
    return {**said, "content": use.result or ""}
