"""Changing the model and the settings without leaving the chat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qwen3_mlx_app.tui import language
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.screens.settings import SettingsScreen
from qwen3_mlx_app.tui.screens.turns import TurnActions
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings, write_settings
from qwen3_mlx_app.tui.state import VIEWS
from qwen3_mlx_app.tui.themes import DARK, LIGHT
from qwen3_mlx_app.tui.worker import Loader

__all__ = ["Choices"]


class Choices(TurnActions):
    """`loader` makes a loader for the name of a model; None where only one can be used."""

    def __init__(
        self,
        session: Session,
        model_name: str,
        hint: str = "",
        blink: bool = True,
        *,
        loader: Callable[[str], Loader] | None = None,
        settings: Settings | None = None,
        settings_path: Path | None = None,
    ) -> None:
        super().__init__(session, model_name, hint, blink)
        self._loader = loader
        self._settings = settings or Settings()
        self._settings_path = settings_path

    def show_models(self) -> None:
        """The list of models, with the arithmetic."""
        if self._loader is None:
            self.notify(t("This chat has one model only."), timeout=3)
            return
        # Reading the headers of local models takes a moment, and the first frame none of it.
        from qwen3_mlx import hub
        from qwen3_mlx_app.tui.fitting import candidates, usable_bytes
        from qwen3_mlx_app.tui.screens.models import ModelsScreen

        models = candidates(hub.local_models())
        screen = ModelsScreen(models, usable_bytes(), self._model_name)
        self.app.push_screen(screen, self._switch_model)

    def _switch_model(self, name: str | None) -> None:
        if name is None or self._loader is None:
            return
        self._model_name = name
        self._shown_load_error = None
        self.session.switch(self._loader(name))
        self.call_later(self.sync)

    def show_settings(self) -> None:
        """The settings."""
        where = str(self._settings_path or "")
        self.app.push_screen(SettingsScreen(self._settings, where, self._change))

    def _change(self, settings: Settings) -> None:
        """Use the settings from now on, and keep them."""
        before, self._settings = self._settings, settings
        if self._settings_path is not None:
            try:
                write_settings(self._settings_path, settings)
            except OSError as error:
                self.notify(t("Settings are not kept: {why}", why=error), timeout=4)
        if settings.language != before.language:
            language.use(settings.language)
        self.app.theme = LIGHT.name if settings.theme == "light" else DARK.name
        self.state.view = next(view for view in VIEWS if view == settings.thoughts)
        self.session.set_thinking(settings.thinking)
        self.state.budget = settings.budget or None
        if settings.system != before.system:
            self.state.system = settings.system or None
            self.session.keeper.system_changed()
        self.session.options = replace(
            self.session.options,
            sampling=settings.sampling(),
            max_tokens=settings.max_tokens or None,
        )
        self.refresh_bindings()
        self.call_later(self.sync)
