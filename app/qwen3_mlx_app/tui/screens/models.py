"""^l: the models, with the arithmetic of whether they fit. Enter changes to one, or fetches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qwen3_mlx.fit import Fit
from qwen3_mlx.pulling import FileState
from qwen3_mlx_app.tui.describe import describe
from qwen3_mlx_app.tui.downloads import Downloads, Fetching
from qwen3_mlx_app.tui.fitting import Candidate
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.text import gigabytes, meter, one_line, seconds
from qwen3_mlx_app.tui.widgets.keybar import KeyBar

__all__ = ["ModelsScreen"]

_COLOURS = {
    "fits": "$success", "tight": "$warning", "streams experts": "$secondary", "too big": "$error",
}  # fmt: skip
_DOING = {"queued": "queued", "reading": "", "waiting": "waiting for the network",
          "checking": "checking", "there": "done"}  # fmt: skip
_TICKS_PER_SECOND = 4
_MOST_FILES = 6


class ModelsScreen(ModalScreen[Candidate | None]):
    """Returns the model to load, or None. One that is too big asks once more; one that is not
    here is fetched while the list, and the chat behind it, stay in use.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Load", key_display="⏎", priority=True),
        Binding("space", "pause", "Pause", key_display="␣", priority=True),
        Binding("escape,ctrl+l,q", "back", "Back", key_display="esc"),
    ]

    def __init__(self, models: Sequence[Candidate], current: str, downloads: Downloads) -> None:
        super().__init__()
        self._models, self._current, self._downloads = list(models), current, downloads
        self._usable = max(0, self._models[0].judged.usable_bytes)  # the same for all
        self._asked: str | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield OptionList(id="models")
            yield Static(id="files")
            yield Static(id="word")
            yield KeyBar(("choose", "pause", "back"), palette=False)

    def on_mount(self) -> None:
        usable = gigabytes(self._usable)
        self.query_one("#card").border_title = t("Models · {usable} can be used", usable=usable)
        box = self.query_one(OptionList)
        box.add_options([Option(self._line(model), id=model.load_name) for model in self._models])
        names = [model.load_name for model in self._models]
        box.highlighted = names.index(self._current) if self._current in names else 0
        box.focus()
        self._tick()  # what came while the list was closed is here
        self._ticking = self.set_interval(1 / _TICKS_PER_SECOND, self._tick)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is a pause only where something runs."""
        if action == "pause":
            fetching = self._fetching
            return fetching is not None and fetching.phase == "running"
        return True

    # Drawing

    def _line(self, model: Candidate) -> Content:
        """Name, size, a bar, the verdict; while it comes, how far it is."""
        room, cells = (26, 10) if self.app.size.width >= 92 else (16, 5)
        head = Content.assemble(
            ("● " if model.load_name == self._current else "  ", "$primary"),
            (one_line(model.name, room).ljust(room), "bold" if model.here else ""),
            (f"{gigabytes(model.weight_bytes):>8}  ", "$text-muted"),
        )
        fetching = self._downloads.of(model.load_name)
        if fetching is not None and fetching.phase != "done":
            return head + _progress(fetching, cells)
        says, needed = model.judged.verdict, model.judged.needed_bytes
        filled, empty = meter(needed / self._usable if self._usable else 1.0, cells)
        where = t(model.stored) if model.here else t("download")
        if model.partial:
            where = t("paused, {share:.0%}", share=model.partial)
        return head + Content.assemble(
            (filled + empty, f"{_COLOURS[says]} on $panel"),
            (f" {t(says)}", _COLOURS[says]),
            (f" · {where}", "$text-muted"),
        )

    def _tick(self) -> None:
        """Draw what is being fetched."""
        box = self.query_one(OptionList)
        for at, model in enumerate(self._models):
            fetching = self._downloads.of(model.load_name)
            if fetching is None:
                continue
            if fetching.phase == "done" and not model.here:
                self._models[at] = model = replace(model, here=True, partial=0.0)
            box.replace_option_prompt_at_index(at, self._line(model))
        self._draw_files()
        self.refresh_bindings()

    def _draw_files(self) -> None:
        """The files of the download at the cursor; those under way first."""
        box, fetching = self.query_one("#files", Static), self._fetching
        state = fetching.state if fetching is not None else None
        running = fetching is not None and fetching.phase == "running"
        box.display = state is not None and running
        if state is None or not running:
            return
        order = ("reading", "checking", "waiting", "queued", "there")
        files = sorted(state.files, key=lambda file: order.index(file.doing))
        room = 34 if self.app.size.width >= 84 else 26
        lines = [_file_line(file, room) for file in files[:_MOST_FILES]]
        if (more := len(files) - _MOST_FILES) > 0:
            lines.append(Content.styled(t("and {n} more files", n=more), "$text-muted"))
        if state.note:
            lines.insert(0, Content(state.note))
        box.update(Content("\n").join(lines))

    @property
    def _chosen(self) -> Candidate:
        return self._models[self.query_one(OptionList).highlighted or 0]

    @property
    def _fetching(self) -> Fetching | None:
        boxes = self.query(OptionList)
        return self._downloads.of(self._chosen.load_name) if boxes else None

    @on(OptionList.OptionHighlighted)
    def explain(self) -> None:
        """The arithmetic of the line at the cursor."""
        self._asked = None
        text = _arithmetic(self._chosen.judged)
        fetching = self._fetching
        if fetching is not None and fetching.error is not None:
            self._say(describe(fetching.error), "$text-error")
        else:
            self._say(text)
        self._draw_files()
        self.refresh_bindings()

    # Keys

    @on(OptionList.OptionSelected)
    def clicked(self) -> None:
        """A click chooses."""
        self.action_choose()

    def action_choose(self) -> None:
        """Load it, or fetch it; too big, or not here yet, needs a second Enter."""
        model, fetching = self._chosen, self._fetching
        if not model.here and fetching is not None:
            if fetching.phase == "running":
                self._say(t("It is on its way; ␣ pauses it."))
            else:
                self._start(model)
            return
        too_big = model.judged.verdict == "too big"
        if self._asked != model.load_name and (too_big or not model.here):
            self._asked = model.load_name
            size = gigabytes(model.weight_bytes)
            if not model.here:
                text = t("⏎ downloads {size} from Hugging Face.", size=size)
                more = t("It needs more memory than there is.") + " " if too_big else ""
                self._say(more + text, "$warning")
            else:
                self._say(t("It needs more memory than there is. ⏎ loads it anyway."), "$warning")
        elif model.here:
            self.dismiss(model)
        else:
            self._start(model)

    def _start(self, model: Candidate) -> None:
        self._downloads.start(model.load_name)
        self._say(t("You can go on chatting; ␣ pauses it."))
        self._tick()

    def action_pause(self) -> None:
        """Pause; Enter goes on."""
        self._downloads.pause(self._chosen.load_name)
        self._say(t("Paused; what came is kept. ⏎ goes on."))

    def action_back(self) -> None:
        """Change nothing."""
        self.dismiss(None)

    def _say(self, text: str, colour: str = "$text-muted") -> None:
        self.query_one("#word", Static).update(Content.styled(text, colour))


def _arithmetic(judged: Fit) -> str:
    """Where the verdict comes from."""
    plan, needed = judged.plan, gigabytes(judged.needed_bytes)
    if judged.verdict == "streams experts":
        return t(
            "All of it needs {needed}; all but {share:.0%} of the experts stay on disk.",
            needed=needed, share=plan.resident_fraction,
        )  # fmt: skip
    weights = plan.trunk_bytes + plan.slots_bytes
    return t(
        "weights {weights} + KV cache {kv} + work {work} = {needed} of {usable}",
        weights=gigabytes(weights), kv=gigabytes(plan.kv_bytes),
        work=gigabytes(judged.needed_bytes - weights - plan.kv_bytes), needed=needed,
        usable=gigabytes(max(0, judged.usable_bytes)),
    )  # fmt: skip


def _progress(fetching: Fetching, cells: int) -> Content:
    """`████▏     41% · 12 MB/s · 3m 10s`, or how it ended."""
    state = fetching.state
    share = state.done / state.total if state is not None and state.total else 0.0
    filled, empty = meter(share, cells)
    colour = {"failed": "$error", "paused": "$warning"}.get(fetching.phase, "$primary")
    bar = Content.assemble((filled + empty, f"{colour} on $panel"), (f" {share:4.0%}", colour))
    if fetching.phase == "failed":
        return bar + Content.styled(f" {t('broke off')} · ⏎ {t('goes on')}", "$error")
    if fetching.phase == "paused":
        return bar + Content.styled(f" {t('paused')} · ⏎ {t('goes on')}", "$warning")
    if state is None or not state.bytes_per_second:
        return bar + Content.styled(f" {t('connecting…')}", "$text-muted")
    left = state.seconds_left
    words = f" · {gigabytes(int(state.bytes_per_second))}/s"
    words += f" · {seconds(left)}" if left is not None else ""
    return bar + Content.styled(words, "$text-muted")


def _file_line(file: FileState, room: int) -> Content:
    filled, empty = meter(file.done / file.total if file.total else 1.0, 10)
    sizes = f"{gigabytes(file.done)} / {gigabytes(file.total)}"
    doing = t(_DOING[file.doing])
    return Content.assemble(
        (f"  {one_line(file.name, room):<{room}} ", "$foreground"),
        (filled + empty, "$secondary on $panel"),
        (f" {sizes}" + (f" · {doing}" if doing else ""), "$text-muted"),
    )
