"""The chat without a screen: labelled whole lines, for pipes and for screen readers.

No colours, no boxes, no cursor movement. A line is printed when it is complete, since a
screen reader stumbles over a line that grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from qwen3_mlx_app.tui.budgets import budget_name
from qwen3_mlx_app.tui.commands import COMMANDS, Unknown, parse
from qwen3_mlx_app.tui.describe import describe
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.state import VIEWS, Phase, Turn
from qwen3_mlx_app.tui.text import clean, seconds, tokens_per_second

__all__ = ["PlainChat"]

YOU, THOUGHT, MODEL, NOTE = "you: ", "thought: ", "qwen3: ", "note: "


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
                self._sink.write(YOU)
                self._sink.flush()
            line = self._source.readline()
        except KeyboardInterrupt:
            self._print("")
            return None
        if not line:
            return None
        text = clean(line).strip()
        if text and not self._interactive:
            self._print(YOU + text)
        return text

    def _take(self, text: str) -> None:
        """A command or a message."""
        parsed = parse(text)
        if isinstance(parsed, Unknown):
            self._note(parsed.message)
        elif parsed is not None:
            command, argument = parsed
            command.run(self, argument)
        else:
            self._follow(self.session.send(text))

    def _follow(self, turn: Turn | None) -> None:
        """Print a turn while it grows. ^C stops it and keeps what was said; a second one ends."""
        if turn is None:
            return
        thought, answer = _Lines(THOUGHT, self._print), _Lines(MODEL, self._print)
        stopping = False
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

    def _say(self, turn: Turn, thought: _Lines, answer: _Lines) -> None:
        if self.state.view != "line":
            thought.feed(turn.thought)
        if turn.phase is not Phase.THINKING:
            thought.end()
        answer.feed(turn.answer)

    def _close(self, turn: Turn) -> None:
        """How it ended."""
        for notice in turn.notices:
            self._note(notice)
        if turn.error is not None:
            self._failures += 1
            self._note(describe(turn.error))
        elif turn.reply is not None:
            parts = [f"{turn.answer_tokens} tokens", tokens_per_second(turn.rate(0.0))]
            if turn.thought_tokens:
                parts.insert(0, f"thought {seconds(turn.thought_seconds)}")
            why = {"cancelled": "stopped", "timeout": "out of time", "length": "cut short"}
            if turn.finish in why:
                parts.insert(0, why[turn.finish])
            self._note(", ".join(parts))

    def _note(self, text: str) -> None:
        self._print(NOTE + clean(text))

    def _print(self, line: str) -> None:
        self._sink.write(line + "\n")
        self._sink.flush()

    # What the commands ask for (see commands.CommandTarget)

    def show_help(self) -> None:
        """The commands; the keys are a line to send, ^C and ^D."""
        for command in COMMANDS:
            self._note(f"{command.usage}: {t(command.help)}")
        self._note("Ctrl-C stops an answer; at the prompt, it ends the chat like Ctrl-D")

    def new_chat(self) -> None:
        """Forget the conversation."""
        self.session.new()
        self._note("a new chat")

    def set_thinking(self, on: bool) -> None:
        """Set the mode of the messages to come."""
        reason = self.session.set_thinking(on)
        self._note(reason or f"thinking {'on' if on else 'off'}")

    def ask(self, text: str, thinks: bool) -> None:
        """Ask with a mode for this turn."""
        self._follow(self.session.send(text, thinks))

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
            self.session.keeper.fork()
            self._note(t("You go on in a copy; the old chat stays in ^o."))

    def show_chats(self, search: str = "") -> None:
        """Needs a screen to choose on."""
        self._note(t("this needs the full screen: leave out --plain"))

    def show_models(self) -> None:
        """Needs a screen to choose on."""
        self._note(t("this needs the full screen: leave out --plain"))

    def show_settings(self) -> None:
        """Needs a screen to choose on."""
        self._note(t("this needs the full screen: leave out --plain"))

    def set_title(self, title: str) -> None:
        """Name this chat."""
        self.session.keeper.rename(title)

    def export(self, name: str) -> None:
        """Needs the screen's files."""
        self._note(t("this needs the full screen: leave out --plain"))

    def import_chat(self, name: str) -> None:
        """Needs the screen's files."""
        self._note(t("this needs the full screen: leave out --plain"))

    def retry(self) -> None:
        """Answer the last question anew."""
        turn = self.session.retry()
        if turn is None:
            self._note("nothing was asked yet")
        self._follow(turn)

    def set_system(self, text: str) -> None:
        """The system prompt of the messages to come."""
        self.state.system = text or None
        self._note("the system prompt is set" if text else "the system prompt is removed")

    def set_view(self, view: str) -> None:
        """`line` leaves thoughts out; the other views print them."""
        found = next((known for known in VIEWS if known == view), None)
        if view and found is None:
            self._note(f"/thoughts takes one of: {', '.join(VIEWS)}")
            return
        self.state.view = found or self.state.next_view()
        self._note(f"thoughts: {self.state.view}")

    def copy_answer(self) -> None:
        """There is no clipboard behind a pipe."""
        self._note(t("this needs the full screen: leave out --plain"))

    def quit(self) -> None:
        """End after this line."""
        self._over = True


class _Lines:
    """Prints a growing text line by line: the label first, the last line at the end."""

    def __init__(self, label: str, write: Callable[[str], None]) -> None:
        self._label = label
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

    def _line(self, line: str) -> None:
        if line.strip() or not self._label:
            self._write(self._label + clean(line).rstrip())
            self._label = ""
