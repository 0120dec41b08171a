"""JSON Schemas of others, as a grammar takes them: references that lead somewhere, types by name.

Tools of other programs refer to `#`, `#/definitions/…` or `#/properties/…`, and say things that
change nothing (`uniqueItems: false`) or that a validator must not insist on (`format: "path"`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.text.typing_values import kinds_of

__all__ = ["arguments", "kinds", "lifted", "self_contained"]

_Schema = dict[str, Any]
#: Formats that the grammar keeps to; any other is a remark, as the specification says.
_FORMATS = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
)  # fmt: skip
_REMARKS = frozenset(
    ("$id", "$schema", "$anchor", "$comment", "$defs", "definitions", "default", "examples")
)
_NOTHING: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,), "minProperties": (0,), "minItems": (0,), "required": (None,),
}  # fmt: skip
#: Where a schema holds schemas: by name, in a list, or one.
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas"))
_LISTED = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_ONE = frozenset(("items", "additionalProperties", "not", "if", "then", "else", "contains",
                  "propertyNames", "unevaluatedProperties", "unevaluatedItems"))  # fmt: skip


def self_contained(schema: Mapping[str, Any], prefix: str = "") -> _Schema:
    """A copy whose references lead into its own `$defs`, to names that begin with `prefix`.

    >>> tree = {"properties": {"next": {"$ref": "#"}}}
    >>> self_contained(tree)
    {'properties': {'next': {'$ref': '#/$defs/0'}}, '$defs': {'0': {'properties': \
{'next': {'$ref': '#/$defs/0'}}}}}

    Raises:
        GrammarError: a reference leads nowhere, or out of the schema.
    """
    copier = _Copier(schema, prefix)
    made: _Schema = copier.copy(schema)
    return {**made, "$defs": copier.definitions} if copier.definitions else made


class _Copier:
    def __init__(self, root: Mapping[str, Any], prefix: str) -> None:
        self._root, self._prefix = root, prefix
        self._names: dict[str, str] = {}
        self.definitions: _Schema = {}

    def copy(self, schema: Any) -> Any:
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            return schema
        made: _Schema = {}
        for key, value in schema.items():
            if key in _REMARKS or value in _NOTHING.get(key, ()):
                continue
            if key == "format" and value not in _FORMATS:
                continue
            made[key] = self._value(key, value)
        return made

    def _value(self, key: str, value: Any) -> Any:
        if key == "$ref":
            return f"#/$defs/{self._named(value)}"
        if key in _NAMED and isinstance(value, Mapping):
            return {name: self.copy(each) for name, each in value.items()}
        if isinstance(value, list) and key in (_LISTED | _ONE):
            return [self.copy(each) for each in value]
        return self.copy(value) if key in _ONE else value

    def _named(self, reference: Any) -> str:
        """The name of a definition, which is copied when it is first heard of."""
        if not isinstance(reference, str):
            raise GrammarError(f"$ref must be a string, not {reference!r:.80}")
        if reference not in self._names:
            found = _found(self._root, reference)
            name = self._names[reference] = f"{self._prefix}{len(self._names)}"
            self.definitions[name] = self.copy(found)
        return self._names[reference]


def _found(root: Any, reference: str) -> Any:
    document, _, pointer = reference.partition("#")
    at = root
    for step in pointer.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(at, list) and name.isdigit() and int(name) < len(at):
            at = at[int(name)]
        elif isinstance(at, Mapping) and name in at:
            at = at[name]
        else:
            raise GrammarError(f"the reference {reference:.80} leads nowhere")
    if document or (pointer and not pointer.startswith("/")):
        raise GrammarError(f"the reference {reference:.80} leads out of the schema")
    return at


def lifted(schema: _Schema, definitions: _Schema, prefix: str) -> _Schema:
    """A schema without its definitions, which join others; new names where theirs are taken.

    >>> known = {"Item": {"type": "null"}}
    >>> lifted({"$ref": "#/$defs/Item", "$defs": {"Item": {"type": "string"}}}, known, "b.")
    {'$ref': '#/$defs/b.0'}
    >>> sorted(known)
    ['Item', 'b.0']
    """
    own = schema.get("$defs", {})
    if any(definitions.get(name, each) != each for name, each in own.items()):
        while any(name.startswith(prefix) for name in definitions):
            prefix += "."
        schema = self_contained(schema, prefix)
    definitions |= schema.get("$defs", {})
    return {key: value for key, value in schema.items() if key != "$defs"}


def kinds(schema: Any, definitions: Mapping[str, Any]) -> frozenset[str]:
    """The JSON types that a self-contained schema allows; none where it allows any.

    >>> sorted(kinds({"anyOf": [{"$ref": "#/$defs/0"}, {"type": "null"}]}, {"0": {"const": 3}}))
    ['integer', 'null', 'number']
    """
    return _kinds(schema, definitions, 0)


def _kinds(schema: Any, definitions: Mapping[str, Any], depth: int) -> frozenset[str]:
    if not isinstance(schema, Mapping) or depth > 20:  # a reference to itself
        return frozenset()
    found = _stated(schema)
    if "$ref" in schema:
        target = definitions.get(str(schema["$ref"]).removeprefix("#/$defs/"))
        found = _both(found, _kinds(target, definitions, depth + 1))
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            options = [_kinds(each, definitions, depth + 1) for each in schema[key]]
            found = _both(found, frozenset().union(*options) if all(options) else frozenset())
    for each in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        found = _both(found, _kinds(each, definitions, depth + 1))
    return found


def _stated(schema: Mapping[str, Any]) -> frozenset[str]:
    stated = schema.get("type")
    if isinstance(stated, str):
        stated = [stated]
    if isinstance(stated, list):
        named = frozenset(each for each in stated if isinstance(each, str))
        return named | {"integer"} if "number" in named else named
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return frozenset().union(*map(kinds_of, values if isinstance(values, list) else []))


def _both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    return one & other if one and other else one | other


def arguments(schema: Mapping[str, Any]) -> tuple[_Schema, list[str]] | None:
    """Names and schemas of a function's arguments, and which are required; None for any.

    >>> arguments({"allOf": [{"$ref": "#/$defs/0"}], "$defs": {"0": {"properties": {"a": {}}}}})
    ({'a': {}}, [])
    """
    found: _Schema = {}
    required: list[str] = []
    named = _gather(schema, schema.get("$defs", {}), found, required, 0)
    return (found, required) if named else None


def _gather(
    schema: Any, definitions: Mapping[str, Any], found: _Schema, required: list[str], depth: int
) -> bool:
    """Whether all arguments that there may be are named."""
    if not isinstance(schema, Mapping) or depth > 20 or "anyOf" in schema or "oneOf" in schema:
        return False
    named = isinstance(schema.get("properties"), Mapping)
    named |= schema.get("additionalProperties") is False
    parts = list(schema["allOf"]) if isinstance(schema.get("allOf"), list) else []
    if "$ref" in schema:
        parts.append(definitions.get(str(schema["$ref"]).removeprefix("#/$defs/")))
    for part in parts:
        named |= _gather(part, definitions, found, required, depth + 1)
    if isinstance(schema.get("properties"), Mapping):
        may_be = {name: each for name, each in schema["properties"].items() if each is not False}
        found |= may_be
    needed = schema.get("required")
    required += (
        [name for name in needed if name not in required] if isinstance(needed, list) else []
    )
    return named
