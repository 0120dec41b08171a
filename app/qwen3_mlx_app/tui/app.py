"""The Textual app: themes, palette, and the chat screen. It never imports the engine itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from .commands import COMMANDS, Command
from .screens.chat import ChatScreen
from .session import Session
from .themes import DARK, LIGHT

__all__ = ["ChatApp"]


class ChatApp(App[None]):
    """Chat with one model.

    `model_name` is shown until the model says its own, `hint` while the chat is empty. `still`
    stops all that moves by itself (the cursor's blink, animations), for pictures and for tests.
    """

    TITLE = "qwen3-mlx"
    CSS_PATH = "app.tcss"
    NOTIFICATION_TIMEOUT = 3

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True, tooltip="Leave the chat")
    ]

    def __init__(
        self,
        session: Session,
        model_name: str = "Qwen3",
        *,
        theme: str = "dark",
        hint: str = "",
        still: bool = False,
    ) -> None:
        super().__init__()
        self.session = session
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if theme == "light" else DARK.name
        if still:
            self.animation_level = "none"
        self.chat = ChatScreen(session, model_name, hint, blink=not still)

    def get_default_screen(self) -> Screen[None]:
        """The chat is the ground that other screens come to lie on."""
        return self.chat

    def on_unmount(self) -> None:
        """Stop the engine's thread however the app ends."""
        self.session.close()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: our commands first, then the theme and the screenshot."""
        for command in COMMANDS:
            yield SystemCommand(f"/{command.name}", command.help, self._runner(command))
        for system in super().get_system_commands(screen):
            if system.title in ("Theme", "Screenshot"):
                yield system

    def _runner(self, command: Command) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            command.run(self.chat, "")
            await self.chat.sync()

        return run
