"""Jinja2 as chat templates expect it: Transformers' dialect in an immutable sandbox.

A template comes with a download and is foreign code: it sees JSON values and nothing else,
and cannot reach or change Python objects. jinja2 is imported when the first template is
compiled, because that costs 50 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from qwen3_mlx.errors import CheckpointError, PromptError

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

__all__ = ["Renderer", "compile_template"]

#: Template variables in, text out.
Renderer: TypeAlias = Callable[[Mapping[str, Any]], str]

# Methods and filters that look into a text for their arguments and do not write them.
_SEARCHING = frozenset(
    {
        *("count", "endswith", "find", "index", "lstrip", "partition", "removeprefix"),
        *("removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip"),
        *("split", "startswith", "strip"),
        *("attr", "groupby", "map", "reject", "rejectattr", "select", "selectattr"),
    }
)


@lru_cache(maxsize=64)
def compile_template(source: str, marks: tuple[tuple[str, str], ...] = ()) -> Renderer:
    """Compile once, render often.

    With `marks`, pairs of a control token and a stand-in, every control token that the
    template itself writes is replaced by its stand-in; those it only looks for stay.
    Raises `CheckpointError` if the template is not valid Jinja2.
    """
    import jinja2

    environment = _environment()
    try:
        tree = environment.parse(source)
        _mark(tree, marks)
        template = environment.from_string(tree)
    except jinja2.TemplateSyntaxError as error:
        raise CheckpointError(
            f"the chat template is damaged at line {error.lineno} ({error.message}): download"
            " the checkpoint again"
        ) from error

    def render(variables: Mapping[str, Any]) -> str:
        try:
            return template.render(variables)
        except PromptError:
            raise
        except Exception as error:  # foreign code can fail in any way
            raise PromptError(
                f"the chat template cannot render this conversation ({error}): check the order"
                " of the roles, the contents and the arguments of tool calls"
            ) from error

    return render


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import ext, nodes, parser
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class GenerationBlock(ext.Extension):
        """`{% generation %}` marks the assistant's words for training; here its body is all."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

        def parse(self, parser: parser.Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class PlainNamespace(Namespace):
        """Without names that begin with an underscore, which could reach into Python."""

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise SecurityError(f"a namespace cannot have the name {name!r}")
            super().__setitem__(name, value)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        namespace=PlainNamespace,
        dict=_dict,
    )
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja2's own: no HTML escapes, keys in their order, letters as they are."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise PromptError(f"the chat template refuses this conversation: {message}")


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _dict(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """`dict` as a function, so that templates do not hold the type."""
    return dict(*args, **kwargs)


def _mark(node: nodes.Node, marks: tuple[tuple[str, str], ...]) -> None:
    """Replace control tokens in the literals below the node that can reach the output."""
    from jinja2 import nodes

    if isinstance(node, nodes.TemplateData):
        node.data = _replaced(node.data, marks)
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        node.value = _replaced(node.value, marks)
    elif not isinstance(node, nodes.Compare | nodes.Test):  # those give only true or false
        for child in _written(node):
            _mark(child, marks)


def _written(node: nodes.Node) -> Iterable[nodes.Node]:
    """The children whose text can be written; the others only say what to look for."""
    from jinja2 import nodes

    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        searching = node.node.attr in _SEARCHING
    elif isinstance(node, nodes.Filter):
        searching = node.name in _SEARCHING
    else:
        searching = isinstance(node, nodes.Getitem)
    return node.iter_child_nodes(only=("node",)) if searching else node.iter_child_nodes()


def _replaced(text: str, marks: tuple[tuple[str, str], ...]) -> str:
    for token, mark in marks:
        text = text.replace(token, mark)
    return text
