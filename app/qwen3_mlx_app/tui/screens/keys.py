"""The key map: every action and its keys. ⏎ waits for a new key, ⌫ gives the first one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen3_mlx_app.tui import keymap
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.widgets.keybar import KeyBar

__all__ = ["KeysScreen"]

_LABELS = {
    "think": "Think before answering", "answer_now": "End the thought and answer from it",
    "more_thought": "Think longer: 512 … 8k … ∞", "less_thought": "Think less",
    "retry": "Answer the last question anew, beside the old answer",
    "go_on": "Go on with an answer that was cut off",
    "chats": "Find, open, rename and delete chats",
    "models": "Change the model, and see which ones fit",
    "settings": "Language, theme, sampling, memory, keys", "new": "Start a new chat",
    "copy": "Copy the last answer", "view": "Show thoughts folded, open, or as a line",
    "help": "Show this help", "blocks": "Go over the blocks of the chat",
    "quit": "Leave the chat",
}  # fmt: skip


class KeysScreen(ModalScreen[None]):
    """Calls `change` with the person's keys on every change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Before the list's own ⏎, which would not be in the key bar.
        Binding("enter", "catch", "Another key", key_display="⏎", priority=True),
        Binding("backspace,delete", "reset", "As it came", key_display="⌫"),
        Binding("escape", "back", "Back", key_display="esc"),
    ]

    def __init__(self, keys: Mapping[str, str], change: Callable[[dict[str, str]], None]) -> None:
        super().__init__()
        self._chosen, self._change = dict(keys), change

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield OptionList(id="rows")
            yield Static(id="word")
            yield KeyBar(("catch", "reset", "back"), palette=False)

    def on_mount(self) -> None:
        self.query_one("#card").border_title = t("Keys")
        self._fill(0)
        self.query_one(OptionList).focus()

    def _fill(self, at: int) -> None:
        rows = self.query_one(OptionList)
        rows.clear_options()
        for name, text in _LABELS.items():
            colour = "$accent bold" if name in self._chosen else "$primary bold"
            content = Content.assemble(
                (f" {keymap.label(name, every=True):<8}", colour), (t(text), "")
            )
            rows.add_option(Option(content, id=name))
        rows.highlighted = at

    @property
    def _at(self) -> str:
        rows = self.query_one(OptionList)
        return rows.get_option_at_index(rows.highlighted or 0).id or ""

    def action_catch(self) -> None:
        """Wait for the next key."""
        self.app.push_screen(KeyCatcher(), self._take)

    def action_reset(self) -> None:
        """The key from the start."""
        self._chosen.pop(self._at, None)
        self._done()

    def action_back(self) -> None:
        """Close."""
        self.dismiss()

    @on(OptionList.OptionSelected)
    def clicked(self) -> None:
        """A click."""
        self.action_catch()

    def _take(self, key: str | None) -> None:
        if key is None or key == "escape":
            return
        chosen = self._chosen | {self._at: key}
        if wrong := keymap.problems(chosen):
            text = wrong.get(self._at) or t("{key} cannot be used", key=key)
            self._say(text, "$warning")
            return
        self._chosen = chosen
        self._done()

    def _done(self) -> None:
        self._change(dict(self._chosen))
        self._fill(self.query_one(OptionList).highlighted or 0)
        self._say("")

    def _say(self, text: str, colour: str = "$text-muted") -> None:
        self.query_one("#word", Static).update(Content.styled(text, colour))


class KeyCatcher(ModalScreen[str]):
    """Waits for one key and returns it. Nothing here has the focus, so no binding sees it first."""

    def compose(self) -> ComposeResult:
        yield Static(t("Press the new key; esc leaves it as it is."), id="catch")

    def on_key(self, event: Key) -> None:
        """The key."""
        event.stop()
        self.dismiss(event.key)
