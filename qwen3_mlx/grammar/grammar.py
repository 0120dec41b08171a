"""What an answer may look like, as a value that is checked before anything is generated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.grammar.types import build, schema_of

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

__all__ = ["JSON_STYLE", "Grammar"]

Kind: TypeAlias = Literal["json", "regex", "choice", "lark"]

# As json.dumps writes, and as the tool calls of Qwen's chat template are written. Free blank
# space would let a model go on with it for ever.
JSON_STYLE: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
_NAMING = ("properties", "patternProperties", "$defs", "definitions")
_VALUES = ("const", "enum", "default", "examples")
_MOST_REPEATS, _MOST_WORDS = 10_000, 16


@dataclass(frozen=True, slots=True)
class Grammar:
    """The form of an answer. Make one with `json`, `regex`, `choice` or `lark`.

    >>> Grammar.choice(["yes", "no"]).parse("no")
    'no'
    >>> Grammar.json(dict[str, int]).parse('{"a": 1}')
    {'a': 1}
    """

    kind: Kind
    source: str
    type: Any = field(default=None, compare=False)

    @classmethod
    def json(cls, form: Any) -> Grammar:
        """JSON: of a type (dataclass, TypedDict, pydantic model, `list[int]`), or of a schema.

        The order of properties is the schema's. JSON is written on one line.

        >>> Grammar.json({"type": "integer"}).source
        '{"type": "integer"}'

        Raises:
            GrammarError: the type has no form in JSON, or the schema is not JSON.
        """
        if form is True:
            form = {}
        if isinstance(form, Mapping | bool):
            return cls("json", _schema_text(form))
        return cls("json", _schema_text(schema_of(form)), form)

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        r"""All of the answer matches a regular expression (Rust's dialect, no look-around).

        >>> Grammar.regex(r"\d{4}-\d\d").kind
        'regex'
        """
        if not isinstance(pattern, str) or not pattern:
            raise GrammarError(f"a pattern must be a string that is not empty, not {pattern!r}")
        return cls("regex", pattern)

    @classmethod
    def choice(cls, options: Sequence[str]) -> Grammar:
        """The answer is one of these texts.

        >>> Grammar.choice(["red", "green"]).kind
        'choice'
        """
        wrong = [each for each in options if not isinstance(each, str) or not each]
        if isinstance(options, str) or not options or wrong:
            raise GrammarError("options must be texts that are not empty, at least one")
        return cls("choice", json.dumps(list(dict.fromkeys(options)), ensure_ascii=False))

    @classmethod
    def lark(cls, source: str) -> Grammar:
        """The answer follows a grammar in Lark's notation (as llguidance reads it).

        >>> Grammar.lark('start: "a"+').kind
        'lark'
        """
        if not isinstance(source, str) or not source.strip():
            raise GrammarError("the Lark grammar is empty: it needs a rule named start")
        return cls("lark", source)

    def parse(self, text: str) -> Any:
        """The value that a whole answer stands for: of JSON the value, otherwise the text.

        >>> Grammar.json(tuple[int, ...]).parse("[1, 2]")
        (1, 2)

        Raises:
            ValueError, TypeError: the text is not JSON, or not of the type.
        """
        if self.kind != "json":
            return text
        value = json.loads(text)
        return value if self.type is None else build(self.type, value)

    def compiled(self) -> str:
        """What llguidance is given.

        >>> type(Grammar.regex("a+").compiled()).__name__
        'str'

        Raises:
            GrammarError: it cannot be used; llguidance's words say why.
        """
        from llguidance import LLMatcher

        if self.kind == "json":
            if "minProperties" in _keywords(json.loads(self.source)):
                # A grammar does not see that a name comes twice, and twice is once.
                raise GrammarError("minProperties cannot be kept to: name properties as required")
            try:
                made = LLMatcher.grammar_from_json_schema(self.source, overrides=JSON_STYLE)
            except ValueError as error:
                raise GrammarError(f"this schema cannot be used: {error}") from error
        elif self.kind == "lark":
            made = LLMatcher.grammar_from_lark(self.source)
        else:
            made = LLMatcher.grammar_from_regex(self._pattern())
        wrong, complaints = LLMatcher.validate_grammar_with_warnings(made)
        if wrong:
            raise GrammarError(f"this {self._what} cannot be used: {_first_line(complaints[0])}")
        return made

    @property
    def growth(self) -> int:
        """Bytes by which one token can, by a rough guess, make the shortest ending longer.

        >>> Grammar.regex("a{30}").growth
        35
        """
        repeats = [int(each) for each in re.findall(r"\d{1,5}", self.source)]
        return len(self.source) + sum(each for each in repeats if each < _MOST_REPEATS)

    @property
    def words(self) -> tuple[bytes, ...]:
        """Words of the source's patterns: texts that an answer may have to contain.

        >>> Grammar.regex(".*foo").words
        (b'foo',)
        """
        source = (
            " ".join(_patterns(json.loads(self.source))) if self.kind == "json" else self.source
        )
        found = dict.fromkeys(re.findall(r"[\w-]{1,40}", source))
        return tuple(word.encode() for word in found)[:_MOST_WORDS]

    @property
    def _what(self) -> str:
        names = {"json": "schema", "regex": "pattern", "choice": "list of options"}
        return names.get(self.kind, "grammar")

    def _pattern(self) -> str:
        if self.kind == "regex":
            return self.source
        return "|".join(f"({_escaped(option)})" for option in json.loads(self.source))


def _schema_text(schema: Any) -> str:
    """A schema as JSON, or a sentence about what keeps it from being JSON."""
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GrammarError(f"the schema is not JSON: {error}") from error


def _escaped(text: str) -> str:
    """A text as a pattern that matches it."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&~/-])", r"\\\1", text)


def _first_line(complaint: str) -> str:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return lines[0] if lines else "it is not a grammar"


def _keywords(schema: Any) -> Iterator[str]:
    """Every key in a JSON Schema, names of properties and values left out."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        yield key
        if key in _VALUES:
            continue
        inner = value.values() if key in _NAMING and isinstance(value, dict) else [value]
        for each in inner:
            yield from _keywords(each)
    for each in schema if isinstance(schema, list) else ():
        yield from _keywords(each)


def _patterns(schema: Any) -> Iterator[str]:
    """Every regular expression in a JSON Schema."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                yield value
            elif key == "patternProperties" and isinstance(value, dict):
                yield from value
            yield from _patterns(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from _patterns(each)
