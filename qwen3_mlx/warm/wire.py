"""Frames between the agent and its clients: four bytes of length, then one JSON object.

The length is big-endian and at most `MAX_FRAME`, so no one can make the other side keep more.
A conversation is one connection:

    client: {"hello": {"protocol": 2, "version": "0.1.0"}}  {"do": "ask", …}
    agent:  {"hello": {"protocol": 2, "version": …, "pid": …}}
            {"event": "TextDelta", "text": …, "tokens": …} … {"event": "Done", "reply": {…}}
         or {"refused": {"why": "model", "text": …}}

While an answer runs, the client may send {"do": "cancel"}, {"do": "answer_now"} and {"do":
"think_more", "minimum": N}, N from 0 to the context; a client that goes away cancels too, and so
does one that sends anything else. The other things to do are "holds", "info", "prepare",
"status", "stop" and "restart". The hello, "stop" and "restart" are the same in every version.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 3 ms to import
    from collections.abc import Mapping
    from typing import Any

__all__ = ["MAX_FRAME", "PROTOCOL", "Frames", "WireError", "pack"]

PROTOCOL = 2
MAX_FRAME = 16 << 20
_HEAD = 4


class WireError(Exception):
    """What came is not a frame: too long, cut short, or not a JSON object."""


def pack(message: Mapping[str, Any]) -> bytes:
    """One frame.

    >>> pack({"do": "stop"})
    b'\\x00\\x00\\x00\\r{"do":"stop"}'

    Raises:
        WireError: it would be longer than `MAX_FRAME`.
    """
    # ASCII keeps lone surrogates, which arguments that are no UTF-8 bring with them.
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_FRAME:
        raise WireError(f"a message of {len(body):,} bytes; the most is {MAX_FRAME:,}")
    return len(body).to_bytes(_HEAD, "big") + body


class Frames:
    """One end of a connection. Reading and writing may happen on two threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._held = bytearray()

    def send(self, *messages: Mapping[str, Any]) -> None:
        """Send messages in one piece.

        Raises:
            OSError: the other side is gone, or takes nothing for as long as the timeout.
        """
        self._socket.sendall(b"".join(map(pack, messages)))

    def read(self, *, patient: bool = False) -> dict[str, Any] | None:
        """The next message, or None where the other side has ended the conversation.

        `patient` waits beyond the socket's timeout, as long as no message has begun.

        Raises:
            WireError: what came is not a frame.
            TimeoutError: nothing came for as long as the socket's timeout.
        """
        if not self._fill(_HEAD, patient=patient):
            return None
        size = int.from_bytes(self._held[:_HEAD], "big")
        if size > MAX_FRAME:
            raise WireError(f"a message of {size:,} bytes; the most is {MAX_FRAME:,}")
        self._fill(_HEAD + size, patient=False)
        body = bytes(self._held[_HEAD : _HEAD + size])
        del self._held[: _HEAD + size]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise WireError(f"a message of {size:,} bytes that is not JSON") from error
        if not isinstance(message, dict):
            raise WireError("a message that is not a JSON object")
        return message

    def hang_up(self) -> None:
        """End the conversation; a thread that is reading hears of it."""
        with suppress(OSError):  # the other side may have done so before
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the conversation and free the socket. May be called twice."""
        self.hang_up()
        self._socket.close()

    def _fill(self, size: int, *, patient: bool) -> bool:
        """Hold at least `size` bytes; False where the other side ended before the first one."""
        while len(self._held) < size:
            try:
                piece = self._socket.recv(65536)
            except TimeoutError:
                if patient and not self._held:
                    continue
                raise
            if not piece:
                if self._held:
                    raise WireError(f"a message that ends after {len(self._held)} bytes")
                return False
            self._held += piece
        return True
