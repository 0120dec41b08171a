"""One tool call read as it streams: Hermes' JSON character by character, Coder's XML by tags."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from qwen3_mlx.events import Notice, ToolCall, ToolCallDelta, ToolCallStarted
from qwen3_mlx.text.stops import overlap
from qwen3_mlx.text.typing_values import typed

__all__ = ["CLOSE", "OPEN", "CoderReader", "HermesReader", "Piece", "Reader"]

OPEN, CLOSE = "<tool_call>", "</tool_call>"
Piece: TypeAlias = str | Notice | ToolCallStarted | ToolCallDelta | ToolCall
_BLANK = " \t\r\n"


class Reader(ABC):
    """One call being read, from behind its opening tag.

    `over` once its closing tag has come, with what follows in `rest`; `whole` when name and
    arguments are known. `raw` is all of it, closing tag included.
    """

    def __init__(self, index: int, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        self.index, self.parameters = index, parameters
        self.name, self.arguments = "", dict[str, Any]()
        self.raw = self.rest = self.problem = ""
        self.over = self.whole = False

    @abstractmethod
    def push(self, text: str) -> Iterator[Piece]:
        """Take the next piece of the answer."""

    def end_at_tag(self) -> None:
        """For a call that is broken: it ends at the first closing tag, if that is there."""
        place = self.raw.find(CLOSE)
        if place >= 0:
            place += len(CLOSE)
            self.over, self.rest, self.raw = True, self.raw[place:], self.raw[:place]


class HermesReader(Reader):
    """Follows the JSON object character by character, so that a closing tag in one of its
    strings closes nothing."""

    def __init__(self, index: int, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(index, parameters)
        self._at = 0  # how much of raw has been looked at
        self._depth, self._in_string, self._escaped = 0, False, False
        self._object = -1  # where the object begins
        self._key, self._string = "", 0
        self._value = -1  # where the value of the key begins, -1 in a key
        self._done = False
        self._waiting = ""  # arguments that came before the name
        self._streamed, self._begun = 0, False

    def push(self, text: str) -> Iterator[Piece]:
        self.raw += text
        start = max(self._at, self._value)
        while not self.problem and not self._done and self._at < len(self.raw):
            yield from self._char(self.raw[self._at])
            self._at += 1
        if not self._done and not self.problem and self._key == "arguments" and self._value >= 0:
            yield from self._stream(self.raw[max(start, self._value) : self._at])
        if self._done and not self.problem:
            self._after()
        if self.problem:
            self.whole = False
            self.end_at_tag()

    def _char(self, char: str) -> Iterator[Piece]:
        if self._in_string:
            self._string_char(char)
        elif self._depth == 0:
            if char == "{":
                self._depth, self._object = 1, self._at
            elif char not in _BLANK:
                self.problem = "it is not a JSON object"
        elif char == '"':
            self._in_string, self._string = True, self._at
        elif char == ":" and self._depth == 1 and self._value < 0:
            self._value = self._at + 1
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            if self._depth == 0:
                yield from self._value_ends()
                self._object_ends()
        elif char == "," and self._depth == 1:
            yield from self._value_ends()

    def _string_char(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = False
            if self._depth == 1 and self._value < 0:
                self._key = _loaded(self.raw[self._string : self._at + 1], "")

    def _value_ends(self) -> Iterator[Piece]:
        if self._value < 0:
            return
        text = self.raw[self._value : self._at]
        if self._key == "name":
            name = _loaded(text, "")
            if isinstance(name, str) and name:
                self.name = name
                yield ToolCallStarted(self.index, name)
                waiting, self._waiting = self._waiting, ""
                if waiting:
                    yield ToolCallDelta(self.index, waiting)
        elif self._key == "arguments":
            streamed = max(self._streamed, self._value)
            yield from self._stream(self.raw[streamed : self._at])
        self._key, self._value = "", -1

    def _stream(self, text: str) -> Iterator[Piece]:
        """The next part of the arguments."""
        self._streamed = self._at
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        if not self.name:
            self._waiting += text
        elif text:
            yield ToolCallDelta(self.index, text)

    def _object_ends(self) -> None:
        self._done = True
        value = _loaded(self.raw[self._object : self._at + 1], None)
        arguments = value.get("arguments", {}) if isinstance(value, dict) else None
        if isinstance(arguments, str):
            arguments = _loaded(arguments, None)
        if not isinstance(value, dict):
            self.problem = "its JSON is broken"
        elif not isinstance(value.get("name"), str) or not value["name"]:
            self.problem = "it names no function"
        elif not isinstance(arguments, dict):
            self.problem = "its arguments are not an object"
        else:
            self.name, self.arguments, self.whole = value["name"], arguments, True

    def _after(self) -> None:
        """Only the closing tag may follow."""
        tail = self.raw[self._at :].lstrip()
        if tail.startswith(CLOSE):
            place = len(self.raw) - len(tail) + len(CLOSE)
            self.over, self.rest, self.raw = True, self.raw[place:], self.raw[:place]
        elif tail and not CLOSE.startswith(tail):
            self.problem = "text follows its JSON"


_FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>")
_ENDS = ("<parameter=", "</function>")
_VALUE_END = "</parameter>"


class CoderReader(Reader):
    """Reads tag by tag; a value ends where `</parameter>` is followed by another tag of a call."""

    def __init__(self, index: int, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(index, parameters)
        self._at = 0  # where the next tag, or the value, begins
        self._looked = 0  # how far the value has been searched for its end
        self._said = 0  # how much of a value has been streamed
        self._parameter: str | None = None

    def push(self, text: str) -> Iterator[Piece]:
        self.raw += text
        moved = True
        while moved and not self.over and not self.problem:
            before = self._at
            if self._parameter is not None:
                yield from self._read_value(self._parameter)
            else:
                yield from self._read_tag()
            moved = self._at > before
        if self.problem:
            self.whole = False
            self.end_at_tag()

    def _read_tag(self) -> Iterator[Piece]:
        tail = self.raw[self._at :].lstrip()
        if self.whole:
            wanted: tuple[str, ...] = (CLOSE,)
        else:
            wanted = _ENDS if self.name else ("<function=",)
        if not any(tail.startswith(tag) for tag in wanted):
            if tail and not any(tag.startswith(tail) for tag in wanted):
                self.problem = f"{' or '.join(wanted)} was expected"
            return
        if tail.startswith((CLOSE, "</function>")):
            self._at = len(self.raw) - len(tail) + len(CLOSE if self.whole else "</function>")
            if self.whole:
                self.over, self.rest, self.raw = True, self.raw[self._at :], self.raw[: self._at]
            else:
                self.whole = True
                yield ToolCallDelta(self.index, "}" if self.arguments else "{}")
            return
        pattern = _PARAMETER if self.name else _FUNCTION
        found = pattern.match(self.raw, self._at)
        if found is None:
            if ">" in tail or "\n" in tail:
                self.problem = "a tag of it is broken"
            return
        self._at = found.end()
        if not self.name:
            self.name = found[1]
            yield ToolCallStarted(self.index, self.name)
        elif found[1] in self.arguments:
            self.problem = f"it gives {found[1]!r} twice"
        else:
            self._parameter, self._looked, self._said = found[1], self._at, self._at
            opening = ", " if self.arguments else "{"
            yield ToolCallDelta(self.index, f"{opening}{_dumped(found[1])}: ")

    def _read_value(self, name: str) -> Iterator[Piece]:
        end, certain = self._value_end()
        schema = self.parameters.get(self.name, {}).get(name, {"type": "string"})
        streams = schema.get("type") == "string" and "enum" not in schema
        start = self._at + (self.raw[self._at : self._at + 1] == "\n")
        if certain or self.raw[:end].endswith("\n"):
            value = self.raw[start:end].removesuffix("\n")
        else:
            value = self.raw[start:end]
        if streams:
            yield from self._stream(start, value, certain)
        if not certain:
            return
        self.arguments[name] = value if streams else typed(value, schema)
        if not streams:
            yield ToolCallDelta(self.index, _dumped(self.arguments[name]))
        self._at, self._parameter = end + len(_VALUE_END), None

    def _stream(self, start: int, value: str, last: bool) -> Iterator[Piece]:
        """A string value as far as it is known, as JSON; quotes come with its ends."""
        new = value[max(0, self._said - start) :]
        if not new and not last:
            return
        opening = "" if self._said > self._at else '"'
        self._said = max(self._said, start + len(value))
        yield ToolCallDelta(self.index, opening + _dumped(new)[1:-1] + ('"' if last else ""))

    def _value_end(self) -> tuple[int, bool]:
        """Where the value's closing tag begins; or up to where there is surely none."""
        while True:
            place = self.raw.find(_VALUE_END, self._looked)
            if place < 0:
                overlaps = overlap(self.raw, _VALUE_END), overlap(self.raw, "\n" + _VALUE_END)
                self._looked = max(self._at, len(self.raw) - max(overlaps))
                return self._looked, False
            tail = self.raw[place + len(_VALUE_END) :].lstrip()
            if tail.startswith(_ENDS):
                return place, True
            self._looked = place
            if any(tag.startswith(tail) for tag in _ENDS):
                return place, False
            self._looked += len(_VALUE_END)


def _loaded(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
