"""The agent's door: one socket, one lock, a thread for each client, and an orderly end."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import qwen3_mlx.version
from qwen3_mlx.errors import OptionError, Qwen3Error
from qwen3_mlx.interface import Generation
from qwen3_mlx.version import __version__
from qwen3_mlx.warm import place
from qwen3_mlx.warm.wire import Frames
from qwen3_mlx_app.agent.holder import Holder
from qwen3_mlx_app.agent.identity import Identity
from qwen3_mlx_app.agent.talk import Talk

__all__ = ["Busy", "Server"]

#: Conversations at once; more are told so and turned away.
_MOST_CLIENTS = 256
#: A client that says or takes nothing for so long is given up.
_STALL_SECONDS = 30.0
#: What runs may end by itself for so long before a restart.
_DRAIN_SECONDS = 60.0
#: And may send its last event for so long before the agent ends.
_LAST_WORDS_SECONDS = 3.0


class Busy(Qwen3Error):
    """Another agent of this user listens already."""


class Server:
    """Listens, and lets a `Talk` have each client.

    Args:
        identity: the model, and the names that mean it.
        holder: keeps it.
        log: told what happened, in one line.
        tick: seconds between two looks at the clock.

    Raises:
        Busy: another agent of this user is there.
        OptionError: the folder of the socket cannot be used.
    """

    def __init__(
        self,
        identity: Identity,
        holder: Holder,
        log: Callable[[str], None] = lambda line: None,
        *,
        tick: float = 5.0,
        version: str = __version__,
        most_clients: int = _MOST_CLIENTS,
        stall_seconds: float = _STALL_SECONDS,
    ) -> None:
        self.identity, self.holder, self.version = identity, holder, version
        self._log, self._tick = log, tick
        self._most_clients, self._stall_seconds = most_clients, stall_seconds
        self._leaving: Literal["", "stop", "restart"] = ""
        self._running: set[Generation] = set()
        self._clients: set[threading.Thread] = set()
        self._guard = threading.Lock()
        self._served = self._refused = 0
        self._began = time.time()
        self._lock, self._listener = _listen(tick)

    def run(self) -> Literal["stop", "restart"]:
        """Serve until somebody says stop or restart; which of the two."""
        self.log(f"agent {self.version} with {self.identity.name}, process {os.getpid()}")
        try:
            while not self._leaving:
                self._accept()
                self.holder.tidy()
        finally:
            self._close()
        return "restart" if self._leaving == "restart" else "stop"

    def stop(self) -> None:
        """End: running answers are cancelled. For signal handlers and other threads."""
        self._leaving = "stop"
        self._wake()

    # What a Talk needs.

    def facts(self) -> dict[str, Any]:
        """Version, process, model, and how much there is to do."""
        return {
            "version": self.version,
            "pid": os.getpid(),
            "model": self.identity.name,
            "folder": str(self.identity.folder),
            "load": self.identity.load,
            "loaded": self.holder.loaded,
            "running": len(self._running),
            "clients": len(self._clients),
            "served": self._served,
            "refused": self._refused,
            "loads": self.holder.loads,
            "uptime_seconds": round(time.time() - self._began, 1),
            "log_lines_lost": getattr(self._log, "lost", 0),
        }

    def leave(self, how: str) -> str:
        """Stop or restart when what runs has ended; why not, or ""."""
        if how == "restart":
            installed = _installed_version()
            if installed == self.version:
                return (
                    f"the agent's own installation is version {installed} and not yours: "
                    "run `qwen3-mlx agent install` from the one you use"
                )
            self._leaving = self._leaving or "restart"
        else:
            self._leaving = "stop"
        self.log(f"asked to {how}")
        self._wake()
        return ""

    def began(self, generation: Generation) -> None:
        """An answer runs."""
        with self._guard:
            self._served += 1
            self._running.add(generation)
        if self._leaving == "stop":
            generation.cancel()

    def ended(self, generation: Generation) -> None:
        """It has ended."""
        with self._guard:
            self._running.discard(generation)

    def log(self, line: str) -> None:
        """Write a line into the log."""
        self._log(line)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return
        except OSError as error:  # no file descriptors are left: those who talk will free some
            self.log(f"cannot accept: {error}")
            time.sleep(0.1)
            return
        refusal = self._refusal(connection)
        if refusal:
            self._refused += 1
            self.log(f"refused: {refusal}")
            connection.settimeout(1.0)
            with suppress(OSError):
                Frames(connection).send({"refused": {"why": "busy", "text": refusal}})
            connection.close()
            return
        connection.settimeout(self._stall_seconds)
        thread = threading.Thread(target=self._talk, args=(Frames(connection),), daemon=True)
        with self._guard:
            self._clients.add(thread)
        thread.start()

    def _wake(self) -> None:
        """Let `accept` return, by a client that says nothing."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.1)
            client.connect(place.socket_path())

    def _refusal(self, connection: socket.socket) -> str:
        try:
            uid = place.peer_uid(connection)
        except OSError as error:
            return f"the system does not say who asks ({error})"
        if uid != os.geteuid():
            return f"user {uid} asks, and this agent belongs to user {os.geteuid()}"
        if len(self._clients) >= self._most_clients:
            return f"{self._most_clients} clients talk to it already: try again later"
        return ""

    def _talk(self, frames: Frames) -> None:
        try:
            Talk(frames, self).run()
        finally:
            with self._guard:
                self._clients.discard(threading.current_thread())

    def _close(self) -> None:
        """No new clients; the old ones finish, or are cancelled; then the model goes."""
        with suppress(OSError):
            os.unlink(place.socket_path())
        self._listener.close()
        wait = _DRAIN_SECONDS if self._leaving == "restart" else 0.0
        until = time.monotonic() + wait
        while self._running and time.monotonic() < until and self._leaving == "restart":
            time.sleep(0.05)
        with self._guard:
            running, clients = list(self._running), list(self._clients)
        for generation in running:
            generation.cancel()
        until = time.monotonic() + _LAST_WORDS_SECONDS
        for thread in clients:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        self.holder.close()
        self.log("agent ended")
        os.close(self._lock)  # last, so that the next agent finds the socket gone


def _listen(tick: float) -> tuple[int, socket.socket]:
    """The lock that only one agent has, and the socket it listens at."""
    try:
        lock = _only_lock(os.path.join(place.make_folder(), "agent.lock"))
        try:
            return lock, _socket(tick)
        except BaseException:
            os.close(lock)
            raise
    except (place.PlaceError, OSError) as error:
        raise OptionError(f"the agent cannot listen: {error}") from error


def _only_lock(path: str) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Busy("an agent is running already") from error
    return lock


def _socket(tick: float) -> socket.socket:
    path = place.socket_path()
    with suppress(FileNotFoundError):
        os.unlink(path)  # of an agent that was killed: the lock says that none is there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    listener.settimeout(tick)
    return listener


def _installed_version() -> str:
    """The version on disk, which differs from ours after an upgrade of the package."""
    try:
        with open(qwen3_mlx.version.__file__, encoding="utf-8") as file:
            found = re.search(r'^__version__ = "([^"]+)"', file.read(), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""
