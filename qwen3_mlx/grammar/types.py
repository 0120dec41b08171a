"""Python types into JSON Schema, and JSON values into those types again.

Plain types, dataclasses, TypedDicts, enums, Literal, Annotated, unions and recursion work
without any library. Pydantic models bring their own schema and their own checks.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.grammar.schemas import lifted

__all__ = ["build", "is_pydantic", "schema_of"]

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
    object: {},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}
_READ: dict[Any, Callable[[str], Any]] = {
    datetime.date: datetime.date.fromisoformat,
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    uuid.UUID: uuid.UUID,
}
_UNIONS = (typing.Union, types.UnionType)


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type.

    `Annotated[int, {"minimum": 0}]` adds keywords, `Annotated[int, "in metres"]` a description.

    >>> schema_of(list[int])
    {'type': 'array', 'items': {'type': 'integer'}}

    Raises:
        GrammarError: the type has no form in JSON.
    """
    maker = _SchemaMaker()
    schema = maker.make(kind)
    return {**schema, "$defs": maker.definitions} if maker.definitions else schema


def build(kind: Any, value: Any) -> Any:
    """A JSON value as an instance of the type whose schema it satisfies.

    >>> build(tuple[int, ...], [1, 2])
    (1, 2)

    Raises:
        ValueError, TypeError: the value is not of that type.
    """
    if is_pydantic(kind):
        return kind.model_validate(value)
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return build(args[0], value)
    if origin in _UNIONS:
        return _build_union(args, value)
    if origin is Literal:
        return _one_of(args, value)
    if _is_class(kind, enum.Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _build_record(kind, value)
    if (origin or kind) in (list, Sequence, set, frozenset, tuple):
        return _build_array(kind, value)
    if (origin or kind) in (dict, Mapping):
        _require(isinstance(value, dict), kind, value)
        return {key: build(args[1], item) for key, item in value.items()} if args else value
    return _build_plain(kind, value)


def is_pydantic(kind: Any) -> bool:
    """Whether the type is a pydantic model; never imports pydantic."""
    return isinstance(kind, type) and hasattr(kind, "model_json_schema")


class _SchemaMaker:
    """Collects named types as definitions, so that a type may contain itself."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._named: dict[Any, str] = {}
        self._open: list[Any] = []

    def make(self, kind: Any) -> dict[str, Any]:
        origin, args = get_origin(kind), get_args(kind)
        if origin is typing.Annotated:
            return self._annotated(args)
        try:
            if kind in _PLAIN:
                return dict(_PLAIN[kind])
        except TypeError:  # unhashable, so not a type at all
            raise _refused(kind) from None
        if is_pydantic(kind):
            return self._pydantic(kind)
        if origin in _UNIONS:
            return {"anyOf": [self.make(each) for each in args]}
        if origin is Literal:
            return {"enum": list(args)}
        if _is_class(kind, enum.Enum):
            return {"enum": [member.value for member in kind]}
        if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
            return self._reference(kind)
        if (origin or kind) in (list, Sequence, set, frozenset):
            return {"type": "array", **({"items": self.make(args[0])} if args else {})}
        if (origin or kind) is tuple:
            return self._tuple(args)
        if (origin or kind) in (dict, Mapping):
            return self._mapping(args)
        raise _refused(kind)

    def _annotated(self, args: tuple[Any, ...]) -> dict[str, Any]:
        schema = self.make(args[0])
        for note in args[1:]:
            if isinstance(note, str):
                schema["description"] = note
            elif isinstance(note, Mapping):
                schema |= note
            elif type(note).__module__.startswith("pydantic"):
                schema |= _of_field(args[0], note)
        return schema

    def _tuple(self, args: tuple[Any, ...]) -> dict[str, Any]:
        if not args:
            return {"type": "array"}
        if args[-1] is Ellipsis:
            return {"type": "array", "items": self.make(args[0])}
        items = [self.make(each) for each in args]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def _mapping(self, args: tuple[Any, ...]) -> dict[str, Any]:
        if args and args[0] is not str:
            raise GrammarError(f"keys of JSON objects are strings, not {_name(args[0])}")
        more = {"additionalProperties": self.make(args[1])} if args else {}
        return {"type": "object", **more}

    def _reference(self, kind: Any) -> dict[str, Any]:
        """A record: in place where it occurs first and does not contain itself."""
        if kind in self._named or kind in self._open:
            name = self._named.setdefault(kind, self._free_name(kind))
            return {"$ref": f"#/$defs/{name}"}
        self._open.append(kind)
        schema = self._record(kind)
        self._open.pop()
        if kind not in self._named:
            return schema
        self.definitions[self._named[kind]] = schema
        return {"$ref": f"#/$defs/{self._named[kind]}"}

    def _record(self, kind: Any) -> dict[str, Any]:
        hints = _hints(kind)
        if typing.is_typeddict(kind):
            required = _required(kind, hints)
        else:
            fields = [field for field in dataclasses.fields(kind) if field.init]
            hints = {field.name: hints[field.name] for field in fields}
            missing = dataclasses.MISSING
            required = [
                field.name
                for field in fields
                if field.default is missing and field.default_factory is missing
            ]
        return {
            "type": "object",
            "properties": {name: self.make(_bare(hint)) for name, hint in hints.items()},
            "required": required,
            "additionalProperties": False,
        }

    def _pydantic(self, kind: Any) -> dict[str, Any]:
        return lifted(_closed(kind.model_json_schema()), self.definitions, f"{kind.__name__}.")

    def _free_name(self, kind: Any) -> str:
        name, number = kind.__name__, 1
        while name in self.definitions or name in self._named.values():
            number += 1
            name = f"{kind.__name__}{number}"
        return str(name)


def _of_field(kind: Any, note: Any) -> dict[str, Any]:
    """What pydantic's `Field(ge=1, description="…")` says beside the type."""
    from pydantic import TypeAdapter

    said: dict[str, Any] = TypeAdapter(typing.Annotated[kind, note]).json_schema()
    plain: dict[str, Any] = TypeAdapter(kind).json_schema()
    return {name: each for name, each in said.items() if name not in plain and name != "$defs"}


def _closed(schema: Any) -> Any:
    """A copy in which objects have no other properties than those that are named."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


@lru_cache(maxsize=256)
def _hints(kind: Any) -> Mapping[str, Any]:
    """The hints of a record's fields; kept, since to read them takes longer than to use them."""
    return get_type_hints(kind, include_extras=True)


def _build_union(args: tuple[Any, ...], value: Any) -> Any:
    """The member that fits; of several, the one of exactly the value's type."""
    exact = [each for each in args if type(value) is each]
    for each in [*exact, *args]:
        try:
            return build(each, value)
        except (ValueError, TypeError):
            continue
    raise ValueError(f"{_short(value)} is none of {', '.join(map(_name, args))}")


def _build_record(kind: Any, value: Any) -> Any:
    _require(isinstance(value, dict), kind, value)
    hints = _hints(kind)
    unknown = [name for name in value if name not in hints]
    if unknown:
        raise ValueError(f"{_name(kind)} has no {unknown[0]!r}")
    made = {name: build(_bare(hints[name]), item) for name, item in value.items()}
    if not typing.is_typeddict(kind):
        return kind(**made)
    missing = [name for name in _required(kind, hints) if name not in made]
    if missing:
        raise ValueError(f"{_name(kind)} lacks {missing[0]!r}")
    return made


def _required(kind: Any, hints: Mapping[str, Any]) -> list[str]:
    """Required keys of a TypedDict; with postponed annotations only its hints tell."""
    wrapped = {name: get_origin(hint) for name, hint in hints.items()}
    return [
        name
        for name, origin in wrapped.items()
        if origin is typing.Required
        or (origin is not typing.NotRequired and name in kind.__required_keys__)
    ]


def _build_array(kind: Any, value: Any) -> Any:
    _require(isinstance(value, list), kind, value)
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin is tuple and args and args[-1] is not Ellipsis:
        _require(len(args) == len(value), kind, value)
        return tuple(build(each, item) for each, item in zip(args, value, strict=True))
    items = [build(args[0], item) for item in value] if args else list(value)
    return items if origin in (list, Sequence) else origin(items)


def _build_plain(kind: Any, value: Any) -> Any:
    if kind in (Any, object):
        return value
    if kind is None or kind is type(None):
        _require(value is None, kind, value)
        return None
    if kind in _READ:
        _require(isinstance(value, str), kind, value)
        return _READ[kind](value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        _require(abs(value) <= sys.float_info.max, kind, value)
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1.0 is an integer in JSON Schema
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _require(fits, kind, value)
    return value


def _one_of(options: tuple[Any, ...], value: Any) -> Any:
    for option in options:
        if option == value and type(option) is type(value):
            return option
    raise ValueError(f"{_short(value)} is none of {', '.join(map(repr, options))}")


def _require(fits: bool, kind: Any, value: Any) -> None:
    if not fits:
        raise TypeError(f"{_short(value)} is not of type {_name(kind)}")


def _bare(hint: Any) -> Any:
    """The type inside Required[…] and NotRequired[…]."""
    wrapped = get_origin(hint) in (typing.Required, typing.NotRequired)
    return get_args(hint)[0] if wrapped else hint


def _is_class(kind: Any, parent: type) -> bool:
    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, parent)


def _short(value: Any) -> str:
    """A value in an error's sentence: it may be a model's, or a stranger's, and of any length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)


def _refused(kind: Any) -> GrammarError:
    return GrammarError(
        f"{_name(kind)} has no form in JSON: use str, int, float, bool, None, Literal, Enum, "
        "list, dict[str, …], a dataclass, a TypedDict or a pydantic model"
    )
