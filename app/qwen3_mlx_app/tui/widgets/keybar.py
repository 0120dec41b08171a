"""The bottom line: the keys that work here, whole ones only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.binding import ActiveBinding
from textual.content import Content
from textual.screen import Screen
from textual.style import Style
from textual.widgets import Static

__all__ = ["KeyBar"]


class KeyBar(Static):
    """Keys in the given order of actions; on a narrow screen the last ones are left out.

    Textual's own footer cuts a key in the middle where the line ends.
    """

    def __init__(self, order: Sequence[str]) -> None:
        super().__init__()
        self._order = tuple(order)

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        """As many entries as fit, with the palette at the right where there is room."""
        room = self.size.width
        line, used = Content(""), 0
        for entry in self._entries():
            if used + entry.cell_length > room:
                return line
            line, used = line + entry, used + entry.cell_length
        palette = self._palette()
        if used + palette.cell_length + 2 <= room:
            line = line + " " * (room - used - palette.cell_length) + palette
        return line

    def keys(self) -> list[str]:
        """The actions that are on show, for tests and the curious."""
        return [active.binding.action for active in self._shown()]

    def _shown(self) -> list[ActiveBinding]:
        shown = {
            active.binding.action: active
            for active in self.screen.active_bindings.values()
            if active.binding.show
        }
        return [shown[action] for action in self._order if action in shown]

    def _entries(self) -> Iterator[Content]:
        for index, active in enumerate(self._shown()):
            yield self._entry(active, "  " if index else "")

    def _entry(self, active: ActiveBinding, gap: str) -> Content:
        binding = active.binding
        key = self.app.get_key_display(binding)
        dim = "" if active.enabled else " 50%"
        click = Style.from_meta({"@click": f"app.simulate_key('{binding.key}')"})
        text = Content.assemble(
            (key, f"$primary{dim} bold"), (f" {binding.description}", f"$text-muted{dim}")
        )
        return Content(gap) + text.stylize(click)

    def _palette(self) -> Content:
        click = Style.from_meta({"@click": "app.command_palette"})
        text = Content.assemble(("^p", "$primary bold"), (" Palette", "$text-muted"))
        return text.stylize(click)
