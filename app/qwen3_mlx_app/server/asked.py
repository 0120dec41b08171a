"""Requests of OpenAI's interface as wishes of the library. What cannot be done is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3_mlx.errors import GrammarError, OptionError, PromptError
from qwen3_mlx.grammar.grammar import Grammar
from qwen3_mlx.interface import Sampling
from qwen3_mlx.text.messages import normalize_messages
from qwen3_mlx.tools.functions import Tool, tools_of
from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.fields import Fields

__all__ = ["Asked", "chat", "completion", "nothing_left"]

#: Fields that change nothing about the text of an answer.
_HARMLESS = (
    "metadata", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "user",
)  # fmt: skip
#: Fields that may be there with a value that asks for nothing.
_NOTHING: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",), "logit_bias": ({},),
    "modalities": (["text"],), "functions": ([],), "function_call": ("none", "auto"),
    "audio": (), "web_search_options": (), "verbosity": ("medium",),
}  # fmt: skip
_WHY = {
    "n": "one answer for each request: send the request again for another",
    "functions": "send them as tools",
    "function_call": "send tool_choice",
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_SAMPLING = (
    "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was understood.

    Args:
        model: the name that the client gave, "" for none.
        prompt: messages, or the text to be continued.
        wishes: further arguments of `ChatModel.stream`.
        streams: whether the answer goes out while it is made.
        tells_usage: whether a stream ends with the counts of tokens.
        one_call: whether the answer ends with its first tool call.
    """

    model: str
    prompt: str | list[dict[str, Any]]
    wishes: Mapping[str, Any]
    streams: bool = False
    tells_usage: bool = False
    one_call: bool = False


def chat(body: Mapping[str, Any]) -> Asked:
    """What a body for /v1/chat/completions asks for.

    >>> chat({"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "none"}).wishes
    {'thinking': False}

    Raises:
        ApiError: it is malformed, or asks for what cannot be done.
    """
    fields = Fields(body)
    messages = _messages(fields)
    tools, choice, one_call = _tools(fields)
    wishes = {
        **_common(fields),
        "max_tokens": _max_tokens(fields),
        "thinking": _thinking(fields),
        "thinking_budget": fields.whole("thinking_budget"),
        "logprobs": _chat_logprobs(fields),
        "tools": tools,
        "tool_choice": choice,
        "grammar": _grammar(fields),
    }
    return _made(fields, messages, wishes, one_call=one_call)


def completion(body: Mapping[str, Any]) -> Asked:
    """What a body for /v1/completions asks for: a text, continued as it stands.

    >>> completion({"prompt": "1 + 1 =", "max_tokens": 4}).wishes
    {'max_tokens': 4, 'raw': True}

    Raises:
        ApiError: it is malformed, or asks for what cannot be done.
    """
    fields = Fields(body)
    prompt = fields.any("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ApiError(400, "prompt must be one string, not several and no ids", param="prompt")
    wishes = {
        **_common(fields),
        "max_tokens": _max_tokens(fields),
        "logprobs": fields.whole("logprobs"),
        "raw": True,
    }
    return _made(fields, prompt, wishes)


def _made(
    fields: Fields,
    prompt: str | list[dict[str, Any]],
    wishes: Mapping[str, Any],
    *,
    one_call: bool = False,
) -> Asked:
    asked = Asked(
        model=fields.text("model") or "",
        prompt=prompt,
        wishes={name: value for name, value in wishes.items() if value not in (None, [])},
        streams=bool(fields.flag("stream")),
        tells_usage=_tells_usage(fields),
        one_call=one_call,
    )
    _refuse_the_rest(fields)
    return asked


def _refuse_the_rest(fields: Fields) -> None:
    for name in _HARMLESS:
        fields.any(name)
    for name, nothing in _NOTHING.items():
        value = fields.any(name)
        if value is not None and not any(_same(value, each) for each in nothing):
            why = _WHY.get(name, "leave it out")
            raise ApiError(400, f"{name} is not supported here: {why}", param=name)
    nothing_left(fields)


def nothing_left(fields: Fields) -> None:
    """Refuse what nobody asked for.

    Raises:
        ApiError: there is some.
    """
    for name in fields.left():
        name = fields.named(f"{name:.80}")
        raise ApiError(400, f"{name} is not a parameter of this server", param=name)


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _common(fields: Fields) -> dict[str, Any]:
    """What both kinds of requests have."""
    drawn: dict[str, Any] = {name: fields.number(name) for name in _SAMPLING}
    drawn["top_k"] = fields.whole("top_k")
    drawn = {name: value for name, value in drawn.items() if value is not None}
    stop = fields.strings("stop")
    if "" in stop:
        raise ApiError(400, "stop has an empty string, which every text begins with", param="stop")
    return {
        "sampling": Sampling(**drawn) if drawn else None,
        "stop": stop,
        "seed": fields.whole("seed"),
        "timeout": fields.number("timeout"),
    }


def _max_tokens(fields: Fields) -> int | None:
    most, same = fields.whole("max_completion_tokens"), fields.whole("max_tokens")
    if most is not None and same is not None and most != same:
        raise ApiError(
            400, f"max_completion_tokens is {most} and max_tokens {same}: send one of them",
            param="max_tokens",
        )  # fmt: skip
    return same if most is None else most


def _tells_usage(fields: Fields) -> bool:
    options = Fields(fields.object("stream_options") or {}, "stream_options.")
    tells = bool(options.flag("include_usage"))
    options.flag("include_obfuscation")
    nothing_left(options)
    return tells


def _messages(fields: Fields) -> list[dict[str, Any]]:
    given = fields.array("messages")
    if not given:
        raise ApiError(400, "messages is missing: send at least one message", param="messages")
    for place, message in enumerate(given, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ApiError(
                400, f'message {place} is no object with a "role" and "content"', param="messages"
            )
        if message.get("function_call"):
            raise ApiError(
                400, f"message {place} has a function_call: send tool_calls", param="messages"
            )
    try:
        return normalize_messages([_with_known_role(each) for each in given])
    except PromptError as error:
        raise ApiError(400, str(error), param="messages") from error


def _with_known_role(message: Mapping[str, Any]) -> dict[str, Any]:
    """Null fields left out, and the word that newer clients use for "system"."""
    given = {name: value for name, value in message.items() if value is not None}
    return given | {"role": "system"} if given["role"] == "developer" else given


def _thinking(fields: Fields) -> bool | None:
    """Whether to think, in any of the ways that clients say it."""
    said = {name: fields.flag(name) for name in ("thinking", "enable_thinking")}
    template = Fields(fields.object("chat_template_kwargs") or {}, "chat_template_kwargs.")
    said[template.named("enable_thinking")] = template.flag("enable_thinking")
    nothing_left(template)
    effort = fields.text("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        raise ApiError(
            400, f"reasoning_effort must be one of {', '.join(_EFFORTS)}", param="reasoning_effort"
        )
    said["reasoning_effort"] = None if effort is None else effort != "none"
    stated = {name: value for name, value in said.items() if value is not None}
    if len(set(stated.values())) > 1:
        raise ApiError(400, f"{' and '.join(stated)} contradict each other: send one of them")
    return next(iter(stated.values()), None)


def _chat_logprobs(fields: Fields) -> int | None:
    wanted, most = fields.flag("logprobs"), fields.whole("top_logprobs")
    if most and not wanted:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    return (most or 0) if wanted else None


def _tools(fields: Fields) -> tuple[list[Tool], str | None, bool]:
    """The functions that may be called, which of them must be, and whether one call is all."""
    tools = [_tool(each, place) for place, each in enumerate(fields.array("tools") or (), 1)]
    choice = fields.any("tool_choice")
    several = fields.flag("parallel_tool_calls")
    forced = _forced(choice)
    if forced is not None and not tools:
        raise ApiError(400, "tool_choice asks for a call, and there are no tools", param="tools")
    try:
        tools = tools_of(tools)
    except OptionError as error:
        raise ApiError(400, str(error), param="tools") from error
    if forced not in (None, "required", *(tool.name for tool in tools)):
        raise ApiError(400, f"tool_choice names {forced:.80}, which is none of the tools",
                       param="tool_choice")  # fmt: skip
    one_call = several is False or forced not in (None, "required")
    return ([] if choice == "none" else tools), forced, one_call


def _forced(choice: Any) -> str | None:
    """What must be called: "required" for any of the tools, a name for that one, None."""
    if choice in (None, "auto", "none"):
        return None
    if choice == "required":
        return "required"
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise ApiError(
            400, "tool_choice must be auto, none, required or a function by its name",
            param="tool_choice",
        )  # fmt: skip
    return name


def _tool(given: Any, place: int) -> Tool:
    function = given.get("function") if isinstance(given, dict) else None
    kind = given.get("type", "function") if isinstance(given, dict) else None
    if kind != "function" or not isinstance(function, dict):
        raise ApiError(
            400, f'tool {place} must be {{"type": "function", "function": {{…}}}}', param="tools"
        )
    schema = function.get("parameters")
    if schema is not None and not _describes_an_object(schema):
        raise ApiError(
            400, f"the parameters of tool {place} are no JSON Schema of an object", param="tools"
        )
    try:
        return Tool.given(function)
    except OptionError as error:
        raise ApiError(400, str(error), param="tools") from error


def _describes_an_object(schema: Any) -> bool:
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return False
    inner, needed = schema.get("properties", {}), schema.get("required") or []
    sound = isinstance(inner, dict) and all(
        isinstance(each, dict | bool) for each in inner.values()
    )
    return sound and isinstance(needed, list) and all(isinstance(each, str) for each in needed)


def _grammar(fields: Fields) -> Grammar | None:
    form = Fields(fields.object("response_format") or {}, "response_format.")
    kind = form.text("type") or "text"
    schema: Any = {"type": "object"}
    if kind == "json_schema":
        schema = (form.object("json_schema") or {}).get("schema")
        if not isinstance(schema, dict):
            raise ApiError(
                400, "response_format.json_schema.schema must be an object", param="response_format"
            )
    elif kind not in ("json_object", "text"):
        raise ApiError(
            400, "response_format.type must be text, json_object or json_schema",
            param="response_format",
        )  # fmt: skip
    nothing_left(form)
    if kind == "text":
        return None
    try:
        grammar = Grammar.json(schema)
        grammar.compiled()
    except GrammarError as error:
        raise ApiError(400, str(error), param="response_format") from error
    return grammar
