"""^l: the models, with the arithmetic of whether they fit. Enter changes to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen3_mlx_app.tui.fitting import OVERHEAD_BYTES, Candidate, verdict
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.text import gigabytes, meter, one_line
from qwen3_mlx_app.tui.widgets.keybar import KeyBar

__all__ = ["ModelsScreen"]

_COLOURS = {"fits": "$success", "tight": "$warning", "too big": "$error"}


class ModelsScreen(ModalScreen[str | None]):
    """Returns the name to load, or None. A model that is too big asks once more."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Load", key_display="⏎", priority=True),
        Binding("escape,ctrl+l,q", "back", "Back", key_display="esc"),
    ]

    def __init__(self, models: Sequence[Candidate], usable: int, current: str) -> None:
        super().__init__()
        self._models, self._usable, self._current = list(models), usable, current
        self._asked: str | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield OptionList(*[self._line(model) for model in self._models], id="models")
            yield Static(id="word")
            yield KeyBar(("choose", "back"), palette=False)

    def on_mount(self) -> None:
        usable = gigabytes(self._usable)
        self.query_one("#card").border_title = t("Models · {usable} can be used", usable=usable)
        box = self.query_one(OptionList)
        names = [model.load_name for model in self._models]
        box.highlighted = names.index(self._current) if self._current in names else 0
        box.focus()

    def _line(self, model: Candidate) -> Option:
        """Name, size, a bar, the verdict."""
        says = verdict(model.needed_bytes, self._usable)
        filled, empty = meter(model.needed_bytes / self._usable, 10)
        colour = _COLOURS[says]
        mark = "● " if model.load_name == self._current else "  "
        where = model.stored if model.here else t("download")
        room = 26
        content = Content.assemble(
            (mark, "$primary"),
            (one_line(model.name, room).ljust(room), "bold" if model.here else ""),
            (f"{gigabytes(model.weight_bytes):>8}  ", "$text-muted"),
            (filled + empty, f"{colour} on $panel"),
            (f" {t(says)}", colour),
            (f" · {t(where)}", "$text-muted"),
        )
        return Option(content, id=model.load_name)

    @property
    def _chosen(self) -> Candidate:
        return self._models[self.query_one(OptionList).highlighted or 0]

    @on(OptionList.OptionHighlighted)
    def explain(self) -> None:
        """The arithmetic of the line at the cursor."""
        model, self._asked = self._chosen, None
        text = t(
            "weights {weights} + KV cache {kv} + work {work} = {needed} of {usable}",
            weights=gigabytes(model.weight_bytes), kv=gigabytes(model.kv_bytes),
            work=gigabytes(OVERHEAD_BYTES), needed=gigabytes(model.needed_bytes),
            usable=gigabytes(self._usable),
        )  # fmt: skip
        self._say(text)

    @on(OptionList.OptionSelected)
    def clicked(self) -> None:
        """A click chooses."""
        self.action_choose()

    def action_choose(self) -> None:
        """Load it; too big or not here yet needs a second Enter."""
        model = self._chosen
        too_big = verdict(model.needed_bytes, self._usable) == "too big"
        if self._asked != model.load_name and (too_big or not model.here):
            self._asked = model.load_name
            if too_big:
                self._say(t("It needs more memory than there is. ⏎ loads it anyway."), "$warning")
            else:
                size = gigabytes(model.weight_bytes)
                self._say(t("⏎ downloads {size} from Hugging Face.", size=size), "$warning")
            return
        self.dismiss(model.load_name)

    def action_back(self) -> None:
        """Change nothing."""
        self.dismiss(None)

    def _say(self, text: str, colour: str = "$text-muted") -> None:
        self.query_one("#word", Static).update(Content.styled(text, colour))
