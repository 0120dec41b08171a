"""The pictures of docs/screens: a chat with tiny in a real terminal (tmux), saved as SVG.

    python scripts/record_screens.py docs/screens

tmux is the terminal, so what is saved is what the terminal understood, not what the app meant.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDE, NARROW = (100, 28), (72, 20)
THEMES = {
    "dark": TerminalTheme((21, 21, 29), (220, 220, 234), [(0, 0, 0)] * 8),
    "light": TerminalTheme((251, 250, 247), (42, 42, 56), [(0, 0, 0)] * 8),
}
FONT = "Menlo, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', monospace"


class Terminal:
    """A tmux server of its own with one window, in which the chat runs."""

    def __init__(self, home: Path, size: tuple[int, int]) -> None:
        self._home = home
        self._number = 0
        self.size = size

    @property
    def _server(self) -> str:
        return f"qwen3-{os.getpid()}-{self._number}"

    def tmux(self, *arguments: str) -> str:
        """Run a tmux command; its output."""
        command = ["tmux", "-L", self._server, "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def start(self, *flags: str) -> None:
        """Begin a chat, in a server of its own: the one before may still be leaving."""
        self._number += 1
        chat = [sys.executable, "-m", "qwen3_mlx_app.cli", "chat", *flags]
        settings = {
            "QWEN3_MLX_HOME": str(self._home), "HF_HUB_CACHE": str(self._home / "hub"),
            "COLORTERM": "truecolor", "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        words = " ".join(f"{name}={shlex.quote(text)}" for name, text in settings.items())
        width, height = (str(number) for number in self.size)
        self.tmux(
            "new-session", "-d", "-x", width, "-y", height, f"exec env {words} {shlex.join(chat)}"
        )
        self.tmux("set", "-g", "escape-time", "0")

    def keys(self, *keys: str, text: str = "") -> None:
        """Type a text, then press keys."""
        if text:
            self.tmux("send-keys", "-l", text)
        if keys:
            time.sleep(0.3)
            self.tmux("send-keys", *keys)

    def until(self, true: Callable[[str], bool], seconds: float = 180) -> None:
        """Wait until the screen says something."""
        deadline = time.monotonic() + seconds
        while not true(screen := self.tmux("capture-pane", "-p")):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the screen never said it:\n{screen}")
            time.sleep(0.03)

    def picture(self, path: Path, theme: str = "dark", settle: float = 0.7) -> None:
        """Save the screen as SVG."""
        time.sleep(settle)
        lines = self.tmux("capture-pane", "-e", "-p").splitlines()
        console = Console(
            record=True, width=self.size[0], file=io.StringIO(), force_terminal=True,
            color_system="truecolor", legacy_windows=False,
        )  # fmt: skip
        for line in lines:
            console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", soft_wrap=False)
        svg = console.export_svg(title="qwen3-mlx chat", theme=THEMES[theme])
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from elsewhere
        svg = re.sub(r"font-family: [^;]*;", f"font-family: {FONT};", svg)
        svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
        path.write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")
        print(path, flush=True)

    def close(self) -> None:
        """End the chat and the terminal."""
        command = ["tmux", "-L", self._server, "kill-server"]
        subprocess.run(command, check=False, capture_output=True)


def record(terminal: Terminal, folder: Path) -> None:
    """The dark pictures: a first start, a thought, the lists."""
    terminal.start("--seed", "1")
    terminal.until(lambda text: "stays on this computer" in text)
    terminal.picture(folder / "first-start.svg")
    terminal.keys("Enter", text="What is 218 + 74?")
    terminal.until(lambda text: bool(re.search(r"Thinking .* [1-9]\d tokens|first token", text)))
    terminal.picture(folder / "thinking.svg", settle=0.0)
    terminal.until(lambda text: "first token" in text)
    terminal.picture(folder / "folded.svg")
    terminal.keys("C-n")
    for question in ("你好!", "What is 9 + 16?"):
        terminal.keys("Enter", text=question)
        terminal.until(lambda text: "tok/s" in text and "Thinking" not in text, 120)
        time.sleep(1.5)
    terminal.keys("C-o")
    terminal.until(lambda text: "Search all chats" in text)
    terminal.keys(text="218")
    terminal.until(lambda text: "2 turns" not in text)
    terminal.picture(folder / "search.svg")
    terminal.keys("Escape")
    terminal.until(lambda text: "Search all chats" not in text)
    terminal.keys("C-l")
    terminal.until(lambda text: "weights" in text)
    terminal.keys("Down", "Down", "Down")
    terminal.until(lambda text: "= 10." in text)
    terminal.picture(folder / "models.svg")
    terminal.keys("Escape")
    terminal.until(lambda text: "weights" not in text)
    terminal.keys("C-e")
    terminal.until(lambda text: "Kept in" in text)
    terminal.picture(folder / "settings.svg")
    terminal.keys("Escape")
    terminal.keys("C-q")


def main() -> None:
    """Parse the command line and make the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        terminal = Terminal(home, WIDE)
        try:
            record(terminal, folder)
            time.sleep(2)
            terminal.close()
            for name, size, flags in (
                ("light", WIDE, ("--theme", "light")),
                ("narrow", NARROW, ()),
            ):
                terminal.size = size
                terminal.start("--seed", "1", *flags)
                terminal.until(lambda text: "stays on this computer" in text)
                terminal.keys("Enter", text="What is 218 + 74?")
                terminal.until(lambda text: "first token" in text)
                terminal.picture(folder / f"{name}.svg", "light" if name == "light" else "dark")
                terminal.close()
        finally:
            terminal.close()


if __name__ == "__main__":
    main()
