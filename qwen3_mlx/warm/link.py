"""Asking the agent: connect, say hello, ask, read what comes as plain objects.

    stream = ask("tiny", {}, "What is 12 + 30?", {"max_tokens": 8})
    for event in stream: …        # {"event": "TextDelta", "text": "42", "tokens": 1} and so on

None instead of a stream means that no agent holds this model, and that the caller should load
it. QWEN3_MLX_AGENT=0 turns all of this off.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from qwen3_mlx import errors
from qwen3_mlx.version import __version__
from qwen3_mlx.warm import place
from qwen3_mlx.warm.wire import PROTOCOL, Frames, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 3 ms to import
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

__all__ = ["Stream", "ask", "call", "error_of", "holds", "key_of", "switched_off", "tell", "wanted"]

#: The agent answers a hello at once, even while it loads or is busy.
_HELLO_SECONDS = 5.0
#: How long an agent of another version may take to finish what it does and come back.
_RESTART_SECONDS = 10.0


def switched_off() -> bool:
    """Whether QWEN3_MLX_AGENT says that agents are not to be used."""
    return os.environ.get("QWEN3_MLX_AGENT", "").lower() in ("0", "no", "off", "false")


def key_of(name: str) -> str:
    """A model's name in words that the agent, which runs elsewhere, understands."""
    path = os.path.expanduser(name)
    return os.path.realpath(path) if name != "tiny" and os.path.exists(path) else name


def wanted(model: str, load: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request that says which model is meant, and how it should be loaded."""
    stated = {name: value for name, value in load.items() if value is not None}
    return {"model": key_of(model), "load": stated}


def ask(
    model: str,
    load: Mapping[str, Any],
    prompt: str | Sequence[Mapping[str, Any]],
    wishes: Mapping[str, Any],
    *,
    note: Callable[[str], None] = lambda text: None,
) -> Stream | None:
    """Start an answer at the agent; None where there is none, or it holds another model.

    Args:
        model: a name as for `qwen3_mlx.load`.
        load: arguments of `load` that were stated; an agent that was started with others
            does not answer.
        prompt: the user's words, or messages.
        wishes: keyword arguments of `Qwen3.stream`; `sampling` is an object of its fields.
        note: told in one sentence when there is an agent that cannot be used.

    Raises:
        Qwen3Error: the agent's model does not take the question.
    """
    asked = {"do": "ask", **wanted(model, load), "prompt": prompt, "wishes": dict(wishes)}
    opened = call(asked, note=note)
    if opened is None:
        return None
    frames, first = opened
    if first.get("event") == "Failed":
        frames.close()
        raise error_of(first["error"])
    return Stream(frames, first)


def holds(
    model: str, load: Mapping[str, Any], *, note: Callable[[str], None] = lambda text: None
) -> bool:
    """Whether an agent holds this model, or would load it for the next question."""
    return tell({"do": "holds", **wanted(model, load)}, note=note) is not None


def tell(
    message: Mapping[str, Any], *, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any] | None:
    """Say one thing to the agent, and return its answer; None where nobody answers."""
    opened = call(message, note=note)
    if opened is None:
        return None
    opened[0].close()
    return opened[1]


def call(
    message: Mapping[str, Any], *, note: Callable[[str], None] = lambda text: None
) -> tuple[Frames, dict[str, Any]] | None:
    """Send one message after a hello; the connection, and the agent's first answer to it.

    None where nobody answers, or nobody who can.
    """
    try:
        return _call(message, note, may_renew=True)
    except (OSError, WireError) as error:
        note(f"the agent at {place.socket_path()} does not answer as it should ({error})")
        return None


def error_of(plain: Mapping[str, Any]) -> Exception:
    """The error that a `Failed` carries over the wire."""
    kind = getattr(errors, str(plain.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.Qwen3Error)):
        kind = errors.EngineError
    error = kind.__new__(kind)
    error.args = (str(plain.get("message", "")),)
    if isinstance(plain.get("smallest"), int):
        error.smallest = plain["smallest"]  # type: ignore[attr-defined]
    return error


class Stream:
    """A running answer at the agent: iterate it once, for events as plain objects."""

    def __init__(self, frames: Frames, first: dict[str, Any]) -> None:
        self._frames, self._first = frames, first

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Events, of which the last one is a `Done` or a `Failed`.

        Raises:
            AgentGoneError: the agent ended, or was ended, in the middle of the answer.
        """
        event: dict[str, Any] | None = self._first
        try:
            while event is not None:
                yield event
                if event.get("event") in ("Done", "Failed"):
                    return
                event = self._frames.read(patient=True)
        except (OSError, WireError):
            pass
        finally:
            self._frames.close()
        raise errors.AgentGoneError(
            "the agent ended in the middle of the answer: ask again, or pass --no-agent"
        )

    def cancel(self) -> None:
        """End within one token; what was said comes with `Done`."""
        self._tell("cancel")

    def answer_now(self) -> None:
        """End the thought within one token, and answer from what has been thought."""
        self._tell("answer_now")

    def think_more(self, minimum: int) -> None:
        """Hold the thought open until it has so many tokens; at most as many as the context."""
        self._tell("think_more", minimum=minimum)

    def close(self) -> None:
        """Give the answer up."""
        self._frames.close()

    def _tell(self, do: str, **more: int) -> None:
        with suppress(OSError):  # it has ended by itself, which the reading side tells
            self._frames.send({"do": do, **more})


def _call(
    message: Mapping[str, Any], note: Callable[[str], None], *, may_renew: bool
) -> tuple[Frames, dict[str, Any]] | None:
    frames = _connect(note)
    if frames is None:
        return None
    try:
        with suppress(OSError):  # it may have turned us away before; then it says why
            frames.send({"hello": {"protocol": PROTOCOL, "version": __version__}}, message)
        hello = frames.read()
        turned_away = hello is not None and "refused" in hello
        first = hello if turned_away else frames.read(patient=True)
        if hello is None or first is None:
            raise WireError("it hung up")
        refusal = first.get("refused")
        if refusal is None:
            return frames, first
        if refusal.get("why") == "version" and may_renew and _renew(frames, note):
            return _call(message, note, may_renew=False)
        if refusal.get("why") not in ("model", "version"):
            note(f"the agent does not answer: {refusal.get('text')}")
    except BaseException:
        frames.close()
        raise
    frames.close()
    return None


def _connect(note: Callable[[str], None]) -> Frames | None:
    if switched_off():
        return None
    try:
        found = place.problem()
        if found:
            note(f"the agent is not used: {found}")
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_HELLO_SECONDS)
            connection.connect(place.socket_path())
            if place.peer_uid(connection) != os.geteuid():
                raise WireError("it belongs to another user")
        except BaseException:
            connection.close()
            raise
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None  # no agent was started, or it is gone
    return Frames(connection)


def _renew(frames: Frames, note: Callable[[str], None]) -> bool:
    """Have an agent of another version come back as this one; whether it did."""
    frames.send({"do": "restart"})
    answer = frames.read(patient=True) or {}
    frames.close()
    if "refused" in answer:
        note(f"the agent is not used: {answer['refused'].get('text')}")
        return False
    until = time.monotonic() + _RESTART_SECONDS
    while time.monotonic() < until:
        try:
            opened = _call({"do": "status"}, lambda text: None, may_renew=False)
        except (OSError, WireError):
            opened = None
        if opened is not None:
            opened[0].close()
            return True
        time.sleep(0.05)
    note("the agent of an older version is still busy: it will restart when it has finished")
    return False
