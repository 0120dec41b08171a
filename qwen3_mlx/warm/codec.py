"""Events, and what they carry, as plain objects for JSON, and back by their type hints.

A dataclass becomes an object of its fields; an event says its name in "event", an exception its
class in "type". Reading back checks every value against the hint of its field, so that what
a client sends reaches the engine only in the types that the engine expects.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from qwen3_mlx import events
from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Event
from qwen3_mlx.grammar.grammar import Grammar
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
    event: Event = made(kind, {name: each for name, each in message.items() if name != "event"})
    return event


def plain(value: Any) -> Any:
    """A value in the types that JSON has."""
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
    return value


def made(hint: Any, value: Any) -> Any:
    """A value of the type that a hint names, from its plain form.

    >>> made(tuple[int, ...], [1, 2])
    (1, 2)

    Raises:
        OptionError: the value is of another type.
    """
    if hint is Any:
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass(hint, value)
    if isinstance(hint, type) and issubclass(hint, Exception) and isinstance(value, Mapping):
        return error_of(value)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _first(inner, value)
    if origin is Literal:
        return _checked(value in inner, value, hint)
    if origin is tuple:
        _checked(isinstance(value, list), value, hint)
        if inner[-1] is ...:
            return tuple(made(inner[0], each) for each in value)
        _checked(len(value) == len(inner), value, hint)
        return tuple(map(made, inner, value))
    if origin in (list, Sequence):
        _checked(isinstance(value, list), value, hint)
        return [made(inner[0], each) for each in value]
    if origin in (dict, Mapping):
        _checked(isinstance(value, dict), value, hint)
        return {name: made(inner[1], each) for name, each in value.items()}
    return _simple(hint, value)


def arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a function, each of the type that its hint names.

    Raises:
        OptionError: the function has no such argument, or takes another type.
    """
    hints = _hints(function)
    unknown = next((name for name in given if name not in hints or name == "return"), None)
    if unknown is not None:
        raise OptionError(f"there is no wish called {unknown!r}")
    return {name: made(hints[name], value) for name, value in given.items()}


@cache
def _hints(thing: Hashable) -> dict[str, Any]:
    # Where `stream` is defined, Grammar is known to type checkers only.
    return get_type_hints(thing, localns={"Grammar": Grammar})


def _dataclass(kind: type[Any], value: Any) -> Any:
    hints = _hints(cast("Hashable", kind))
    _checked(isinstance(value, Mapping) and set(value) <= set(hints), value, kind)
    try:
        return kind(**{name: made(hints[name], each) for name, each in value.items()})
    except TypeError as error:
        raise OptionError(f"{kind.__name__} lacks a field: {error}") from error


def _first(hints: Sequence[Any], value: Any) -> Any:
    """The first member of a union that takes the value."""
    for hint in hints:
        try:
            return made(hint, value)
        except OptionError:
            continue
    raise OptionError(f"{_short(value)} is none of {', '.join(map(_name, hints))}")


def _simple(hint: Any, value: Any) -> Any:
    """None, and the types that JSON has; a whole number is a float too, a bool is no number."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if hint is float and whole and abs(value) < 1 << 53:
        return float(value)
    kind = type(None) if hint is None else hint
    fits = isinstance(kind, type) and isinstance(value, kind)
    return _checked(fits and (kind is bool or not isinstance(value, bool)), value, hint)


def _checked(fits: bool, value: Any, hint: Any) -> Any:
    if not fits:
        raise OptionError(f"{_short(value)} is no {_name(hint)}")
    return value


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
