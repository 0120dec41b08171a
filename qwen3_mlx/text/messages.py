"""Messages as clients send them into messages as chat templates read them.

Clients of the OpenAI interface send lists of parts, null content, arguments as a JSON string
and reasoning under several names. Templates want plain strings and mappings, and fail or
silently drop text on anything else: Qwen's own renders a list of parts as an empty turn.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qwen3_mlx.errors import PromptError

__all__ = ["REASONING", "flatten_content", "normalize_messages", "normalize_tools", "plain_json"]

ROLES = ("system", "user", "assistant", "tool")
#: What templates call a thought, and what clients call it.
REASONING = ("reasoning_content", "reasoning", "thinking")


def normalize_messages(
    messages: Sequence[Mapping[str, Any]], more_roles: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Copies of the messages with string content, and with arguments as mappings.

    Raises `PromptError` for an unknown role, for images and other media, and for values that
    are not JSON (a template is foreign code and must not be handed objects with methods).
    """
    if not messages:
        raise PromptError("the conversation is empty: give at least one message")
    return [_message(message, place, more_roles) for place, message in enumerate(messages, 1)]


def normalize_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Copies of the tools' JSON schemas; an empty list is the same as none."""
    if not tools:
        return None
    for tool in tools:
        if not isinstance(tool, Mapping):
            raise PromptError(
                f"a tool is a {type(tool).__name__}: give each as a JSON schema, "
                '{"type": "function", "function": {"name": …, "parameters": …}}'
            )
    copies: list[dict[str, Any]] = plain_json(list(tools), "tools")
    return copies


def flatten_content(content: Any) -> str:
    """The text of a message: a string as is, None as '', the parts of a list joined.

    >>> flatten_content([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    'ab'
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_part_text(part) for part in content)
    raise PromptError(
        f"content is a {type(content).__name__}: give a string or a list of"
        ' {"type": "text", "text": …} parts'
    )


def plain_json(value: Any, where: str) -> Any:
    """A deep copy made of nothing but dict, list, str, int, float, bool and None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    for scalar in (int, float):
        if isinstance(value, scalar):
            return scalar(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, where) for item in value]
    raise PromptError(
        f"{where} holds a {type(value).__name__}: only JSON values can go into a prompt"
    )


def _message(message: Any, place: int, more_roles: Collection[str]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise PromptError(
            f'message {place} is a {type(message).__name__}: give {{"role": …, "content": …}}'
        )
    role = message.get("role")
    if role not in ROLES and role not in more_roles:
        raise PromptError(f"message {place} has the role {role!r}: use one of {', '.join(ROLES)}")
    plain = {key: value for key, value in message.items() if key != "content"}
    plain = plain_json(plain, f"message {place}")
    _name_reasoning(plain)
    calls = plain.pop("tool_calls", None)
    if calls is not None:
        plain["tool_calls"] = _tool_calls(calls, place)
    return {"role": role, "content": flatten_content(message.get("content")), **plain}


def _name_reasoning(message: dict[str, Any]) -> None:
    """Templates read `reasoning_content`; clients also call it `reasoning` or `thinking`."""
    found = [message.pop(name, None) for name in REASONING]
    reasoning = next((value for value in found if value is not None), None)
    if reasoning is None:
        return
    if not isinstance(reasoning, str):
        raise PromptError("reasoning_content is not a string: send the thought as plain text")
    message["reasoning_content"] = reasoning


def _tool_calls(calls: Any, place: int) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise PromptError(
            f"tool_calls of message {place} is a {type(calls).__name__}: give a list of calls"
        )
    return [_tool_call(call, place) for call in calls]


def _tool_call(call: Any, place: int) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise PromptError(
            f"a tool call of message {place} is a {type(call).__name__}: give"
            ' {"function": {"name": …, "arguments": …}}'
        )
    function = call.get("function")
    if isinstance(function, dict):
        return {**call, "function": _parse_arguments(function)}
    return _parse_arguments(call)


def _parse_arguments(function: dict[str, Any]) -> dict[str, Any]:
    """Arguments given as a JSON string become a mapping; what is no JSON stays as it is."""
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return function
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return function  # a broken call of the model's own: shown to it as it was written
    return {**function, "arguments": parsed} if isinstance(parsed, dict) else function


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        text = part.get("text")
        if part.get("type", "text") in ("text", "input_text", "output_text") and isinstance(
            text, str
        ):
            return text
        kind = part.get("type")
    else:
        kind = type(part).__name__
    raise PromptError(
        f"a message has a part of type {kind!r}, and this model reads text only: send"
        ' {"type": "text", "text": …} parts, or describe the picture or file in words'
    )
