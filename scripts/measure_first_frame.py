"""How long `qwen3-mlx chat` takes to its first frame in a terminal, over bare Python.

    python scripts/measure_first_frame.py [--rounds 9]

The chat runs in a pseudo-terminal with an empty home; the clock stops when the composer's words
and the key bar have been written. Each round also runs `python -c pass` and an app of Textual's
with one line of text, so that a busy computer slows all. CPU time is less changed by company.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time

MARKS = (b"essage Qwen3", b"F1")  # the cursor stands on the M


EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("essage Qwen3 F1")
Empty().run()
"""


def first_frame(command: list[str], marks: tuple[bytes, ...]) -> tuple[float, float]:
    """Seconds until all the marks were written (or the program's end), and CPU seconds then."""
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        child, terminal = pty.fork()
        if child == 0:
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users keep their compiled modules
            os.environ |= {"QWEN3_MLX_HOME": home, "TERM": "xterm-256color", "LANG": "en_US.UTF-8"}
            os.execv(command[0], command)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        seen = b""
        while not marks or not all(mark in seen for mark in marks):
            ready, _, _ = select.select([terminal], [], [], 60)
            try:
                piece = os.read(terminal, 65536) if ready else b""
            except OSError:  # the end, as Linux tells it
                piece = b""
            if not piece:
                break
            seen += piece
        taken = time.perf_counter() - began
        if marks and not all(mark in seen for mark in marks):
            raise SystemExit(f"no frame came: {seen[-400:]!r}")
        if marks:
            os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
        os.close(terminal)
        return taken, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    chat = [sys.executable, "-m", "qwen3_mlx_app.cli", "chat", "-m", "tiny"]
    bare = [sys.executable, "-c", "pass"]
    empty = [sys.executable, "-c", EMPTY]
    times: list[list[tuple[float, float]]] = [[], [], []]
    for number in range(args.rounds + 1):
        round_ = first_frame(chat, MARKS), first_frame(empty, MARKS), first_frame(bare, ())
        if number:  # the first round fills the caches of files and of compiled Python
            for kept, taken in zip(times, round_, strict=True):
                kept.append(taken)
    for at, kind in enumerate(("clock", "CPU")):
        ours, textual, python = (statistics.median(each[at] for each in kept) for kept in times)
        print(
            f"{kind}: first frame {ours:.3f} s, bare Python {python:.3f} s, over it "
            f"{ours - python:.3f} s; an empty Textual app over it {textual - python:.3f} s"
        )


if __name__ == "__main__":
    main()
