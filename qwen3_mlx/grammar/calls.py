"""Tool calls by grammar: once one opens, it can only be well-formed and of its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.grammar.grammar import JSON_STYLE, Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["CallGuide", "call_grammar"]


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


def _only(id: int, vocab: int) -> bytes:
    """The bits of a mask that allows one id."""
    bits = bytearray(-(-vocab // 32) * 4)
    bits[id >> 3] = 1 << (id & 7)
    return bytes(bits)


def call_grammar(style: Literal["hermes", "coder"], tools: Sequence[Mapping[str, Any]]) -> Grammar:
    """The grammar of what stands between `<tool_call>` and `</tool_call>`.

    Args:
        tools: each with "name" and "parameters".

    Raises:
        GrammarError: a tool's schema cannot be kept to; the grammar itself is not checked here.
    """
    for tool in tools:
        Grammar.json(dict(tool["parameters"])).compiled()
    return Grammar.lark(_hermes(tools) if style == "hermes" else _coder(tools))


def _hermes(tools: Sequence[Mapping[str, Any]]) -> str:
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["name"]},
                "arguments": {**tool["parameters"], "type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema = _lifted({"anyOf": calls, "x-guidance": JSON_STYLE})
    return f'start: "\\n" call "\\n"\ncall: %json {json.dumps(schema)}\n'


def _coder(tools: Sequence[Mapping[str, Any]]) -> str:
    """Tag by tag, parameters in the order of the schema; a text ends at its closing tag."""
    rules = []
    for place, tool in enumerate(tools):
        parameters = tool["parameters"]
        parts = []
        for number, (name, schema) in enumerate(parameters.get("properties", {}).items()):
            rule = f"p{place}_{number}"
            optional = "" if name in parameters.get("required", []) else "?"
            parts.append(rule + optional)
            rules.append(f"{rule}: {_quoted(f'<parameter={name}>')} NL {rule}_v")
            rules.append(_value(f"{rule}_v", schema, parameters.get("$defs", {})))
        rules.append(f"f{place}: {_quoted(tool['name'] + '>')} NL {' '.join(parts)}")
    names = " | ".join(f"f{place}" for place in range(len(tools)))
    return "\n".join([f'start: NL "<function=" ({names}) "</function>" NL', 'NL: "\\n"', *rules])


def _value(rule: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    end = '"\\n</parameter>\\n"'
    options = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if options and all(isinstance(each, str) for each in options):
        return f"{rule}: ({' | '.join(map(_quoted, options))}) {end}"
    if schema.get("type") == "boolean":  # as the template writes Python's values
        return f'{rule}: ("True" | "False") {end}'
    if schema.get("type") in ("integer", "number", "array", "object"):
        inner = {**schema, "x-guidance": JSON_STYLE}
        if definitions:
            inner["$defs"] = definitions
        return f"{rule}: %json {json.dumps(inner)} {end}"
    return f"{rule}[suffix={end}]: /(?s:.*)/"


def _lifted(schema: dict[str, Any]) -> dict[str, Any]:
    """The definitions of all tools at the top, where their references look for them."""
    definitions: dict[str, Any] = {}
    for call in schema["anyOf"]:
        for name, each in call["properties"]["arguments"].pop("$defs", {}).items():
            if definitions.setdefault(name, each) != each:
                raise GrammarError(f"two tools define {name!r} differently: rename one")
    return {**schema, "$defs": definitions} if definitions else schema


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
