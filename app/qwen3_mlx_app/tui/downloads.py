"""Models that are being fetched while the chat goes on: each on a thread of its own.

A download outlives the list of models: it goes on when the list is closed, and can be paused
and taken up again, also by a later run of the program.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Literal, TypeAlias

from qwen3_mlx.errors import DownloadPaused
from qwen3_mlx.pulling import Download, Listener
from qwen3_mlx_app.tui.faults import log_fault

__all__ = ["Downloads", "Fetch", "Fetching"]

#: Brings a model here: its name, who hears how far it is, and what pauses it.
Fetch: TypeAlias = Callable[[str, Listener, Event], Path]
Phase: TypeAlias = Literal["running", "paused", "failed", "done"]


@dataclass(slots=True)
class Fetching:
    """One download, as a front end shows it. Written by its thread, read by the screen."""

    name: str
    phase: Phase = "running"
    state: Download | None = None
    path: Path | None = None
    error: Exception | None = None
    stop: Event = field(default_factory=Event, repr=False)


class Downloads:
    """The downloads of this run.

    >>> downloads = Downloads(lambda name, tell, stop: Path(name))
    >>> downloads.start("8b")
    >>> downloads.wait()
    >>> downloads.of("8b").phase
    'done'
    """

    def __init__(self, fetch: Fetch | None = None) -> None:
        self._fetch = fetch or _from_hub
        self._all: dict[str, Fetching] = {}
        self._threads: list[threading.Thread] = []

    def of(self, name: str) -> Fetching | None:
        """The download of a model, if there is or was one."""
        return self._all.get(name)

    @property
    def all(self) -> list[Fetching]:
        """Every download, the oldest first."""
        return list(self._all.values())

    def start(self, name: str) -> None:
        """Begin, or go on with what is paused or failed; one that runs is left alone."""
        old = self._all.get(name)
        if old is not None and old.phase == "running":
            return
        fetching = self._all[name] = Fetching(name, state=old.state if old else None)
        thread = threading.Thread(
            target=self._run, args=(fetching,), name=f"fetch {name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def pause(self, name: str) -> None:
        """Stop it within a moment; what came is kept."""
        if (fetching := self._all.get(name)) is not None and fetching.phase == "running":
            fetching.stop.set()

    def close(self) -> None:
        """Pause everything, and wait a moment for the files to be closed."""
        for fetching in self.all:
            self.pause(fetching.name)
        self.wait(2.0)

    def wait(self, seconds: float = 60.0) -> None:
        """Wait for the threads to end."""
        for thread in self._threads:
            thread.join(seconds)

    def _run(self, fetching: Fetching) -> None:
        def hear(state: Download) -> None:
            fetching.state = state

        try:
            fetching.path = self._fetch(fetching.name, hear, fetching.stop)
        except DownloadPaused:
            fetching.phase = "paused"
        except Exception as error:
            log_fault(error)
            fetching.error, fetching.phase = error, "failed"
        else:
            fetching.phase = "done"


def _from_hub(name: str, tell: Listener, stop: Event) -> Path:
    from qwen3_mlx import hub

    return hub.resolve(name, progress=tell, stop=stop)
