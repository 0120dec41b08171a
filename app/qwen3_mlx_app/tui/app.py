"""The Textual app: themes, palette, and the chat screen. It never imports the engine itself."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar

from rich.console import RenderableType
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import Screen

from qwen3_mlx_app.tui import keymap
from qwen3_mlx_app.tui.commands import COMMANDS, Command
from qwen3_mlx_app.tui.keymap import DEFAULTS
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.screens.chat import ChatScreen
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.themes import DARK, LIGHT

__all__ = ["ChatApp"]


class ChatApp(App[None]):
    """Chat with one model.

    `model_name` is shown until the model says its own, `hint` while the chat is empty. `world` is
    what it may load, fetch and keep. `still` stops all that moves by itself (the cursor's blink,
    animations, words in the corner that vanish), for pictures and for tests.
    """

    TITLE = "qwen3-mlx"
    CSS_PATH = "app.tcss"
    NOTIFICATION_TIMEOUT = 3

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            DEFAULTS["quit"], "quit", "Quit", priority=True, tooltip="Leave the chat", id="quit"
        )
    ]

    def __init__(
        self,
        session: Session,
        model_name: str = "Qwen3",
        *,
        theme: str = "dark",
        hint: str = "",
        still: bool = False,
        world: Environment | None = None,
    ) -> None:
        super().__init__()
        self.session = session
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if theme == "light" else DARK.name
        if still:
            self.animation_level = "none"
        world = world or Environment()
        self.set_keymap(keymap.use(world.settings.keys))
        self.chat = ChatScreen(session, model_name, hint, still=still, world=world)

    def on_ready(self) -> None:
        """The first picture is drawn: collect again, if the start was without (see `chat`)."""
        if not gc.isenabled():
            gc.freeze()
            gc.enable()

    def get_default_screen(self) -> Screen[None]:
        """The chat is the ground that other screens come to lie on."""
        return self.chat

    def exit(
        self, result: None = None, return_code: int = 0, message: RenderableType | None = None
    ) -> None:
        """Leave, once the picture that is being drawn is whole.

        From the moment that Textual's own `exit` is called, mounting a widget is an error.
        """
        leave = super().exit

        async def finish() -> None:
            await self.chat.stop_drawing()
            leave(result, return_code, message)

        self.call_later(finish)

    async def _shutdown(self) -> None:
        """However the app ends, the drawing does so before the widgets are taken down."""
        await self.chat.stop_drawing()
        await super()._shutdown()

    def on_unmount(self) -> None:
        """Stop the engine's thread, and downloads, however the app ends."""
        if self.chat.world.downloads is not None:
            self.chat.world.downloads.close()
        self.session.close()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: our commands first, then the theme and the screenshot."""
        for command in COMMANDS:
            yield SystemCommand(f"/{command.name}", t(command.help), self._runner(command))
        for system in super().get_system_commands(screen):
            if system.title in ("Theme", "Screenshot"):
                yield SystemCommand(t(system.title), t(system.help), system.callback)

    def action_command_palette(self) -> None:
        """The palette, in the language of the interface."""
        if self.use_command_palette and not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder=t("Search for commands…")))

    def action_help_quit(self) -> None:
        """^C: stop an answer, as in a shell; at rest, say how to leave."""
        if self.session.state.generating:
            self.call_later(self.chat.action_stop)
        else:
            self.chat.notify(keymap.say("{quit} leaves the chat."), timeout=4)

    def _runner(self, command: Command) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.chat.obey(command)
            await self.chat.sync()

        return run
