"""Tool calls told apart from text while they stream: Hermes' JSON and Coder's XML.

    <tool_call>                                  <tool_call>
    {"name": "add", "arguments": {"a": 1}}       <function=add>
    </tool_call>                                 <parameter=a>
                                                 1
                                                 </parameter>
                                                 </function>
                                                 </tool_call>

A parser takes the answer in pieces of any size and gives back text and events; the pieces' sizes
change nothing but when. The deltas of a call add up to the JSON of its arguments. A call that
is malformed comes back as the text it was, with a notice, and what follows is read as ever.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from qwen3_mlx.events import Notice, ToolCall
from qwen3_mlx.text.call_readers import CLOSE, OPEN, CoderReader, HermesReader, Piece, Reader
from qwen3_mlx.text.stops import overlap

__all__ = ["CLOSE", "OPEN", "TAGS", "CallParser", "Piece", "Style", "parse_calls"]

TAGS = (OPEN, CLOSE)
Style: TypeAlias = Literal["hermes", "coder"]


class CallParser:
    """Feed it the answer; it gives text and calls.

    Args:
        style: "hermes" or "coder".
        parameters: for each tool, the JSON Schemas of its arguments: Coder's values are typed
            by them.
        new_id: makes the ids of calls.

    >>> parser = CallParser("hermes")
    >>> text = 'Sum:\\n<tool_call>\\n{"name": "add", "arguments": {"a": 1}}\\n</tool_call>'
    >>> pieces = [*parser.push(text), *parser.finish()]
    >>> pieces[0], pieces[-1].name, pieces[-1].arguments
    ('Sum:', 'add', {'a': 1})
    """

    def __init__(
        self,
        style: Style,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        new_id: Callable[[], str] = lambda: f"call_{secrets.token_hex(8)}",
    ) -> None:
        self._style, self._parameters, self._new_id = style, parameters or {}, new_id
        self._held = ""
        self._reader: Reader | None = None
        self._opened = 0
        self._before = ""  # the newline before the call, part of it unless it is broken

    def push(self, text: str) -> Iterator[Piece]:
        """The next piece of the answer."""
        while text:
            if self._reader is None:
                text = yield from self._text(text)
            else:
                text = yield from self._call(text)

    def finish(self) -> Iterator[Piece]:
        """The end of the answer, however it came."""
        while self._reader is not None:
            reader, self._reader = self._reader, None
            if reader.whole:
                yield self._made(reader)
                return
            first, close, rest = reader.raw.partition(CLOSE)
            yield from self._broken(OPEN + first + close, reader.problem or "it has no end")
            yield from self.push(rest)
        held, self._held = self._held, ""
        if held:
            yield held

    def _text(self, text: str) -> Generator[Piece, None, str]:
        """Outside of calls; returns what comes after the tag of one."""
        text = self._held + text
        place = text.find(OPEN)
        if place < 0:
            keep = max(overlap(text, OPEN), overlap(text, "\n" + OPEN))
            self._held = text[len(text) - keep :]
            if said := text[: len(text) - keep]:
                yield said
            return ""
        self._held = ""
        said = text[:place].removesuffix("\n")
        self._before = text[len(said) : place]
        if said:
            yield said
        make = HermesReader if self._style == "hermes" else CoderReader
        self._reader = make(self._opened, self._parameters)
        self._opened += 1
        return text[place + len(OPEN) :]

    def _call(self, text: str) -> Generator[Piece, None, str]:
        """Inside a call; returns what comes after it."""
        reader = self._reader
        assert reader is not None
        yield from reader.push(text)
        if not reader.over:
            return ""
        self._reader = None
        if reader.whole:
            yield self._made(reader)
        else:
            yield from self._broken(OPEN + reader.raw, reader.problem)
        return reader.rest

    def _made(self, reader: Reader) -> ToolCall:
        return ToolCall(self._new_id(), reader.name, reader.arguments)

    def _broken(self, raw: str, problem: str) -> Iterator[Piece]:
        yield Notice(f"a tool call of the model is malformed ({problem}) and was left as text")
        yield self._before + raw


def parse_calls(
    text: str, style: Style, parameters: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[str, list[ToolCall], list[str]]:
    """A whole answer at once: its text, its calls, and what must be said about them.

    >>> parse_calls("Hello.", "hermes")
    ('Hello.', [], [])
    """
    parser = CallParser(style, parameters)
    pieces = [*parser.push(text), *parser.finish()]
    return (
        "".join(piece for piece in pieces if isinstance(piece, str)),
        [piece for piece in pieces if isinstance(piece, ToolCall)],
        [piece.text for piece in pieces if isinstance(piece, Notice)],
    )
