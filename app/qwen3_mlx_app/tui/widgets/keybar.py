"""The bottom line: the keys that work here, whole ones only."""

from __future__ import annotations

from collections.abc import Sequence

from textual.binding import ActiveBinding
from textual.content import Content
from textual.events import Click
from textual.screen import Screen
from textual.style import Style
from textual.widgets import Static

from qwen3_mlx_app.tui.keymap import label
from qwen3_mlx_app.tui.language import t

__all__ = ["KeyBar"]

KEPT = ("help", "quit")


class KeyBar(Static):
    """Keys in the given order of actions; on a narrow screen some are left out.

    First those that would do nothing now, then the last ones, and never the way to help and out.
    Textual's own footer cuts a key in the middle where the line ends.
    """

    def __init__(self, order: Sequence[str], *, palette: bool = True) -> None:
        super().__init__()
        self._order = tuple(order)
        self._with_palette = palette

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        """As many entries as fit, closer together if that helps; the palette if room is left."""
        entries, room = self._fitting(self.size.width), self.size.width
        width = sum(entry.cell_length for entry in entries)
        gap = "  " if width + 2 * len(entries) <= room else " "
        margin = " " if width + len(gap) * len(entries) <= room else ""
        line = Content(margin)
        for entry in entries:
            start = gap if line.cell_length > len(margin) else ""
            if line.cell_length + len(start) + entry.cell_length > room:
                return line
            line = line + start + entry
        palette = self._palette()
        space = room - line.cell_length - palette.cell_length - 1
        return line + " " * space + palette if space > 1 and self._with_palette else line

    def _fitting(self, room: int) -> list[Content]:
        """The entries that the line can hold, one space apart."""
        shown = self._shown()
        spare = [active for active in shown if active.binding.action not in KEPT]
        spare.sort(key=lambda active: not active.enabled)
        entries = {active.binding.action: self._entry(active) for active in shown}
        while spare and sum(entry.cell_length + 1 for entry in entries.values()) > room + 1:
            del entries[spare.pop().binding.action]
        return list(entries.values())

    def keys(self) -> list[str]:
        """The actions that are on show, for tests and the curious."""
        return [active.binding.action for active in self._shown()]

    def _shown(self) -> list[ActiveBinding]:
        shown = {
            active.binding.action: active
            for active in self.screen.active_bindings.values()
            if active.binding.show
        }
        # A widget with keys of its own names them, and they take the place of the screen's.
        order = getattr(self.screen.focused, "KEYS", self._order)
        return [shown[action] for action in order if action in shown]

    def on_click(self, event: Click) -> None:
        """A click on an entry is a press of its key."""
        if key := event.style.meta.get("key"):
            self.app.simulate_key(key)

    def _entry(self, active: ActiveBinding) -> Content:
        binding = active.binding
        dim = "" if active.enabled else " 50%"
        key = label(binding.id) if binding.id else self.app.get_key_display(binding)
        text = t(binding.description)
        return _content(key, text, binding.key, dim)

    def _palette(self) -> Content:
        return _content("^p", t("Palette"), self.app.COMMAND_PALETTE_BINDING)


def _content(key: str, text: str, press: str, dim: str = "") -> Content:
    """One entry. The meta says which key a click presses; an @click would look like a link."""
    content = Content.assemble((key, f"bold $primary{dim}"), (f" {text}", f"$text-muted{dim}"))
    return content.stylize(Style.from_meta({"key": press}))
