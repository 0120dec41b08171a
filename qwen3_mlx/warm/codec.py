"""Events, and what they carry, as plain objects for JSON, and back by their type hints.

A dataclass becomes an object of its fields; an event says its name in "event", an exception its
class in "type". Reading back checks every value against the hint of its field
(`grammar.types.build`), so that what a client sends reaches the engine only in the types that the
engine expects.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from qwen3_mlx import events
from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Event, Failed
from qwen3_mlx.grammar.grammar import Grammar
from qwen3_mlx.grammar.types import build
from qwen3_mlx.tools.functions import Tool
from qwen3_mlx.warm.link import error_of

__all__ = ["arguments", "event_of", "made", "plain", "plain_event"]


def plain_event(event: Event) -> dict[str, Any]:
    """An event as an object.

    >>> plain_event(events.TextDelta("42", 1))
    {'event': 'TextDelta', 'text': '42', 'tokens': 1}
    """
    return {"event": type(event).__name__, **plain(event)}


def event_of(message: Mapping[str, Any]) -> Event:
    """The event that an object of `plain_event` was made of.

    >>> event_of({"event": "TextDelta", "text": "42", "tokens": 1})
    TextDelta(text='42', tokens=1)

    Raises:
        OptionError: there is no such event, or it has other fields.
    """
    kind = getattr(events, str(message.get("event")), None)
    if kind not in get_args(Event):
        raise OptionError(f"there is no event {message.get('event')!r}")
    given = {name: each for name, each in message.items() if name != "event"}
    if kind is Failed:  # an exception is no value that hints could check
        error = made(Mapping[str, Any], given.get("error"))
        return Failed(error_of(error), made(str, given.get("kept", "")))
    event: Event = made(kind, given)
    return event


def plain(value: Any) -> Any:
    """A value in the types that JSON has.

    Raises:
        OptionError: JSON has none for it.
    """
    if isinstance(value, Grammar):
        return {"kind": value.kind, "source": value.source}  # its type is for whoever asked
    if isinstance(value, Tool):
        return value.schema  # the function stays with whoever calls it
    if inspect.isroutine(value):
        return Tool.of(value).schema
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Exception):
        smallest = getattr(value, "smallest", None)
        about = {"type": type(value).__name__, "message": str(value)}
        return about if smallest is None else {**about, "smallest": smallest}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise OptionError(f"a {type(value).__name__} cannot be sent to the agent: give JSON values")


def made(hint: Any, value: Any) -> Any:
    """A value of the type that a hint names, from its plain form.

    >>> made(tuple[int, ...], [1, 2])
    (1, 2)

    Raises:
        OptionError: the value is of another type.
    """
    try:
        return build(hint, value)
    except (ValueError, TypeError) as error:
        raise OptionError(str(error)) from error


def arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a function, each of the type that its hint names.

    Raises:
        OptionError: the function has no such argument, or takes another type.
    """
    hints = _hints(getattr(function, "__func__", function))  # a method would keep its model alive
    unknown = next((name for name in given if name not in hints or name == "return"), None)
    if unknown is not None:
        raise OptionError(f"there is no wish called {unknown!r}")
    return {name: _argument(name, hints[name], value) for name, value in given.items()}


def _argument(name: str, hint: Any, value: Any) -> Any:
    try:
        return made(hint, value)
    except OptionError as error:
        raise OptionError(f"{name}: {error}") from error


@lru_cache(maxsize=16)
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # Where `stream` is defined, Grammar is known to type checkers only.
    return get_type_hints(function, localns={"Grammar": Grammar})
