"""Tool calls by grammar: once one opens, it can only be well-formed and of its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.grammar.grammar import JSON_STYLE, Grammar
from qwen3_mlx.grammar.schemas import arguments, kinds, self_contained

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from qwen3_mlx.grammar.guide import AnswerGuide, Guide

__all__ = ["AnswerOrCalls", "CallGuide", "call_grammar"]


class CallGuide:
    """Lets an answer run free until it opens a call, and keeps that to the grammar.

    Args:
        matcher: the grammar of what stands between the tags, at its start.
        open_id: of `<tool_call>`.
        close_id: of `</tool_call>`.
        vocab: how many ids there are.
        must_call: whether the answer begins with a call; what comes after it is free.
    """

    whole = done = False
    error: GrammarError | None = None

    def __init__(
        self,
        matcher: LLMatcher,
        open_id: int,
        close_id: int,
        vocab: int,
        *,
        must_call: bool = False,
    ) -> None:
        self._start, self._open_id, self._close_id = matcher, open_id, close_id
        self._call: LLMatcher | None = None
        self._opening, self._closing = (_only(id, vocab) for id in (open_id, close_id))
        self.demands, self._owes = must_call, must_call

    @property
    def fits(self) -> bool:
        return self._call is None

    def frees(self, token: int) -> bool:
        return False  # it is free already

    def end(self) -> bytes | None:
        """A call is never brought to its end: it would be carried out."""
        return None

    def allowed(self) -> bytes | None:
        call = self._call
        if self._owes:
            return self._opening
        if call is None or call.is_error():
            return None
        if call.is_accepting():
            return self._closing
        mask = bytes(call.compute_bitmask())
        return None if call.is_error() else mask

    def take(self, token: int, left: int) -> bytes | None:
        if self._call is None:
            if token == self._open_id:
                self._call, self._owes = self._start.deep_copy(), False
        elif token == self._close_id or self._call.is_error():
            self._call = None
        else:
            self._call.consume_token(token)
        return None


class AnswerOrCalls:
    """An answer that keeps to a grammar, or one that begins with a call: its first token decides.

    Args:
        answer: the one, at its start.
        calls: the other.
        open_id: of `<tool_call>`.
    """

    demands = True

    def __init__(self, answer: AnswerGuide, calls: CallGuide, open_id: int) -> None:
        self._guide: Guide = answer
        self._calls, self._open_id, self._begun = calls, open_id, False

    @property
    def whole(self) -> bool:
        return self._guide.whole

    @property
    def done(self) -> bool:
        return self._guide.done

    @property
    def fits(self) -> bool:
        return self._guide.fits

    @property
    def error(self) -> GrammarError | None:
        return self._guide.error

    def allowed(self) -> bytes | None:
        bits = self._guide.allowed()
        if self._begun or bits is None:
            return bits
        more = bytearray(bits)
        more[self._open_id >> 3] |= 1 << (self._open_id & 7)
        return bytes(more)

    def frees(self, token: int) -> bool:
        return not self._begun and token == self._open_id

    def take(self, token: int, left: int) -> bytes | None:
        if self.frees(token):
            self._guide = self._calls
        self._begun = True
        return self._guide.take(token, left)

    def end(self) -> bytes | None:
        return self._guide.end()


def _only(id: int, vocab: int) -> bytes:
    """The bits of a mask that allows one id."""
    bits = bytearray(-(-vocab // 32) * 4)
    bits[id >> 3] = 1 << (id & 7)
    return bytes(bits)


def call_grammar(
    style: Literal["hermes", "coder"], tools: Sequence[Mapping[str, Any]]
) -> tuple[Grammar, list[str]]:
    """The grammar of what stands between `<tool_call>` and `</tool_call>`, and what it leaves free.

    Args:
        tools: each with "name" and "parameters".

    A tool whose schema cannot be kept to may be called with any arguments; a notice names it.
    """
    notices: list[str] = []
    schemas: list[tuple[str, Mapping[str, Any]]] = []
    for place, tool in enumerate(tools):
        name = tool["name"]
        try:
            schema: Mapping[str, Any] = self_contained(tool["parameters"], f"{place}.")
            Grammar.json(schema).compiled()
        except GrammarError as error:
            notices.append(f"calls of {name} are not held to its schema: {error}")
            schema = {"type": "object"}
        schemas.append((name, schema))
    return Grammar.lark(_hermes(schemas) if style == "hermes" else _coder(schemas)), notices


def _hermes(tools: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    definitions: dict[str, Any] = {}
    calls = []
    for name, schema in tools:
        definitions |= schema.get("$defs", {})
        arguments = {key: value for key, value in schema.items() if key != "$defs"}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments | _OBJECT},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = {"anyOf": calls, "x-guidance": JSON_STYLE, "$defs": definitions}
    return f'start: "\\n" call "\\n"\ncall: %json {json.dumps(schema)}\n'


_OBJECT = {"type": "object"}
_END = '"\\n</parameter>\\n"'
#: Any argument: a name, and a text up to its closing tag.
_ANY = f'any: "<parameter=" /[^>\\n]+/ ">" NL any_v\nany_v[suffix={_END}]: /(?s:.*)/'


def _coder(tools: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Tag by tag, parameters in the order of the schema; a text ends at its closing tag."""
    rules = [_ANY]
    for place, (name, schema) in enumerate(tools):
        known = arguments(schema)
        parts = ["any*"] if known is None else []
        properties, required = known or ({}, [])
        for number, (argument, each) in enumerate(properties.items()):
            rule = f"p{place}_{number}"
            parts.append(rule if argument in required else f"{rule}?")
            rules.append(f"{rule}: {_quoted(f'<parameter={argument}>')} NL {rule}_v")
            rules.append(_value(f"{rule}_v", each, schema.get("$defs", {})))
        rules.append(f"f{place}: {_quoted(name + '>')} NL {' '.join(parts)}")
    names = " | ".join(f"f{place}" for place in range(len(tools)))
    return "\n".join([f'start: NL "<function=" ({names}) "</function>" NL', 'NL: "\\n"', *rules])


def _value(rule: str, schema: Any, definitions: Mapping[str, Any]) -> str:
    """What cannot be a text is JSON of its schema; a text is free, for it may hold anything."""
    known = kinds(schema, definitions)
    options = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if options:
        return f"{rule}: ({' | '.join(_quoted(_word(each)) for each in options)}) {_END}"
    if known == {"boolean"}:  # as the template writes Python's values
        return f'{rule}: ("True" | "False") {_END}'
    if not known or "string" in known:
        return f"{rule}[suffix={_END}]: /(?s:.*)/"
    inner = {**schema, "x-guidance": JSON_STYLE, "$defs": definitions}
    return f"{rule}: %json {json.dumps(inner)} {_END}"


def _word(value: Any) -> str:
    """A value as the template writes it."""
    if isinstance(value, str | bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
