"""Texts into values, by the JSON Schema that says what they should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["typed"]

_WORDS = {"true": True, "false": False, "null": None, "none": None}


def typed(text: str, schema: Mapping[str, Any]) -> Any:
    """The value that a text stands for; one that is not of the type stays a text.

    Where the schema allows texts and others, what reads as one of the others is that.

    >>> [typed("3", {"type": kind}) for kind in ("integer", "string", "null")]
    [3, '3', '3']
    """
    kinds = _kinds(schema)
    if not kinds or kinds == {"string"}:
        return text
    word = text.strip().lower()
    for kind in ("boolean", "null"):
        if kind in kinds and word in _WORDS and (_WORDS[word] is None) == (kind == "null"):
            return _WORDS[word]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if _kind(value) & kinds else text


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a schema allows, as far as it names them."""
    kinds: set[str] = set()
    stated = schema.get("type", [])
    kinds.update([stated] if isinstance(stated, str) else stated)
    for option in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        kinds |= _kinds(option)
    if not kinds:
        values = [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]
        kinds = {kind for value in values for kind in _kind(value)}
        if "$ref" in schema:
            kinds.add("object")
    return kinds


def _kind(value: Any) -> set[str]:
    """The JSON types of a value: a whole number is a number too."""
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number", "integer"} if value.is_integer() else {"number"}
    if isinstance(value, str):
        return {"string"}
    return {"array"} if isinstance(value, list) else {"object"}
