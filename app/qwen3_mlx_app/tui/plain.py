"""The chat without a screen: labelled whole lines, for pipes and for screen readers.

No colours, no boxes, no cursor movement. A line is printed when it is complete, since a
screen reader stumbles over a line that grows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx_app.tui.attachments import (
    AttachmentError,
    attached,
    missing_files,
    with_attachments,
)
from qwen3_mlx_app.tui.budgets import budget_name
from qwen3_mlx_app.tui.calls import ToolUse
from qwen3_mlx_app.tui.commands import COMMANDS, Unknown, parse
from qwen3_mlx_app.tui.describe import describe, why_ended
from qwen3_mlx_app.tui.exchange import ChatFileError, free_name, from_json, to_json, to_markdown
from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.state import VIEWS, Phase, Turn
from qwen3_mlx_app.tui.store import StoreError
from qwen3_mlx_app.tui.text import clean, plain_json, seconds, tokens, tokens_per_second

__all__ = ["PlainChat"]

_LABELS = {
    "you": "you: ",
    "thought": "thought: ",
    "model": "qwen3: ",
    "tool": "tool: ",
    "note": "note: ",
}
#: Characters of a tool's result that are printed.
SHOWN = 400


class PlainChat:
    """A conversation over two streams. `run` returns the exit status."""

    def __init__(self, session: Session, source: TextIO, sink: TextIO) -> None:
        self.session = session
        self.state = session.state
        self._source = source
        self._sink = sink
        self._interactive = source.isatty()
        self._over = False
        self._failures = 0
        self._told = 0
        self._told_trouble = False

    def run(self) -> int:
        """Read, answer, repeat; 0 unless an answer failed."""
        self.session.start()
        try:
            while not self._over and (text := self._read()) is not None:
                if text:
                    self._take(text)
        finally:
            self.session.close()
        return 1 if self._failures else 0

    def _read(self) -> str | None:
        """The next line; None at the end of the input or at ^C."""
        try:
            if self._interactive:
                self._sink.write(_label("you"))
                self._sink.flush()
            line = self._source.readline()
        except KeyboardInterrupt:
            self._print("")
            return None
        if not line:
            return None
        text = clean(line).rstrip()
        if text and not self._interactive:
            self._print(_label("you") + text.strip())
        return text

    def _take(self, text: str) -> None:
        """A command or a message."""
        parsed = parse(text)
        if isinstance(parsed, Unknown):
            self._note(parsed.message)
        elif parsed is not None:
            command, argument = parsed
            if command.lacks and not argument:
                self._note(command.usage)
            else:
                command.run(self, argument)
        else:
            self._send(text.strip())

    def _send(self, text: str, thinks: bool | None = None) -> None:
        """With the files that it names."""
        try:
            files = attached(text)
        except AttachmentError as error:
            self._note(str(error))
            return
        for name in missing_files(text):
            self._note(t("There is no file {name}: its name alone was sent.", name=name))
        self._follow(self.session.send(with_attachments(text, files), thinks))

    def _follow(self, turn: Turn | None) -> None:
        """Print a turn while it grows. ^C stops it and keeps what was said; a second one ends."""
        if turn is None:
            return
        thought = _Lines(_label("thought"), self._print)
        answer = _Lines(_label("model"), self._print)
        stopping, self._told = False, 0
        while turn.running and not self._over:
            try:
                self._wait(turn, thought, answer)
            except KeyboardInterrupt:
                self._over = stopping
                stopping = True
                self.session.stop()
        self._say(turn, thought, answer)
        thought.end()
        answer.end()
        self._close(turn)

    def _wait(self, turn: Turn, thought: _Lines, answer: _Lines) -> None:
        self.session.worker.wait(0.2)
        self.session.drain()
        self._say(turn, thought, answer)
        if (use := turn.asking) is not None:
            self._ask_about(use)

    def _ask_about(self, use: ToolUse) -> None:
        """Whether a call may run. Lines from a pipe are messages, and no yes to anything."""
        values = ", ".join(
            f"{plain_json(name)[1:-1]}={plain_json(value)}" for name, value in use.values.items()
        )
        self._print(f"{_label('tool')}{clean(use.name)}({values})")
        if not self._interactive:
            self.session.allow("no")
            self._note(t("not run: the input is no terminal, so nobody can be asked"))
            return
        self._sink.write(t("May this tool run? y/n: "))
        self._sink.flush()
        allowed = self._source.readline().strip().lower() in ("y", "yes")
        self.session.allow("yes" if allowed else "no")

    def _say(self, turn: Turn, thought: _Lines, answer: _Lines) -> None:
        """What came by now, the results of calls between the texts before and after them."""
        for use in turn.tools[self._told :]:
            if use.after is None:
                break
            self._say_texts(turn.thought[: use.after[0]], turn.answer[: use.after[1]],
                            thought, answer)  # fmt: skip
            thought.end()
            answer.end()
            if use.result is None:
                return
            said = clean(use.result)
            cut = f"{said[:SHOWN]}…" if len(said) > SHOWN else said
            self._print(f"{_label('tool')}{clean(use.name)} → {cut}")
            self._told += 1
        self._say_texts(turn.thought, turn.answer, thought, answer)

    def _say_texts(self, thinks: str, says: str, thought: _Lines, answer: _Lines) -> None:
        if self.state.view != "line":
            thought.feed(thinks)
        turn = self.state.current
        if turn is None or turn.phase is not Phase.THINKING:
            thought.end()
        answer.feed(says)

    def _close(self, turn: Turn) -> None:
        """How it ended."""
        for notice in turn.notices:
            self._note(notice)
        if turn.error is not None:
            self._failures += 1
            self._note(describe(turn.error))
        elif turn.reply is not None:
            thought = t("thought {time}", time=seconds(turn.thought_seconds))
            parts = [
                why_ended(turn), thought if turn.thought_tokens else "",
                tokens(turn.answer_tokens), tokens_per_second(turn.rate(0.0)),
            ]  # fmt: skip
            self._note(", ".join(part for part in parts if part))
        keeper = self.session.keeper
        if keeper.can_keep and keeper.trouble and not self._told_trouble:
            self._told_trouble = True
            self._note(t("Chats are not saved: {why}.", why=keeper.trouble))

    def _note(self, text: str) -> None:
        self._print(_label("note") + clean(text))

    def _print(self, line: str) -> None:
        self._sink.write(line + "\n")
        self._sink.flush()

    # What the commands ask for (see commands.CommandTarget)

    def show_help(self) -> None:
        """The commands; the keys are a line to send, ^C and ^D."""
        for command in COMMANDS:
            self._note(f"{command.usage}: {t(command.help)}")
        self._note(t("Ctrl-C stops an answer; at the prompt, it ends the chat like Ctrl-D"))

    def new_chat(self) -> None:
        """Forget the conversation."""
        self.session.new()
        self._note(t("a new chat"))

    def set_thinking(self, on: bool) -> None:
        """Set the mode of the messages to come."""
        reason = self.session.set_thinking(on)
        self._note(reason or (t("thinking on") if on else t("thinking off")))

    def ask(self, text: str, thinks: bool) -> None:
        """Ask with a mode for this turn."""
        self._send(text, thinks)

    def set_budget(self, budget: int | None) -> None:
        """How long the thoughts to come may be."""
        self.state.budget = budget
        self.session.set_thinking(True)
        self._note(t("Thinking budget: {name}", name=budget_name(budget)))

    def answer_now(self) -> None:
        """Lines are read between answers, never during a thought."""
        self._note(t("There is no thought to end."))

    def go_on(self) -> None:
        """Continue an answer that was cut off."""
        turn = self.session.go_on()
        if turn is None:
            self._note(t("The last answer is whole: there is nothing to continue."))
        self._follow(turn)

    def fork(self) -> None:
        """Go on in a copy."""
        if self.state.turns:
            self.session.fork()
            self._note(say("You go on in a copy; the old chat stays in {chats}."))

    def show_chats(self, search: str = "") -> None:
        """List them, or open the one of that number."""
        store = self.session.keeper.store
        if store is None:
            why = self.session.keeper.trouble or t("this input is a pipe")
            self._note(t("Chats are not saved: {why}.", why=why))
            return
        if search.isdecimal():
            opened = self.session.open(int(search))
            self._note(self.session.keeper.title if opened else t("This chat cannot be opened."))
            for turn in self.state.turns if opened else ():
                self._print(_label("you") + clean(turn.user))
                self._print(_label("model") + clean(turn.answer.strip()))
            return
        try:
            rows = [hit.chat for hit in store.search(search)] if search else store.chats(20)
        except StoreError as error:
            self._note(t("Not done: {why}", why=error))
            return
        for row in rows:
            self._note(f"/chats {row.id}  {clean(row.title)}")
        if not rows:
            self._note(t("Nothing is found.") if search else t("There are no chats yet."))

    def show_models(self) -> None:
        """Needs a screen to choose on."""
        self._note(t("this needs the full screen: a terminal, without --plain"))

    def show_settings(self) -> None:
        """Needs a screen to choose on."""
        self._note(t("this needs the full screen: a terminal, without --plain"))

    def show_prompt(self, text: str) -> None:
        """What the model reads."""
        while self.session.worker.model is None and self.state.load_error is None:
            self.session.worker.wait(0.2)
            self.session.drain()
        try:
            prompt, tokens = self.session.prompt(text)
        except Qwen3Error as error:
            self._note(str(error))
            return
        self._print(prompt)
        self._note(t("The prompt · {n:,} tokens", n=tokens))

    def restart(self) -> None:
        """Load the model anew, and ask again what failed."""
        failed = self.state.turns[-1] if self.state.turns else None
        self.session.restart()
        if failed is not None and failed.error is not None:
            self._follow(self.session.retry(failed))

    def set_title(self, title: str) -> None:
        """Name this chat."""
        self.session.keeper.rename(title)

    def export(self, name: str) -> None:
        """Write the chat to a file; `.json` keeps every branch."""
        if not self.state.turns:
            self._note(t("There is nothing to export yet."))
            return
        path = free_name(os.path.expanduser(name or "chat.md"))
        saved = self.session.saved()
        text = to_json(saved) if path.suffix == ".json" else to_markdown(saved)
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            why = error.strerror or str(error)
            self._note(t("{name} was not written: {why}", name=path, why=why))
        else:
            self._note(t("Written: {name}", name=path))

    def import_chat(self, name: str) -> None:
        """Read a chat that was exported as JSON."""
        try:
            self.session.adopt(from_json(Path(os.path.expanduser(name)).read_text("utf-8")))
        except (OSError, UnicodeDecodeError, ChatFileError) as error:
            why = getattr(error, "strerror", None) or error
            self._note(t("{name} was not imported: {why}", name=name, why=why))

    def retry(self) -> None:
        """Answer the last question anew."""
        turn = self.session.retry()
        if turn is None:
            self._note(t("Nothing to retry: nothing was asked yet."))
        self._follow(turn)

    def set_system(self, text: str) -> None:
        """The system prompt of the messages to come."""
        self.state.system = text or None
        self.session.keeper.system_changed()
        removed = t("The system prompt is removed.")
        self._note(t("System prompt: {text}", text=text) if text else removed)

    def set_view(self, view: str) -> None:
        """`line` leaves thoughts out; the other views print them."""
        found = next((known for known in VIEWS if known == view), None)
        if view and found is None:
            self._note(t("/thoughts takes one of: {views}", views=", ".join(VIEWS)))
            return
        self.state.view = found or self.state.next_view()
        self._note(t("Thoughts: {view}", view=t(self.state.view)))

    def copy_answer(self) -> None:
        """There is no clipboard behind a pipe."""
        self._note(t("this needs the full screen: a terminal, without --plain"))

    def quit(self) -> None:
        """End after this line."""
        self._over = True


def _label(name: str) -> str:
    """Who speaks, in the language of the interface."""
    return t(_LABELS[name])


class _Lines:
    """Prints a growing text line by line: the label first, the last line at the end.

    What comes after an end, as an answer does after a call, has the label again.
    """

    def __init__(self, label: str, write: Callable[[str], None]) -> None:
        self._first = self._label = label
        self._write = write
        self._done = 0
        self._text = ""

    def feed(self, text: str) -> None:
        """Print the lines that are complete by now."""
        self._text = text
        while (end := text.find("\n", self._done)) >= 0:
            self._line(text[self._done : end])
            self._done = end + 1

    def end(self) -> None:
        """Print what is left."""
        if self._done < len(self._text):
            self._line(self._text[self._done :])
            self._done = len(self._text)
        self._label = self._first

    def _line(self, line: str) -> None:
        if line.strip() or not self._label:
            self._write(self._label + clean(line).rstrip())
            self._label = ""
