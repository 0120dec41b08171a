"""Where messages are typed. It never locks: while an answer comes, Enter queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key, Paste
from textual.message import Message
from textual.widgets import Static, TextArea

from qwen3_mlx_app.tui.attachments import Attachment, is_long_paste
from qwen3_mlx_app.tui.commands import matching
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.text import one_line, typed

__all__ = ["Chips", "Composer", "Hints", "QueueChip"]

MOST_HINTS = 9
ROWS_BESIDE_HINTS = 8  # two bars, the status, the composer with its border, and some of the chat
PLACEHOLDER = "Message Qwen3…   / commands   @ file   ⏎ send   ⇧⏎ or ^j new line"


class Composer(TextArea):
    """A text area that grows to eight rows and sends on Enter."""

    HELP = (
        "⏎ sends. ⇧⏎ or ^j starts a new line. / begins a command, Tab completes it. @file "
        "sends a text file along. ↑ in an empty composer edits the last message."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "submit",
            "Send",
            key_display="⏎",
            tooltip="Send; while an answer comes, queue",
        ),
        Binding(
            "shift+enter,ctrl+j",
            "newline",
            "New line",
            key_display="⇧⏎ ^j",
            show=False,
            tooltip="Start a new line",
        ),
        Binding("tab", "complete", "Complete", show=False, tooltip="Complete a /command"),
        Binding("pageup", "screen.page(-1)", "Scroll up", show=False, tooltip="Scroll back"),
        Binding("pagedown", "screen.page(1)", "Scroll down", show=False, tooltip="Scroll on"),
    ]

    class Submitted(Message):
        """Enter was pressed; the text is "" where there is none."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class EditLast(Message):
        """↑ was pressed in an empty composer."""

    class Away(Message):
        """Tab was pressed with nothing to complete."""

    class Pasted(Message):
        """A text was pasted that is too long to read in the composer."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            placeholder=t(PLACEHOLDER),
            id="composer",
        )

    def _watch_show_vertical_scrollbar(self) -> None:
        """Undoing a paste takes lines away before Textual (8.2) has moved the cursor back."""
        if self.selection.end[0] < self.document.line_count:
            super()._watch_show_vertical_scrollbar()

    async def _on_key(self, event: Key) -> None:
        """Enter sends. Keys that edit are carried out in their turn.

        A binding goes up to the app first, and letters that are typed behind it would overtake it.
        """
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_submit()
        elif event.key == "up" and not self.text:
            event.stop()
            event.prevent_default()
            self.post_message(self.EditLast())
        elif await self._edits(event.key):
            event.stop()
            event.prevent_default()
        else:
            await super()._on_key(event)

    async def _edits(self, key: str) -> bool:
        """Carry out what the key is bound to here; False if that is nothing now."""
        bound = [] if key == "escape" else self._bindings.key_to_bindings.get(key, [])
        for binding in bound:
            if await self.app.run_action(binding.action, self):
                return True
        return False

    async def _on_paste(self, event: Paste) -> None:
        """A long text becomes a chip; Textual's own handler inserts the others."""
        event.text = typed(event.text)
        if is_long_paste(event.text):
            event.stop()
            event.prevent_default()
            self.post_message(self.Pasted(event.text))

    def action_submit(self) -> None:
        """Hand the text over and start empty; blank text stays, but a paste may go alone."""
        if text := self.text.rstrip():
            self.clear()
        self.post_message(self.Submitted(text))

    def action_newline(self) -> None:
        """Insert a line end at the cursor."""
        self.insert("\n")

    def action_complete(self) -> None:
        """Complete a command that is being typed to the first that matches; else leave."""
        if found := matching(self.text):
            self.put(f"/{found[0].name} ")
        else:
            self.post_message(self.Away())

    def translate(self) -> None:
        """Say what can be typed in the language that the interface has by now."""
        self.placeholder = t(PLACEHOLDER)

    def put(self, text: str) -> None:
        """Replace the text and go to its end."""
        self.text = typed(text)
        self.move_cursor(self.document.end)


class Chips(Static):
    """What goes along with the message, with its size in tokens."""

    def sync(self, attachments: Sequence[Attachment], problem: str = "") -> None:
        """Show them, or nothing."""
        self.display = bool(attachments or problem)
        parts = [(f" {a.label} ", "$background on $secondary") for a in attachments]
        content = Content("  ").join([Content.styled(*part) for part in parts])
        if problem:
            content += Content.styled(f"  {problem}", "$text-warning")
        self.update(content)


class Hints(Static):
    """The commands that the text in the composer may become."""

    def sync(self, text: str) -> None:
        """Show as many as leave room for the rest of the screen, or nothing."""
        found = matching(text)
        self.display = bool(found)
        if not found:
            return
        room = min(MOST_HINTS, max(2, self.app.size.height - ROWS_BESIDE_HINTS))
        shown = found if len(found) <= room else found[: room - 1]
        width = max(len(command.usage) for command in found)
        rows = [
            Content.assemble(
                (command.usage.ljust(width + 2), "$primary"), (t(command.help), "$text-muted")
            )
            for command in shown
        ]
        if left := len(found) - len(shown):
            more = t("… and {count} more: type on, or /help", count=left)
            rows.append(Content.styled(more, "$text-muted"))
        self.update(Content("\n").join(rows))


class QueueChip(Static):
    """The message that waits for the answer to end."""

    def sync(self, queued: str | None) -> None:
        """Show it on one line, or nothing."""
        self.display = queued is not None
        if queued is not None:
            room = max(10, self.app.size.width - 30)
            self.update(
                Content.assemble(
                    (f" {t('queued')} ", "$background on $secondary"),
                    f" {one_line(queued, room)}",
                    (f"  {t('esc takes it back')}", "$text-muted"),
                )
            )
