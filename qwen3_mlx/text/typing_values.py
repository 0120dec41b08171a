"""Texts into values, by the JSON types that they may have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn

__all__ = ["kinds_of", "typed"]

_WORDS = {"true": True, "false": False, "null": None, "none": None}


def typed(text: str, schema: Mapping[str, Any]) -> Any:
    """The value that a text stands for; one that is not of the type stays a text.

    Where the schema allows texts and others, what reads as one of the others is that. Of the
    schema only "type" counts, a name or a list of them; without it everything is a text.

    >>> [typed("3", {"type": kind}) for kind in ("integer", "string", "null")]
    [3, '3', '3']
    """
    stated = schema.get("type", ())
    kinds = {stated} if isinstance(stated, str) else set(stated)
    if not kinds or kinds == {"string"}:
        return text
    word = text.strip().lower()
    for kind in ("boolean", "null"):
        if kind in kinds and word in _WORDS and (_WORDS[word] is None) == (kind == "null"):
            return _WORDS[word]
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text
    return value if kinds_of(value) & kinds else text


def kinds_of(value: Any) -> frozenset[str]:
    """The JSON types of a value: a whole number is a number, too.

    >>> sorted(kinds_of(3.0))
    ['integer', 'number']
    """
    if value is None:
        return frozenset(("null",))
    if isinstance(value, bool):
        return frozenset(("boolean",))
    if isinstance(value, int | float):
        return frozenset(("number", "integer") if value == value // 1 else ("number",))
    if isinstance(value, str):
        return frozenset(("string",))
    return frozenset(("array",) if isinstance(value, list) else ("object",))


def _finite(text: str) -> float:
    value = float(text)
    return value if isfinite(value) else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
