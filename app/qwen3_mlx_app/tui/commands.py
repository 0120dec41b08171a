"""The slash commands, in one table: the composer, the palette, the help and plain mode read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .state import VIEWS

__all__ = ["COMMANDS", "Command", "CommandTarget", "Unknown", "matching", "parse"]


class CommandTarget(Protocol):
    """What a front end must be able to do for the commands."""

    def show_help(self) -> None: ...
    def new_chat(self) -> None: ...
    def set_thinking(self, on: bool) -> None: ...
    def ask(self, text: str, thinks: bool) -> None: ...
    def retry(self) -> None: ...
    def set_system(self, text: str) -> None: ...
    def set_view(self, view: str) -> None: ...
    def copy_answer(self) -> None: ...
    def quit(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `argument` names what follows it, in brackets if it may be left out."""

    name: str
    help: str
    run: Callable[[CommandTarget, str], None]
    argument: str = ""

    @property
    def usage(self) -> str:
        """`/name ARGUMENT`."""
        return f"/{self.name} {self.argument}".rstrip()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that looks like a command and is none."""

    name: str

    @property
    def message(self) -> str:
        """What to tell the person."""
        return f"There is no command /{self.name}. F1 lists them; a space before / sends it as text"


def _think(on: bool) -> Callable[[CommandTarget, str], None]:
    """With a text, a mode for this one turn; alone, for the turns to come."""
    return lambda target, text: target.ask(text, on) if text else target.set_thinking(on)


COMMANDS: tuple[Command, ...] = (
    Command("help", "Keys and commands", lambda target, _: target.show_help()),
    Command("new", "Start a new chat", lambda target, _: target.new_chat()),
    Command("think", "Think before answering, or just for TEXT", _think(True), "[TEXT]"),
    Command("no_think", "Answer at once, or just for TEXT", _think(False), "[TEXT]"),
    Command("retry", "Answer the last question anew", lambda target, _: target.retry()),
    Command(
        "system",
        "Set the system prompt; alone, remove it",
        lambda target, text: target.set_system(text),
        "[TEXT]",
    ),
    Command(
        "thoughts",
        f"How thoughts are shown: {', '.join(VIEWS)}",
        lambda target, view: target.set_view(view),
        "[VIEW]",
    ),
    Command("copy", "Copy the last answer", lambda target, _: target.copy_answer()),
    Command("quit", "Leave the chat", lambda target, _: target.quit()),
)

#: A path like /etc/hosts, or a lone slash in prose, is no command.
_SHAPE = re.compile(r"/([A-Za-z_]+)(?:\s+(.*))?\Z", re.DOTALL)


def parse(text: str) -> tuple[Command, str] | Unknown | None:
    """The command and its argument, `Unknown`, or None where the text is a message.

    >>> parse("/think") [0].name
    'think'
    >>> parse("/ect") , parse("/etc/hosts: what is it?")
    (Unknown(name='ect'), None)
    """
    match = _SHAPE.match(text)
    if match is None:
        return None
    name, argument = match[1].lower(), (match[2] or "").strip()
    command = next((command for command in COMMANDS if command.name == name), None)
    return Unknown(name) if command is None else (command, argument)


def matching(text: str) -> tuple[Command, ...]:
    """The commands that a text which is being typed may become."""
    if not text.startswith("/") or any(space in text for space in " \n\t"):
        return ()
    return tuple(command for command in COMMANDS if command.name.startswith(text[1:].lower()))
