"""Requests of OpenAI's newer interface, /v1/responses, as bodies of the older one.

Its input is a list of items: messages, calls of functions, their results, thoughts. They become
the messages of a chat, its flat tools become nested ones, and everything else keeps its meaning
under the name that `asked` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qwen3_mlx.errors import PromptError
from qwen3_mlx.text.messages import flatten_content
from qwen3_mlx_app.server import asked as requests
from qwen3_mlx_app.server.asked import Asked
from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.fields import Fields

__all__ = ["echo", "left_out", "namespaces", "response"]

_Object = dict[str, Any]
_LOGPROBS = "message.output_text.logprobs"
#: Fields that ask for what only a service that keeps conversations has.
_KEPT = {
    "previous_response_id": "nothing is kept here: send the whole conversation as input",
    "conversation": "nothing is kept here: send the whole conversation as input",
    "prompt": "nothing is kept here: send its text as instructions and input",
    "background": "nothing is kept here: leave it out",
}
#: What is called otherwise in a chat; sentences about it go back under the name it came with.
_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema.schema": "text.format.schema",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "messages": "input",
}


def response(body: Mapping[str, Any]) -> Asked:
    """What a body for /v1/responses asks for.

    >>> response({"input": "hi", "reasoning": {"effort": "none"}}).wishes
    {'thinking': False}

    Raises:
        ApiError: it is malformed, or asks for what cannot be done.
    """
    fields = Fields(body)
    for name, why in _KEPT.items():
        if fields.any(name) not in (None, False):
            raise ApiError(400, f"{name} is not supported: {why}", param=name)
    cut = fields.text("truncation")
    if cut not in (None, "auto", "disabled"):
        raise ApiError(400, "truncation must be auto or disabled", param="truncation")
    chat = _chat_body(fields)
    for name in fields.left():
        if name in chat:
            raise ApiError(400, f"{name} is of /v1/chat/completions, not of this page", param=name)
    try:
        asked = requests.chat(chat | {name: fields.any(name) for name in fields.left()})
    except ApiError as error:
        raise _renamed(error) from error
    overflow = {"overflow": "drop-oldest"} if cut == "auto" else {}
    return replace(asked, wishes={**asked.wishes, **overflow}, tells_usage=False)


def echo(body: Mapping[str, Any]) -> _Object:
    """The fields of a request that its answer repeats; of the tools those that may be called."""
    told: _Object = {
        "instructions": None, "max_output_tokens": None, "metadata": {}, "temperature": None,
        "parallel_tool_calls": True, "tool_choice": "auto", "top_p": None,
        "text": {"format": {"type": "text"}}, "truncation": "disabled",
        "reasoning": {"effort": None, "summary": None},
    }  # fmt: skip
    told |= {name: body[name] for name in told if body.get(name) is not None}
    tools = [tool for tool in body.get("tools") or () if _is_known(tool)]
    return {**told, "tools": tools, "store": False, "previous_response_id": None}


def left_out(body: Mapping[str, Any]) -> list[str]:
    """Notices about tools that a service would have and this server has not."""
    kinds = {str(tool.get("type")) for tool in body.get("tools") or () if not _is_known(tool)}
    return [f"there is no {kind:.40} here: the model does not know of it" for kind in sorted(kinds)]


def namespaces(body: Mapping[str, Any]) -> dict[str, str]:
    """Which namespace a function is of, by its name."""
    spaces = [tool for tool in body.get("tools") or () if tool.get("type") == "namespace"]
    return {
        tool["name"]: space["name"] for space in spaces for tool in space["tools"] if "name" in tool
    }


def _chat_body(fields: Fields) -> _Object:
    """What has another name or shape in a chat; it is taken from the fields."""
    form = Fields(fields.object("text") or {}, "text.")
    thought = Fields(fields.object("reasoning") or {}, "reasoning.")
    for name in ("summary", "generate_summary", "encrypted_content"):
        thought.any(name)
    fields.any("client_metadata")
    fields.any("max_tool_calls")
    included, most = fields.strings("include"), fields.whole("top_logprobs")
    made = {
        "messages": _messages(fields),
        "max_completion_tokens": fields.whole("max_output_tokens"),
        "reasoning_effort": thought.text("effort"),
        "verbosity": form.text("verbosity"),
        "response_format": _format(form.object("format")),
        "tools": _tools(fields.array("tools") or []),
        "tool_choice": _choice(fields.any("tool_choice")),
        "logprobs": True if most or _LOGPROBS in included else None,
        "top_logprobs": most,
    }
    for nested in (form, thought):
        requests.nothing_left(nested)
    return made


def _is_known(tool: Any) -> bool:
    """Other kinds are carried out by a service; one without a kind is looked at, and refused."""
    return not isinstance(tool, dict) or tool.get("type", "function") in ("function", "namespace")


def _tools(given: list[Any]) -> list[Any]:
    """Functions as a chat has them; those of a namespace are named by its answers only."""
    made: list[Any] = []
    for place, tool in enumerate(given, 1):
        if not isinstance(tool, dict) or "function" in tool:
            made.append(tool)
        elif tool.get("type") == "namespace":
            inner = tool.get("tools")
            if not isinstance(inner, list) or not isinstance(tool.get("name"), str):
                raise ApiError(400, f"tool {place} has no name or no tools", param="tools")
            made += _tools(inner)
        elif _is_known(tool):
            about = {name: each for name, each in tool.items() if name != "type"}
            made.append({"type": "function", "function": about})
    return made


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        raise ApiError(
            400, "tool_choice must be auto, none, required or a function by its name",
            param="tool_choice",
        )  # fmt: skip
    return {"type": "function", "function": {"name": choice.get("name")}}


def _format(form: _Object | None) -> _Object | None:
    if form is None or form.get("type") != "json_schema":
        return form
    return {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}


# Items.


def _messages(fields: Fields) -> list[_Object]:
    """The items as messages. A thought, what was said and its calls are one message."""
    instructions = fields.text("instructions")
    given = fields.any("input")
    made: list[_Object] = [] if instructions is None else [_said("system", instructions)]
    if isinstance(given, str):
        return [*made, _said("user", given)]
    if not isinstance(given, list) or not given:
        raise ApiError(400, "input must be a string, or a list of items", param="input")
    for place, item in enumerate(given, 1):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        take = _ITEMS.get(kind) if isinstance(kind, str) else None
        if take is None:
            raise ApiError(400, f"input item {place} is none of {', '.join(_ITEMS)}", param="input")
        try:
            take(made, item)
        except PromptError as error:
            raise ApiError(400, f"input item {place}: {error}", param="input") from error
    return made


def _said(role: str, text: str) -> _Object:
    return {"role": role, "content": text}


def _message(made: list[_Object], item: _Object) -> None:
    role, text = _text(item, "role"), flatten_content(_parts(item.get("content")))
    if role == "assistant":
        _of_the_model(made, "content")["content"] = text
    else:
        made.append(_said(role, text))


def _thought(made: list[_Object], item: _Object) -> None:
    """Of a thought that is encrypted there is nothing to read."""
    parts = item.get("content") or item.get("summary") or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise PromptError("content must be a list of parts")
    text = "\n".join(_text(part, "text") for part in parts)
    if text:
        _of_the_model(made, "reasoning_content")["reasoning_content"] = text


def _call(made: list[_Object], item: _Object) -> None:
    function = {"name": _text(item, "name"), "arguments": _text(item, "arguments")}
    call = {"id": _text(item, "call_id"), "type": "function", "function": function}
    _of_the_model(made).setdefault("tool_calls", []).append(call)


def _result(made: list[_Object], item: _Object) -> None:
    text = flatten_content(_parts(item.get("output")))
    made.append(_said("tool", text) | {"tool_call_id": _text(item, "call_id")})


_ITEMS: dict[str, Callable[[list[_Object], _Object], None]] = {
    "message": _message,
    "reasoning": _thought,
    "function_call": _call,
    "function_call_output": _result,
}
_ORDER = ("reasoning_content", "content", "tool_calls")


def _of_the_model(made: list[_Object], field: str = "") -> _Object:
    """The message that the model is at, or a new one: first thoughts, then words, then calls."""
    last = made[-1] if made and made[-1]["role"] == "assistant" else None
    later = _ORDER[_ORDER.index(field) :] if field else ()
    if last is None or any(last.get(name) for name in later):
        last = {"role": "assistant", "content": ""}
        made.append(last)
    return last


def _parts(content: Any) -> Any:
    """A refusal is what the model said, too."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.get("refusal")}
        if isinstance(part, dict) and part.get("type") == "refusal"
        else part
        for part in content
    ]


def _text(item: _Object, name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise PromptError(f"{name} must be a string")
    return value


def _renamed(error: ApiError) -> ApiError:
    """A sentence about a chat as one about what was sent."""
    message, param = error.message, error.param
    for chat, ours in _NAMES.items():
        message = message.replace(chat, ours)
        param = ours if param == chat else param
    return ApiError(error.status, message, param=param, code=error.code)
