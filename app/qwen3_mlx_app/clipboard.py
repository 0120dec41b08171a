"""The clipboard, by the programs that macOS, Wayland and X11 have for it."""

from __future__ import annotations

import os
import shutil
import subprocess

from qwen3_mlx.errors import OptionError

__all__ = ["check", "copy", "paste"]

_COPY, _PASTE = 0, 1
_PROGRAMS: tuple[tuple[str, tuple[list[str], list[str]]], ...] = (
    ("", (["pbcopy"], ["pbpaste"])),
    ("WAYLAND_DISPLAY", (["wl-copy"], ["wl-paste", "--no-newline"])),
    (
        "DISPLAY",
        (["xclip", "-selection", "clipboard"], ["xclip", "-selection", "clipboard", "-o"]),
    ),
)
_SECONDS = 5.0


def check(*, copies: bool, pastes: bool) -> None:
    """Whether there is a clipboard, before an answer is made for it.

    Raises:
        OptionError: there is none.
    """
    if copies:
        _program(_COPY)
    if pastes:
        _program(_PASTE)


def copy(text: str) -> None:
    """Put a text on the clipboard.

    Raises:
        OptionError: there is no clipboard, or it does not take the text.
    """
    program = _program(_COPY)
    # wl-copy and xclip stay in the background to serve the text: they must not hold our pipes.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    _run(program, input=text.encode(errors="replace"), **quiet)


def paste() -> str:
    """The text on the clipboard.

    Raises:
        OptionError: there is no clipboard, or it holds no text.
    """
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    done = _run(_program(_PASTE), stdout=subprocess.PIPE, **quiet)
    assert isinstance(done.stdout, bytes)
    return done.stdout.decode(errors="replace")


def _program(which: int) -> list[str]:
    for variable, programs in _PROGRAMS:
        if (not variable or os.environ.get(variable)) and shutil.which(programs[which][0]):
            return programs[which]
    raise OptionError(
        "there is no clipboard: this needs pbcopy and pbpaste (macOS has them), wl-clipboard "
        "under Wayland, or xclip under X11"
    )


def _run(program: list[str], **how: object) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(program, check=True, timeout=_SECONDS, **how)  # type: ignore[call-overload,no-any-return]
    except (OSError, subprocess.SubprocessError) as error:
        raise OptionError(f"{program[0]} failed: {error}") from error
