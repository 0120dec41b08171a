"""The questions of `ask --jsonl`: from lines of standard input, or from files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from qwen3_mlx.errors import PromptError
from qwen3_mlx_app import reading

__all__ = ["Input", "from_files", "from_lines", "stdin_lines"]

Prompt: TypeAlias = str | list[Mapping[str, Any]]

#: What a line may wish for itself, beside its prompt.
_WISHES = (
    "max_tokens", "sampling", "seed", "stop", "system", "thinking", "thinking_budget", "timeout",
)  # fmt: skip
_KNOWN = ("id", "messages", "prompt", *_WISHES)


@dataclass(frozen=True, slots=True)
class Input:
    """One question: number `n`, from 1. With an `error` it cannot be asked.

    `about` is what tells the person which one it was: "id" or "file".
    """

    n: int
    prompt: Prompt = ""
    wishes: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    def key(self, model: str) -> str:
        """Sixteen hexadecimal digits that change with everything that the answer depends on."""
        told = [model, self.prompt, self.wishes, self.about, self.error]
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def from_lines(words: str, lines: Iterable[bytes], wishes: Mapping[str, Any]) -> Iterator[Input]:
    """A question for each line that is not blank; `words` stand before each.

    >>> [each.prompt for each in from_lines("Say:", [b"one\\n", b'{"prompt": "two"}'], {})]
    ['Say:\\n\\none', 'Say:\\n\\ntwo']
    """
    filled = ((place, line) for place, line in enumerate(lines, 1) if line.strip())
    for number, (place, line) in enumerate(filled, 1):
        try:
            yield _from_line(number, place, words, line, wishes)
        except PromptError as error:
            yield Input(number, _joined(words, line.decode(errors="replace")), error=str(error))


def from_files(words: str, paths: Sequence[str], wishes: Mapping[str, Any]) -> Iterator[Input]:
    """A question for each file."""
    for number, path in enumerate(paths, 1):
        about = {"file": path}
        try:
            yield Input(number, _joined(words, reading.file(path)), wishes, about)
        except PromptError as error:
            yield Input(number, path, wishes, about, str(error))


def stdin_lines() -> tuple[Iterable[bytes], int | None]:
    """Lines of standard input, and how many are not blank, where that can be known now."""
    stream = sys.stdin.buffer
    try:
        whole = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        whole = True  # not a file of the system: a test's
    if not whole:
        # Of its own: a thread may still be reading when the interpreter closes sys.stdin.
        return open(stream.fileno(), "rb", closefd=False), None
    lines = stream.readlines()
    return lines, sum(bool(line.strip()) for line in lines)


def _from_line(
    number: int, place: int, words: str, line: bytes, wishes: Mapping[str, Any]
) -> Input:
    """The question of one line; `place` counts blank lines too, as editors do."""
    text = reading.decoded(line, f"line {place}").strip()
    if not text.startswith(("{", '"')):
        return Input(number, _joined(words, text), wishes)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.startswith('"'):
            return Input(number, _joined(words, text), wishes)  # a quotation
        raise PromptError(f"line {place} begins as an object and is not JSON: {error}") from error
    if isinstance(value, str):
        return Input(number, _joined(words, value), wishes)
    return _from_object(number, place, words, value, wishes)


def _from_object(
    number: int, place: int, words: str, value: dict[str, Any], wishes: Mapping[str, Any]
) -> Input:
    unknown = next((name for name in value if name not in _KNOWN), None)
    if unknown is not None:
        raise PromptError(
            f"line {place} has {unknown!r}, and may have: {', '.join(sorted(_KNOWN))}"
        )
    own = {name: value[name] for name in _WISHES if value.get(name) is not None}
    about = {"id": value["id"]} if "id" in value else {}
    prompt, messages = value.get("prompt"), value.get("messages")
    if isinstance(prompt, str) and messages is None:
        return Input(number, _joined(words, prompt), {**wishes, **own}, about)
    if prompt is None and isinstance(messages, list) and not words:
        return Input(number, messages, {**wishes, **own}, about)
    raise PromptError(
        f'line {place} needs "prompt", a text, or "messages", a list (and no words of the '
        "command line before it)"
    )


def _joined(words: str, text: str) -> str:
    return "\n\n".join(part for part in (words, text) if part.strip())
