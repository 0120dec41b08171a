"""^e: the settings, each on a line. ← and → change them, at once and for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qwen3_mlx_app.tui.budgets import budget_name
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.screens.keys import KeysScreen
from qwen3_mlx_app.tui.settings import CHOICES, Settings
from qwen3_mlx_app.tui.text import clean, one_line
from qwen3_mlx_app.tui.widgets.keybar import KeyBar

__all__ = ["SettingsScreen"]

_LABELS = {
    "language": "Language", "theme": "Theme", "thoughts": "Thoughts are shown",
    "thinking": "Think first", "budget": "Thinking budget", "preset": "Sampling",
    "temperature": "Temperature", "max_tokens": "Longest answer", "context": "Context",
    "memory_limit": "Memory limit", "system": "System prompt", "keys": "Keys",
}  # fmt: skip
_NAMES = {
    "auto": "as the system says", "en": "English", "zh": "简体中文", "dark": "dark",
    "light": "light", "fold": "fold", "open": "open", "line": "line", "model": "the model's own",
    "thinking": "Qwen thinking", "direct": "Qwen non-thinking", "greedy": "greedy",
}  # fmt: skip


class SettingsScreen(ModalScreen[None]):
    """Calls `change` with the new settings on every change; `where` is the file's path."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Before", key_display="←", priority=True),
        Binding("right", "step(1)", "Next", key_display="→", priority=True),
        Binding("enter", "take", "Edit", key_display="⏎", priority=True),
        Binding("escape,ctrl+e", "back", "Back", key_display="esc", priority=True),
    ]

    def __init__(self, settings: Settings, where: str, change: Callable[[Settings], None]) -> None:
        super().__init__()
        self._settings, self._where, self._change = settings, where, change

    def compose(self) -> ComposeResult:
        with Vertical(id="card", classes="-settings"):
            yield OptionList(id="rows")
            yield Input(id="system")
            yield Static(id="word")
            yield KeyBar(("step(-1)", "step(1)", "take", "back"), palette=False)

    def on_mount(self) -> None:
        self.query_one(Input).display = False
        self._fill(0)
        self.query_one(OptionList).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While the system prompt is typed, the arrows are for the cursor."""
        return not (action == "step" and self._typing)

    @property
    def _typing(self) -> bool:
        return bool(self.query("#system")) and self.query_one(Input).display

    def _fill(self, at: int) -> None:
        rows = self.query_one(OptionList)
        self.query_one("#card").border_title = t("Settings")
        word = t("Kept in {path}", path=self._where) if self._where else t("Kept until you leave.")
        self.query_one("#word", Static).update(Content.styled(word, "$text-muted"))
        rows.clear_options()
        for name, value in asdict(self._settings).items():
            label = Content.assemble((f" {t(_LABELS[name])} ", ""))
            room = " " * max(2, 24 - label.cell_length)
            content = label + room + Content.styled(_shown(name, value), "$primary bold")
            rows.add_option(Option(content, id=name))
        rows.highlighted = at

    def action_step(self, step: int) -> None:
        """The next or the last value of the line."""
        rows = self.query_one(OptionList)
        at = rows.highlighted or 0
        name = rows.get_option_at_index(at).id or ""
        if name not in CHOICES:
            return
        choices, value = CHOICES[name], getattr(self._settings, name)
        place = choices.index(value) if value in choices else 0
        self._set(name, choices[(place + step) % len(choices)])
        self._fill(at)

    def action_take(self) -> None:
        """Type the system prompt, or take what was typed; other lines step on."""
        rows, box = self.query_one(OptionList), self.query_one(Input)
        if self._typing:
            self._set("system", box.value.replace("⏎", "\n").strip())
            self.action_back()
            return
        match rows.get_option_at_index(rows.highlighted or 0).id:
            case "system":
                # The line has room for one line only.
                box.value = clean(self._settings.system).replace("\n", "⏎")
                box.display = True
                box.focus()
                self.refresh_bindings()
            case "keys":
                self.app.push_screen(KeysScreen(self._settings.keys, self._set_keys))
            case _:
                self.action_step(1)

    def _set_keys(self, keys: dict[str, str]) -> None:
        self._set("keys", keys)
        self._fill(self.query_one(OptionList).highlighted or 0)

    def action_back(self) -> None:
        """Leave the typing, or the settings."""
        if not self._typing:
            self.dismiss()
            return
        self.query_one(Input).display = False
        self._fill(self.query_one(OptionList).highlighted or 0)
        self.query_one(OptionList).focus()
        self.refresh_bindings()

    def _set(self, name: str, value: Any) -> None:
        self._settings = replace(self._settings, **{name: value})
        self._change(self._settings)


def _shown(name: str, value: Any) -> str:
    """A value as people say it."""
    match name:
        case "thinking":
            return t("yes") if value else t("no")
        case "budget":
            return budget_name(value or None)
        case "temperature":
            return t("as the preset says") if value < 0 else str(value)
        case "max_tokens":
            return f"{value:,}" if value else t("what the context leaves")
        case "system":
            return one_line(value, 50) if value else t("(none)")
        case "context":
            return f"{value:,}" if value else t("the model's own")
        case "memory_limit":
            return str(value) or t("(none)")
        case "keys":
            return t("{n} changed", n=len(value)) if value else t("as they came")
        case _:
            return t(_NAMES.get(value, str(value)))
