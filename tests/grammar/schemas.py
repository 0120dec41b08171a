"""Random JSON Schemas with everything that is promised to work, for tests and measurements."""

from __future__ import annotations

import random
from typing import Any

__all__ = ["random_schema"]

_WORDS = [
    "name",
    "größe",
    "a b",
    'quo"te',
    "back\\slash",
    "名前",
    "tab\there",
    "x",
    "id",
    "emoji🙂",
]
_PATTERNS = [
    "^[a-z]{2,5}$",
    "^[A-Z]{2}-[0-9]{3}$",
    "^(red|green|blue)$",
    "^[a-z]+@[a-z]+\\.(com|org)$",
]
_FORMATS = ["date", "uuid", "time", "ipv4"]


def random_schema(number: int, depth: int = 4) -> dict[str, Any]:
    """The schema of that number; at most `depth` objects and arrays within each other."""
    rng = random.Random(number)
    schema = _schema(rng, depth)
    if rng.random() < 0.3:  # a definition that is used twice, and may contain itself
        part = _schema(rng, 1)
        link = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}
        node = _object({"value": part, "next": link}, ["value", "next"])
        root = _object({"first": {"$ref": "#/$defs/node"}, "rest": schema}, ["first", "rest"])
        return {**root, "$defs": {"node": node}}
    return schema


def _schema(rng: random.Random, depth: int) -> dict[str, Any]:
    if depth > 0 and rng.random() < 0.6:
        return rng.choice([_record, _array, _any_of])(rng, depth - 1)
    return rng.choice([_string, _integer, _number, _enum, _constant])(rng)


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _record(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(_WORDS, rng.randint(1, 4))
    return _object(
        {name: _schema(rng, depth) for name in names},
        [name for name in names if rng.random() < 0.7],
    )


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    return {
        "type": "array",
        "items": _schema(rng, depth),
        "minItems": least,
        "maxItems": least + rng.randint(0, 3),
    }


def _any_of(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [_schema(rng, depth) for _ in range(rng.randint(2, 3))]}


def _string(rng: random.Random) -> dict[str, Any]:
    kind = rng.randrange(4)
    if kind == 0:
        return {"type": "string"}
    if kind == 1:
        least = rng.randint(0, 8)
        return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 20)}
    if kind == 2:
        return {"type": "string", "pattern": rng.choice(_PATTERNS)}
    return {"type": "string", "format": rng.choice(_FORMATS)}


def _integer(rng: random.Random) -> dict[str, Any]:
    low = rng.randint(-1000, 1000)
    return {"type": "integer", "minimum": low, "maximum": low + rng.choice([0, 3, 77, 5000])}


def _number(rng: random.Random) -> dict[str, Any]:
    low = rng.randint(-100, 100)
    return rng.choice([{"type": "number"}, {"type": "number", "minimum": low, "maximum": low + 9}])


def _enum(rng: random.Random) -> dict[str, Any]:
    values = [*rng.sample(_WORDS, 3), 7, -1.5, None, True, 'a "b"\n\\']
    return {"enum": rng.sample(values, rng.randint(1, 5))}


def _constant(rng: random.Random) -> dict[str, Any]:
    return rng.choice([{"const": rng.choice(_WORDS)}, {"type": "boolean"}, {"type": "null"}])
