"""Chats as files: Markdown to read, JSON to keep. JSON holds every branch and can come back."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.restoring import restored
from qwen3_mlx_app.tui.store import SavedTurn, Store
from qwen3_mlx_app.tui.text import one_line, whole

__all__ = [
    "ChatFileError",
    "SavedChat",
    "free_name",
    "from_json",
    "read_chat",
    "to_json",
    "to_markdown",
]

_FORMAT = "qwen3-mlx chat"
_VERSION = 1


class ChatFileError(ValueError):
    """A file is no chat of ours; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class SavedChat:
    """A whole chat; `leaf` is the last turn of the branch on show."""

    title: str
    system: str | None = None
    leaf: int | None = None
    turns: list[SavedTurn] = field(default_factory=list)

    def branch(self) -> list[SavedTurn]:
        """The turns on show, first to last."""
        known = {turn.id: turn for turn in self.turns}
        line: list[SavedTurn] = []
        at = known.get(self.leaf or 0) or (self.turns[-1] if self.turns else None)
        while at is not None:
            line.append(at)
            at = known.get(at.parent) if at.parent is not None else None
        return line[::-1]


def read_chat(store: Store, chat: int) -> SavedChat:
    """A chat from the database."""
    title, system, leaf = store.chat(chat)
    return SavedChat(title, system, leaf, store.turns(chat))


def free_name(name: str) -> Path:
    """The name, or the first numbered one that does not exist: nothing is overwritten.

    In a folder it is chat.md.
    """
    wish = path = Path(name) / "chat.md" if Path(name).is_dir() else Path(name)
    number = 2
    while os.path.lexists(path):
        path = wish.with_name(f"{wish.stem}-{number}{wish.suffix}")
        number += 1
    return path


def to_markdown(saved: SavedChat) -> str:
    """The branch on show, thoughts in a fold that Markdown viewers understand."""
    parts = [f"# {saved.title or 'Chat'}"]
    if saved.system:
        parts.append("\n".join(f"> {line}" for line in saved.system.splitlines()))
    for turn in saved.branch():
        parts.append(f"## You\n\n{turn.question}")
        model = turn.details.get("model") or "Qwen3"
        thought = turn.thought.strip()
        fold = f"<details><summary>Thought</summary>\n\n{thought}\n\n</details>\n\n"
        said = f"{fold if thought else ''}{_calls(turn)}{turn.answer.strip()}"
        parts.append(f"## {model}\n\n{said}")
    return whole("\n\n".join(parts) + "\n")


def _calls(turn: SavedTurn) -> str:
    """The tools that were called and what they said, cut: the JSON has all of it."""
    lines = [
        f"{one_line(f'{use.name} {use.arguments}', 200)} → {one_line(use.result or '', 200)}"
        for use in restored(turn).tools
    ]
    return "```\n" + "\n".join(lines) + "\n```\n\n" if lines else ""


def to_json(saved: SavedChat) -> str:
    """Everything, readable, with a name and a number for the format."""
    value = {"format": _FORMAT, "version": _VERSION} | asdict(saved)
    return whole(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _time(value: object) -> float:
    """Seconds since 1970, 0 for what cannot be any."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if 0 <= value < 1e11 else 0.0


def from_json(text: str) -> SavedChat:
    """A chat from what `to_json` wrote.

    >>> from_json(to_json(SavedChat("a", turns=[SavedTurn("q", id=3)]))).turns[0].question
    'q'

    Raises:
        ChatFileError: it is no such file, or its turns do not hang together.
    """
    try:
        # Half a character, as "\ud800" is, could neither be stored nor drawn.
        value = json.loads(whole(json.dumps(json.loads(text), ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        raise ChatFileError(t("it is no JSON ({why})", why=error)) from error
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise ChatFileError(t("it is no chat that /export wrote"))
    if value.get("version") != _VERSION:
        its = repr(value.get("version"))
        raise ChatFileError(t("its version is {n}, and {known} is known", n=its, known=_VERSION))
    turns = value.get("turns")
    if not isinstance(turns, list):
        raise ChatFileError(t("it has no list of turns"))
    if not turns:  # there would be nothing to show or to store
        raise ChatFileError(f"{t('it is no chat that /export wrote')} ({t('{n} turns', n=0)})")
    known: set[int] = set()
    read = [_turn(item, known) for item in turns]
    leaf, system = value.get("leaf"), value.get("system")
    return SavedChat(
        str(value.get("title") or ""),
        system if isinstance(system, str) else None,
        leaf if type(leaf) is int and leaf in known else None,
        read,
    )


def _turn(item: Any, known: set[int]) -> SavedTurn:
    """One turn, checked; its parent must have come before it, so there can be no circle."""
    if not isinstance(item, dict) or not isinstance(item.get("question"), str):
        raise ChatFileError(t("a turn has no question"))
    number, parent = item.get("id"), item.get("parent")
    if type(number) is not int or number in known:
        raise ChatFileError(t("a turn has no id of its own"))
    if parent is not None and (type(parent) is not int or parent not in known):
        text = t("turn {n} follows a turn that does not come before it", n=number)
        raise ChatFileError(text)
    known.add(number)
    created, details = item.get("created"), item.get("details")
    return SavedTurn(
        item["question"],
        number,
        parent,
        _time(created),
        str(item.get("thought") or ""),
        str(item.get("answer") or ""),
        bool(item.get("thinks", True)),
        str(item.get("finish") or "stop"),
        details if isinstance(details, dict) else {},
    )
