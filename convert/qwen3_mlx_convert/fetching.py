"""Finding a model from the command line: a download shows its files, bytes, speed and time left.

Shared by the converter's commands and the app's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx import hub
from qwen3_mlx.catalogue import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from qwen3_mlx.pulling import Download, Listener

__all__ = ["byte_bars", "fetch"]


def fetch(name: str, *, source: bool = False) -> Path:
    """`hub.resolve`, with a bar for each file on a terminal, else a line now and then.

    What is here already is returned without a word.

    Raises:
        KeyboardInterrupt: as it came; what was downloaded is kept, and it says so.
    """
    folder = hub.find(name, source=source)
    if folder is not None:
        return folder
    try:
        with _listener() as listener:
            return hub.resolve(name, source=source, progress=listener)
    except KeyboardInterrupt:
        print(f"\nstopped; `qwen3-mlx pull {name}` goes on from here", file=sys.stderr)
        raise


@contextmanager
def _listener() -> Iterator[Listener]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with byte_bars() as progress:
        yield _Bars(progress)


@contextmanager
def byte_bars() -> Iterator[Progress]:
    """Bars on stderr that count bytes, with the speed and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


class _Bars:
    """One bar for each file that is under way, and one for all."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._all = progress.add_task("asking the hub", total=None)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, state: Download) -> None:
        bars = self._progress
        if state.note:
            bars.update(self._all, description=state.note)
            return
        bars.update(
            self._all, description=state.model, completed=state.done, total=state.total
        )  # fmt: skip
        for file in state.files:
            task = self._tasks.get(file.name)
            if file.doing in ("queued", "there"):
                if task is not None:
                    bars.update(task, visible=False)
                continue
            if task is None:
                task = self._tasks[file.name] = bars.add_task(file.name, total=file.total)
            doing = "" if file.doing == "reading" else f" ({file.doing})"
            bars.update(
                task, description=f"  {file.name}{doing}", completed=file.done, total=file.total
            )


class _Lines:
    """A line for each file that is there, and at most one every ten seconds in between."""

    def __init__(self) -> None:
        self._said = 0.0
        self._there: set[str] = set()
        self._note = ""

    def __call__(self, state: Download) -> None:
        if state.note and state.note != self._note:
            self._note = state.note
            print(f"{state.model}: {state.note}", file=sys.stderr)
        there = {file.name for file in state.files if file.doing == "there"}
        for name in sorted(there - self._there):
            print(f"{name} is here", file=sys.stderr)
        self._there |= there
        if state.seconds - self._said < 10:
            return
        self._said = state.seconds
        left = state.seconds_left
        print(
            f"{format_bytes(state.done)} of {format_bytes(state.total)}, "
            f"{format_bytes(state.bytes_per_second)}/s"
            + ("" if left is None else f", {_time(left)} left"),
            file=sys.stderr,
        )


def _time(seconds: float) -> str:
    """For people: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
