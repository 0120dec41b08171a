"""JSON from outside: read with bounds, and looked into with one sentence for each mistake."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen3_mlx_app.server.faults import ApiError

__all__ = ["Fields", "json_object"]

#: Lists and objects inside of each other; schemas of tools have a dozen.
_DEEPEST = 100
_NAMES = {bool: "true or false", int: "a whole number", str: "a string", list: "a list"}
_NAMES[dict] = "an object"


def json_object(data: bytes) -> dict[str, Any]:
    """The object that a body holds.

    >>> json_object(b'{"stream": true}')
    {'stream': True}

    Raises:
        ApiError: it is not UTF-8, not JSON, nested too deeply, or no object.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8 (byte {error.start:,})") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # also a number of thousands of digits
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, f"the body is {_kind(value)}, and must be a JSON object")
    _check(value)
    return value


class Fields:
    """The fields of an object, each asked for once; what nobody asked for is left over.

    A field that is null is as good as one that is not there.

    >>> fields = Fields({"seed": 1, "colour": "red", "user": None})
    >>> fields.whole("seed"), fields.left()
    (1, ['colour'])
    """

    def __init__(self, given: Mapping[str, Any], where: str = "") -> None:
        self._left = {name: value for name, value in given.items() if value is not None}
        self._where = where

    def any(self, name: str) -> Any:
        """The value, whatever it is."""
        return self._left.pop(name, None)

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value: bool | None = self._of(name, bool)
        return value

    def whole(self, name: str) -> int | None:
        """A whole number."""
        value: int | None = self._of(name, int)
        return value

    def text(self, name: str) -> str | None:
        """A string."""
        value: str | None = self._of(name, str)
        return value

    def array(self, name: str) -> list[Any] | None:
        """A list."""
        value: list[Any] | None = self._of(name, list)
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        """An object."""
        value: dict[str, Any] | None = self._of(name, dict)
        return value

    def number(self, name: str) -> float | None:
        """A number that is finite."""
        value = self.any(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not _finite(value):
            raise self._wrong(name, value, "a number")
        return float(value)

    def strings(self, name: str) -> list[str]:
        """One string or a list of them."""
        value = self.any(name)
        if isinstance(value, str):
            return [value]
        if value is not None and not _all_strings(value):
            raise self._wrong(name, value, "a string or a list of strings")
        return list(value or ())

    def named(self, name: str) -> str:
        """The whole name of a field, for an error."""
        return f"{self._where}{name}"

    def left(self) -> list[str]:
        """Names of what was not asked for, and is not null."""
        return list(self._left)

    def _of(self, name: str, kind: type) -> Any:
        value = self.any(name)
        if value is not None and type(value) is not kind:
            raise self._wrong(name, value, _NAMES[kind])
        return value

    def _wrong(self, name: str, value: Any, wanted: str) -> ApiError:
        name = self.named(name)
        return ApiError(400, f"{name} is {_kind(value)}, and must be {wanted}", param=name)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return _NAMES.get(type(value), "a number")


def _all_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"there is no {constant} in JSON")


def _check(value: Any) -> None:
    """Refuse what is nested too deeply, and strings that no text can hold."""
    level: Sequence[Any] = [value]
    for _ in range(_DEEPEST):
        level = [each for item in level for each in _inside(item)]
        if not level:
            return
    raise _too_deep()


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, str):
        if not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
            raise ApiError(400, "a string of the body has half a surrogate pair: send whole ones")
    elif isinstance(item, dict):
        yield from item
        yield from item.values()
    elif isinstance(item, list):
        yield from item


def _too_deep() -> ApiError:
    return ApiError(400, f"the body is nested deeper than {_DEEPEST} levels")
