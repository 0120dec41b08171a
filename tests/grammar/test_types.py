"""Types into schemas and values into types."""

from __future__ import annotations

import datetime
import enum
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import jsonschema
import pydantic
import pytest

from qwen3_mlx import Grammar, GrammarError
from qwen3_mlx.grammar.types import build, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


@dataclass
class Person:
    name: str
    age: Annotated[int, {"minimum": 0}, "in years"]
    colour: Colour | None = None


class Film(TypedDict):
    title: str
    year: NotRequired[int]


class Book(pydantic.BaseModel):
    title: str
    pages: int = pydantic.Field(ge=1)
    authors: list[Person] = []


CASES: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (float, 3, 3.0),
    (bool, True, True),
    (None, None, None),
    (Any, {"a": 1}, {"a": 1}),
    (int | str, "x", "x"),
    (int | None, None, None),
    (Literal["a", 2], 2, 2),
    (Colour, "red", Colour.RED),
    (list[int], [1], [1]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (set[int], [1, 2], {1, 2}),
    (dict[str, float], {"a": 1}, {"a": 1.0}),
    (datetime.date, "2026-01-31", datetime.date(2026, 1, 31)),
    (uuid.UUID, f"{uuid.UUID(int=7)}", uuid.UUID(int=7)),
    (Person, {"name": "Ann", "age": 3}, Person("Ann", 3)),
    (Person, {"name": "A", "age": 3, "colour": "blue"}, Person("A", 3, Colour.BLUE)),
    (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")])),
    (Film, {"title": "Ran"}, {"title": "Ran"}),
    (Book, {"title": "x", "pages": 2}, Book(title="x", pages=2)),
    (list[Book], [{"title": "x", "pages": 2}], [Book(title="x", pages=2)]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "instance"), CASES, ids=str)
def test_schema_and_instance(kind: Any, value: Any, instance: Any) -> None:
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)
    made = build(kind, value)

    assert made == instance
    assert type(made) is type(instance)
    Grammar.json(kind).compiled()  # llguidance takes it


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "3"),
        (int, True),
        (str, None),
        (list[int], {"a": 1}),
        (tuple[int, str], [1]),
        (Literal["a"], "b"),
        (Person, {"name": "Ann"}),
        (Person, {"name": "Ann", "age": 3, "size": 4}),
        (Film, {"year": 3}),
        (int | None, "x"),
        (float, 10**400),
        (datetime.date, 3),
    ],
)
def test_values_of_other_types_are_refused(kind: Any, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        build(kind, value)


@pytest.mark.parametrize("kind", [complex, bytes, dict[int, str], 3])
def test_types_without_a_form_in_json(kind: Any) -> None:
    with pytest.raises(GrammarError):
        schema_of(kind)


def test_descriptions_and_keywords_of_annotated() -> None:
    schema = schema_of(Person)
    assert schema["properties"]["age"] == {
        "type": "integer",
        "minimum": 0,
        "description": "in years",
    }
    assert schema["required"] == ["name", "age"]
    assert schema["additionalProperties"] is False


def test_a_type_that_contains_itself() -> None:
    assert schema_of(Tree) == {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    }
