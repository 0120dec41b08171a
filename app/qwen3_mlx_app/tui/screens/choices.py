"""Changing the model and the settings without leaving the chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qwen3_mlx_app.tui import keymap, language
from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.screens.turns import TurnActions
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings, read_settings, write_settings
from qwen3_mlx_app.tui.state import VIEWS
from qwen3_mlx_app.tui.themes import DARK, LIGHT
from qwen3_mlx_app.tui.widgets.header import HeaderBar
from qwen3_mlx_app.tui.worker import Loader

if TYPE_CHECKING:
    from qwen3_mlx_app.tui.downloads import Downloads
    from qwen3_mlx_app.tui.fitting import Candidate

__all__ = ["Choices", "Environment", "LoaderFor"]

#: Makes a loader for a model's name and wishes about memory, as arguments of `load`.
LoaderFor: TypeAlias = Callable[[str, Mapping[str, Any]], Loader]

_FETCH_TICK_SECONDS = 0.5


@dataclass(slots=True)
class Environment:
    """What the chat needs of the world around it, all of which may be missing.

    `loader` is None where only one model can be used; `settings_path` where settings are not
    kept. `load_name` is the name under which the first model was loaded.
    """

    loader: LoaderFor | None = None
    settings: Settings = field(default_factory=Settings)
    settings_path: Path | None = None
    load_name: str = ""
    downloads: Downloads | None = None


class Choices(TurnActions):
    """The model and the settings."""

    def __init__(
        self,
        session: Session,
        model_name: str,
        hint: str = "",
        still: bool = False,
        world: Environment | None = None,
    ) -> None:
        super().__init__(session, model_name, hint, still)
        self.world = world or Environment()
        self._load_name = self.world.load_name or model_name
        self._told: set[str] = set()
        self._watching = False

    # Models

    def show_models(self) -> None:
        """The list of models, with the arithmetic."""
        if self.world.loader is None:
            self.notify(t("This chat has one model only."), timeout=3)
            return
        # Reading the headers of local models takes a moment, and the first frame none of it.
        from qwen3_mlx import hub, pulling
        from qwen3_mlx_app.tui import fitting
        from qwen3_mlx_app.tui.downloads import Downloads
        from qwen3_mlx_app.tui.screens.models import ModelsScreen

        if self.world.downloads is None:
            self.world.downloads = Downloads()
        if not self._watching:
            self._watching = True
            self.set_interval(_FETCH_TICK_SECONDS, self._watch_downloads, name="downloads")
        models = fitting.candidates(
            hub.local_models(),
            pulling.unfinished(hub.cache_dir()),
            self.world.settings.memory_limit,
        )
        screen = ModelsScreen(models, self._load_name, self.world.downloads)
        self.app.push_screen(screen, self._switch_model)

    def _watch_downloads(self) -> None:
        """Tell of a download that ended while the list was closed."""
        if self.world.downloads is None or self.app.screen is not self:
            return
        for fetching in self.world.downloads.all:
            if fetching.phase == "running":
                self._told.discard(fetching.name)
            elif fetching.phase != "paused" and fetching.name not in self._told:
                self._told.add(fetching.name)
                text = (
                    "{name} is here: {models} loads it."
                    if fetching.phase == "done"
                    else "The download of {name} broke off: {models} says why."
                )
                self.notify(say(text, name=fetching.name), timeout=6)

    def _switch_model(self, model: Candidate | None) -> None:
        if model is None or self.world.loader is None:
            return
        self._model_name, self._load_name = model.name, model.load_name
        self.query_one(HeaderBar).model_name = model.name
        self.session.switch(self.world.loader(model.load_name, self._memory(model)))
        self.call_later(self.sync)

    def _memory(self, model: Candidate) -> dict[str, Any]:
        """The settings' wishes. A limit beyond what the machine has left becomes what it has;
        where there is none, `load` leaves on disk what does not fit.
        """
        wishes = self.world.settings.memory()
        if "memory_limit" in wishes and model.judged.verdict == "streams experts":
            wishes["memory_limit"] = model.judged.plan.limit
        return wishes

    def restart(self) -> None:
        """Load the model anew, and ask again what failed."""
        failed = self.state.turns[-1] if self.state.turns else None
        self.session.restart()
        if failed is not None and failed.error is not None:
            self.session.retry(failed)
        self.call_later(self.sync)

    # Settings

    def show_settings(self) -> None:
        """The settings."""
        from qwen3_mlx_app.tui.screens.settings import SettingsScreen

        where = str(self.world.settings_path or "")
        self.app.push_screen(SettingsScreen(self.world.settings, where, self._change))

    def keep(self, **values: Any) -> None:
        """Remember what a key or a command changed."""
        self.world.settings = replace(self.world.settings, **values)
        path = self.world.settings_path
        if path is not None:
            try:
                write_settings(path, replace(self._on_disk(path), **values))
            except OSError as error:
                self.notify(t("Settings are not kept: {why}", why=error), timeout=4)

    def _on_disk(self, path: Path) -> Settings:
        """The file as it is by now, since another window may have written to it."""
        found, problems = read_settings(path)
        return self.world.settings if problems or not path.exists() else found

    def _change(self, settings: Settings) -> None:
        """Keep the settings, and use from now on what is new in them.

        All else stays as the command line and the chat have it.
        """
        before = self.world.settings
        self.keep(**_differences(settings, before))
        if settings.language != before.language:
            language.use(settings.language)
            self.composer.translate()
        if settings.keys != before.keys:
            self.app.set_keymap(keymap.use(settings.keys))
        if settings.theme != before.theme:
            self.app.theme = LIGHT.name if settings.theme == "light" else DARK.name
        if settings.thoughts != before.thoughts:
            self.state.view = next(view for view in VIEWS if view == settings.thoughts)
        self._change_asking(settings, before)
        if settings.memory() != before.memory() and self.world.loader is not None:
            self.session.load_with(self.world.loader(self._load_name, settings.memory()))
            self.notify(t("For the next load: /restart loads the model anew."), timeout=4)
        self.refresh_bindings()
        self.call_later(self.sync)

    def _change_asking(self, settings: Settings, before: Settings) -> None:
        """What is new for the questions to come."""
        if settings.thinking != before.thinking:
            self.session.set_thinking(settings.thinking)
        if settings.budget != before.budget:
            self.state.budget = settings.budget or None
        options = self.session.options
        if settings.system != before.system:
            options = replace(options, system=settings.system or None)
            if self.state.turns:
                self.notify(t("For new chats; /system changes this one."), timeout=4)
            else:
                self.state.system = options.system
        sampling, most = options.sampling, options.max_tokens
        if settings.preset != before.preset:
            sampling = settings.sampling()
        elif settings.temperature != before.temperature:
            sampling = replace(sampling, temperature=settings.sampling().temperature)
        if settings.max_tokens != before.max_tokens:
            most = settings.max_tokens or None
        self.session.options = replace(options, sampling=sampling, max_tokens=most)


def _differences(settings: Settings, before: Settings) -> dict[str, Any]:
    """What is new, by name."""
    old = asdict(before)
    return {name: value for name, value in asdict(settings).items() if value != old[name]}
