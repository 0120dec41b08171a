"""The slash commands, in one table: the composer, the palette, the help and plain mode read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qwen3_mlx_app.tui.budgets import parse_budget
from qwen3_mlx_app.tui.language import t

__all__ = ["COMMANDS", "Command", "CommandTarget", "Unknown", "matching", "parse"]


class CommandTarget(Protocol):
    """What a front end must be able to do for the commands."""

    def show_help(self) -> None: ...
    def new_chat(self) -> None: ...
    def set_thinking(self, on: bool) -> None: ...
    def ask(self, text: str, thinks: bool) -> None: ...
    def set_budget(self, budget: int | None) -> None: ...
    def answer_now(self) -> None: ...
    def retry(self) -> None: ...
    def go_on(self) -> None: ...
    def fork(self) -> None: ...
    def show_chats(self, search: str = "") -> None: ...
    def show_models(self) -> None: ...
    def show_settings(self) -> None: ...
    def show_prompt(self, text: str) -> None: ...
    def restart(self) -> None: ...
    def set_title(self, title: str) -> None: ...
    def export(self, name: str) -> None: ...
    def import_chat(self, name: str) -> None: ...
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

    @property
    def lacks(self) -> bool:
        """Whether it means nothing alone."""
        return bool(self.argument) and not self.argument.startswith("[")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that looks like a command and is none."""

    name: str

    @property
    def message(self) -> str:
        """What to tell the person."""
        text = "There is no command /{name}. /help lists them; a space before / sends it as text"
        return t(text, name=self.name)


def _think(target: CommandTarget, text: str) -> None:
    """With a number, a budget; with a text, thinking for this one turn; alone, for all to come.

    A budget of nothing is no thinking: 0 in the settings means no limit.
    """
    budget = parse_budget(text) if text else ""
    if budget == 0:
        target.set_thinking(False)
    elif not isinstance(budget, str):
        target.set_budget(budget)
    elif text:
        target.ask(text, True)
    else:
        target.set_thinking(True)


def _no_think(target: CommandTarget, text: str) -> None:
    """With a text, no thinking for this one turn; alone, for all to come."""
    if text:
        target.ask(text, False)
    else:
        target.set_thinking(False)


COMMANDS: tuple[Command, ...] = (
    Command("help", "Keys and commands", lambda target, _: target.show_help()),
    Command("new", "Start a new chat", lambda target, _: target.new_chat()),
    Command("chats", "Find a chat; with TEXT, search for it",
            lambda target, text: target.show_chats(text), "[TEXT]"),
    Command("think", "Think first; 2k sets a budget, off removes it; TEXT: just for it",
            _think, "[2k|TEXT]"),
    Command("no_think", "Answer at once, or just for TEXT", _no_think, "[TEXT]"),
    Command("answer", "End the thought and answer from it", lambda target, _: target.answer_now()),
    Command("retry", "Answer the last question anew, beside the old answer",
            lambda target, _: target.retry()),
    Command("continue", "Go on with an answer that was cut off", lambda target, _: target.go_on()),
    Command("fork", "Go on in a copy of this chat", lambda target, _: target.fork()),
    Command("models", "Change the model, and see which ones fit",
            lambda target, _: target.show_models()),
    Command("settings", "Language, theme, sampling, memory, keys",
            lambda target, _: target.show_settings()),
    Command("title", "Name this chat", lambda target, text: target.set_title(text), "TEXT"),
    Command("system", "Set the system prompt; alone, remove it",
            lambda target, text: target.set_system(text), "[TEXT]"),
    Command("thoughts", "How thoughts are shown: fold, open, line",
            lambda target, view: target.set_view(view), "[VIEW]"),
    Command("export", "Write the chat to FILE: .md to read, .json with every branch",
            lambda target, name: target.export(name), "[FILE]"),
    Command("import", "Read a chat from a .json FILE",
            lambda target, name: target.import_chat(name), "FILE"),
    Command("prompt", "Show what the model reads, to the letter; with TEXT, for that message",
            lambda target, text: target.show_prompt(text), "[TEXT]"),
    Command("restart", "Load the model anew, and ask again what failed",
            lambda target, _: target.restart()),
    Command("copy", "Copy the last answer", lambda target, _: target.copy_answer()),
    Command("quit", "Leave the chat", lambda target, _: target.quit()),
)  # fmt: skip

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
