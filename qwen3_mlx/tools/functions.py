"""A Python function as a tool: name, description and parameters from its hints and docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_type_hints

from qwen3_mlx.errors import OptionError, ToolError
from qwen3_mlx.grammar.schemas import lifted
from qwen3_mlx.grammar.types import build, schema_of

__all__ = ["AnyTool", "Tool", "tools_of"]


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    `parameters` is the JSON Schema of its arguments. `function` is None where the caller
    carries out the calls himself. `seconds` is how long a call may take, None for the run's.

    >>> def add(a: int, b: int = 0) -> int:
    ...     '''Add two numbers.
    ...
    ...     Args:
    ...         a: the first one
    ...     '''
    ...     return a + b
    >>> tool = Tool.of(add)
    >>> tool.description, tool.parameters["properties"]["a"]
    ('Add two numbers.', {'type': 'integer', 'description': 'the first one'})
    >>> tool.call({"a": 2, "b": 3})
    5
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any] | None = None
    hints: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float | None = None

    @classmethod
    def of(cls, function: Callable[..., Any], seconds: float | None = None) -> Tool:
        """A tool from a function; hints say the types, the docstring says what for.

        >>> def wait(seconds: float) -> None:
        ...     "Do nothing for a while."
        >>> Tool.of(wait, seconds=5).parameters["required"]
        ['seconds']

        Raises:
            OptionError: a parameter has no hint, or one that JSON cannot express.
        """
        name = getattr(function, "__name__", "")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", name):
            raise OptionError(f"a tool needs a name of letters, digits and _, not {name!r}")
        try:
            hints = get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as error:
            raise OptionError(f"tool {name}: a type hint cannot be read ({error})") from error
        words, about = _docstring(function)
        properties, required = {}, []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise OptionError(f"tool {name} takes *{parameter.name}: name its parameters")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise OptionError(
                    f"tool {name}: {parameter.name!r} has no name, as / says: calls do"
                )
            if parameter.name not in hints:
                raise OptionError(f"tool {name}: parameter {parameter.name!r} has no type hint")
            schema = schema_of(hints[parameter.name])
            if parameter.name in about:
                schema.setdefault("description", about[parameter.name])
            properties[parameter.name] = schema
            if parameter.default is parameter.empty:
                required.append(parameter.name)
        parameters = _hoisted(properties, required)
        return cls(name, words, parameters, function, hints, seconds)

    @classmethod
    def given(cls, schema: Mapping[str, Any]) -> Tool:
        """A tool from its JSON description, with or without the "function" around it.

        >>> Tool.given({"name": "clock", "description": "Tell the time."}).name
        'clock'

        Raises:
            OptionError: it has no name.
        """
        inner = schema.get("function", schema)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise OptionError(f"a tool needs a name: {dict(schema)!r:.80}")
        parameters = inner.get("parameters") or {"type": "object", "properties": {}}
        return cls(inner["name"], str(inner.get("description") or ""), parameters)

    @property
    def schema(self) -> dict[str, Any]:
        """As chat templates read it.

        >>> Tool.given({"name": "clock"}).schema["function"]["parameters"]
        {'type': 'object', 'properties': {}}
        """
        inner = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": inner}

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with arguments from JSON; of a coroutine, run it to its end.

        >>> def double(n: int) -> int:
        ...     return 2 * n
        >>> Tool.of(double).call({"n": 4})
        8

        Raises:
            ToolError: an argument is missing, unknown or of the wrong type; the model is told.
        """
        return self.bound(arguments)()

    def bound(self, arguments: Mapping[str, Any]) -> Callable[[], Any]:
        """The call, checked and ready to be made.

        >>> def double(n: int) -> int:
        ...     return 2 * n
        >>> Tool.of(double).bound({"n": 4})()
        8

        Raises:
            ToolError: as `call` does.
        """
        function = self.function
        if function is None:
            raise ToolError(f"{self.name} cannot be called here")
        known = self.parameters.get("properties", {})
        for name in arguments:
            if name not in known:
                raise ToolError(f"{self.name} has no argument {name!r}: it takes {_list(known)}")
        for name in self.parameters.get("required", []):
            if name not in arguments:
                raise ToolError(f"{self.name} needs the argument {name!r}")
        values = {name: self._value(name, value) for name, value in arguments.items()}
        if inspect.iscoroutinefunction(function):
            return lambda: _awaited(function(**values))
        return lambda: function(**values)

    def _value(self, name: str, value: Any) -> Any:
        try:
            return build(self.hints.get(name, Any), value)
        except (ValueError, TypeError) as error:
            raise ToolError(f"argument {name!r} of {self.name}: {error}") from error


#: What may be given as a tool.
AnyTool: TypeAlias = Tool | Callable[..., Any] | Mapping[str, Any]


def tools_of(tools: Sequence[AnyTool]) -> list[Tool]:
    """Functions, tools and JSON descriptions as tools, each name once."""
    made: dict[str, Tool] = {}
    for each in tools:
        if isinstance(each, Tool):
            tool = each
        elif isinstance(each, Mapping):
            tool = Tool.given(each)
        elif callable(each):
            tool = Tool.of(each)
        else:
            raise OptionError(f"a tool is a function, a Tool or a JSON description, not {each!r}")
        if tool.name in made:
            raise OptionError(f"two tools are named {tool.name!r}: rename one")
        made[tool.name] = tool
    return list(made.values())


def _hoisted(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """One object schema, with the definitions of all its properties at its top."""
    definitions: dict[str, Any] = {}
    for name, schema in properties.items():
        properties[name] = lifted(schema, definitions, f"{name}.")
    made = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return {**made, "$defs": definitions} if definitions else made


_SECTIONS = "Arg|Argument|Parameter|Return|Yield|Raise|Example|Note"


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What comes before the sections, and what "Args:" says of each parameter."""
    text = inspect.getdoc(function) or ""
    words = re.split(rf"\n\s*(?:(?:{_SECTIONS})s?(?::|\n\s*---)|>>>)", text)[0]
    section = re.search(r"\n(?:Args|Arguments|Parameters):\n((?:[ \t]+.*\n?|\n)+)", text)
    about: dict[str, str] = {}
    last = ""
    for line in section[1].splitlines() if section else ():
        entry = re.match(r"\s{2,8}(\w+)(?:\s*\([^)]*\))?:\s*(.*)", line)
        if entry:
            last = entry[1]
            about[last] = entry[2].strip()
        elif last and line.strip():
            about[last] += " " + line.strip()
    return words.strip(), about


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The value of a coroutine, in an event loop of its own: calls have their own threads."""
    import asyncio

    return asyncio.run(coroutine)


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "no arguments"
