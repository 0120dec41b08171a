"""What can be done with the turns on show: edit, answer anew, fork, flip, copy, write, read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from textual import on

from qwen3_mlx.errors import OptionError
from qwen3_mlx_app import clipboard
from qwen3_mlx_app.tui.attachments import taken_apart
from qwen3_mlx_app.tui.exchange import ChatFileError, free_name, from_json, to_json, to_markdown
from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.screens.drawn import DrawnChat
from qwen3_mlx_app.tui.state import Turn
from qwen3_mlx_app.tui.widgets.blocks import Block
from qwen3_mlx_app.tui.widgets.composer import Composer
from qwen3_mlx_app.tui.widgets.transcript import Transcript

__all__ = ["TurnActions"]


class TurnActions(DrawnChat):
    """The block cursor's keys, and the commands that do the same to the last turn."""

    @on(Transcript.Act)
    async def act(self, event: Transcript.Act) -> None:
        """A key at the block cursor."""
        block, turn = event.block, event.block.view.turn
        match event.name:
            case "copy":
                self._copy(block.text)
            case "write":
                self._write(block)
            case "maximise":
                self._maximise(block.text)
            case "edit":
                self.edit(turn)
            case "retry":
                self._retry(turn)
            case "fork":
                self._fork(turn)
            case "before":
                self._flip(turn, -1)
            case _:
                self._flip(turn, 1)
        await self.sync()

    def _maximise(self, text: str) -> None:
        from qwen3_mlx_app.tui.screens.block import BlockScreen

        self.app.push_screen(BlockScreen(text))

    @on(Composer.EditLast)
    def edit_last(self) -> None:
        """↑ in an empty composer."""
        if self.state.turns:
            self.edit(self.state.turns[-1])

    def edit(self, turn: Turn) -> None:
        """Put a message into the composer; sent, it becomes a version beside the old one."""
        if not self._may_change():
            return
        if self.editing is None and (self.composer.text or self.pasted):
            self._draft = self.composer.text, list(self.pasted)
        self.editing = turn
        self.composer.border_title = t("another version of this message · esc leaves it as it was")
        said, self.pasted = taken_apart(turn.user)
        self.composer.put(said)
        self.sync_chips(said)
        self.composer.focus()
        self.refresh_bindings()

    def stop_editing(self) -> None:
        """The composer is for new messages again; what was begun before comes back."""
        if self.editing is not None:
            (text, self.pasted), self._draft = self._draft, ("", [])
            self.composer.put(text)
            self.sync_chips(text)
        self.editing = None
        self.composer.border_title = None
        self.refresh_bindings()

    def take_back(self, queued: str) -> None:
        """A message that waited goes back into the composer, before what is there by now."""
        said, attached = taken_apart(queued)
        self.pasted += attached
        self.composer.put("\n".join(part for part in (said, self.composer.text) if part))
        self.sync_chips(self.composer.text)

    def retry(self) -> None:
        """Answer the last question anew."""
        if not self.state.turns:
            self.notify(t("Nothing to retry: nothing was asked yet."), timeout=3)
        else:
            self._retry(self.state.turns[-1])

    def go_on(self) -> None:
        """Continue an answer that was cut off."""
        if not self._may_change() or self.session.go_on() is not None:
            return
        if self.state.turns and self.state.turns[-1].stopped:
            self.notify(say("No answer was begun: {retry} asks again."), timeout=3)
        else:
            self.notify(t("The last answer is whole: there is nothing to continue."), timeout=3)

    def fork(self) -> None:
        """Go on in a copy of this chat."""
        if self.state.turns:
            self._fork(self.state.turns[-1])

    def export(self, name: str) -> None:
        """Write the chat to a file; `.json` keeps every branch."""
        if not self.state.turns:
            self.notify(t("There is nothing to export yet."), timeout=3)
            return
        path = free_name(os.path.expanduser(name or "chat.md"))
        saved = self.session.saved()
        text = to_json(saved) if path.suffix == ".json" else to_markdown(saved)
        self._write_file(path, text)

    def import_chat(self, name: str) -> None:
        """Read a chat that was exported as JSON."""
        try:
            saved = from_json(Path(os.path.expanduser(name)).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, ChatFileError) as error:
            why = getattr(error, "strerror", None) or error
            self.notice(t("{name} was not imported: {why}", name=name, why=why))
            return
        self._leave_chat()
        self.session.adopt(saved)

    def copy_answer(self) -> None:
        """Copy the last answer."""
        answer = self.state.last_answer
        if answer:
            self._copy(answer)
        else:
            self.notify(t("There is no answer to copy yet."), timeout=3)

    # Helpers

    def _leave_chat(self) -> None:
        """Another chat comes: an edited message was of this one, and a queued one must not go."""
        self.stop_editing()
        queued = self.state.queued
        self.state.queued = self.state.queued_thinks = None
        if queued is not None:
            self.take_back(queued)

    def _may_change(self) -> bool:
        if self.state.generating:
            self.notify(t("Stop the answer first, with esc."), timeout=3)
            return False
        return True

    def _retry(self, turn: Turn) -> None:
        if self._may_change():
            self.session.retry(turn)

    def _fork(self, turn: Turn) -> None:
        """A new chat that ends with this turn."""
        if self._may_change():
            self.state.tree.show(turn)
            self.session.fork()
            self.notify(say("You go on in a copy; the old chat stays in {chats}."), timeout=4)

    def _flip(self, turn: Turn, step: int) -> None:
        if self._may_change() and not self.session.flip(turn, step):
            self.notify(t("There is no other version on that side."), timeout=2)

    def _copy(self, text: str) -> None:
        """To the terminal's clipboard, and the system's: macOS's own Terminal ignores OSC 52."""
        self.app.copy_to_clipboard(text)
        self.run_worker(lambda: copy_to_system(text), thread=True, group="clipboard")
        self.notify(t("Copied."), timeout=2)

    def _write(self, block: Block) -> None:
        self._write_file(free_name(block.file_name), block.text + "\n")

    def _write_file(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            why = error.strerror or str(error)
            self.notice(t("{name} was not written: {why}", name=path, why=why))
        else:
            self.notify(t("Written: {name}", name=path), timeout=4)


def copy_to_system(text: str) -> None:
    """Put a text on the system's clipboard, where there is one."""
    with suppress(OptionError):
        clipboard.copy(text)
