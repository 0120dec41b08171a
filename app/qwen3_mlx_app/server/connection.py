"""HTTP/1.1 for one client: requests read with bounds of size and time, answers whole or in pieces.

The parsing is that of http.server; bounds, errors and streams are ours.
"""

from __future__ import annotations

import io
import json
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast

from qwen3_mlx_app.server.faults import ApiError, Gone, told

if TYPE_CHECKING:
    from qwen3_mlx_app.server.server import Server

__all__ = ["Connection", "Times"]

MOST_BODY_BYTES = 32_000_000
_LONGEST_LINE = 65_536
_LINGER_SECONDS = 2.0


class Times:
    """How long a client may take, in seconds: between requests, for a head, for a body, and to
    take a piece of the answer."""

    def __init__(
        self, idle: float = 75.0, head: float = 15.0, body: float = 120.0, write: float = 60.0
    ) -> None:
        self.idle, self.head, self.body, self.write = idle, head, body, write


class Connection(BaseHTTPRequestHandler):
    """One client's requests, one after the other, on a thread of their own."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"
    server_version, sys_version = "qwen3-mlx", ""
    request: socket.socket

    def setup(self) -> None:
        super().setup()
        self._server = cast("Server", self.server)
        self._times = self._server.times
        self.busy = False
        with suppress(OSError):  # a Mac refuses where the client has left already
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.settimeout(self._times.write)
        self.rfile.close()
        self._reader = _PatientReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)
        self._forget()
        self._server.came(self)

    def handle(self) -> None:
        """Requests until one side closes."""
        self.close_connection = False
        try:
            while not self.close_connection and not self._server.ending:
                self.close_connection = True
                if not self._read_head():
                    return
                self._answer()
        except (Gone, OSError):
            self.close_connection = True

    def finish(self) -> None:
        """Before closing: what the client still sends would make it lose our answer."""
        if self._unread:
            with suppress(OSError, Gone):
                self.connection.shutdown(socket.SHUT_WR)
                self._allow(_LINGER_SECONDS)
                while self._reader.readinto(bytearray(_LONGEST_LINE)):
                    pass
        self._server.left(self)
        super().finish()

    def hang_up(self) -> None:
        """Wait for no further request; what is being answered is answered."""
        if not self.busy:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RD)

    # For whoever answers.

    @property
    def page(self) -> str:
        """The path that is asked for, without its query."""
        path = self.path.partition("?")[0]
        if path.startswith("http://"):  # the whole address, as clients of a proxy send it
            path = "/" + path.removeprefix("http://").partition("/")[2]
        return path

    def body(self) -> bytes:
        """The body of the request, all of it.

        Raises:
            ApiError: it has no length, is too large, or comes too slowly.
            Gone: the client has left in the middle.
        """
        length = self._length()
        if self._expects:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._allow(self._times.body)
        try:
            data = self.rfile.read(length)
        except TimeoutError as error:
            raise ApiError(408, f"the body did not come within {self._times.body:.0f} s") from error
        except OSError as error:
            raise Gone from error
        if len(data) < length:
            raise Gone
        self._unread = False
        return data

    def send(
        self, status: int, value: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """An answer that is whole: JSON, or nothing.

        Raises:
            Gone: the client has left.
        """
        data = b"" if value is None else _json(value) + b"\n"
        about = {} if value is None else {"Content-Type": "application/json"}
        if status != HTTPStatus.NO_CONTENT:
            about["Content-Length"] = str(len(data))
        sent = b"" if self.command == "HEAD" else data
        self._send_head(status, {**about, **(headers or {})}, sent)

    def open_stream(self) -> None:
        """The head of an answer that comes in pieces, as server-sent events."""
        self._chunked = self.request_version != "HTTP/1.0"
        self.close_connection |= not self._chunked
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        if self._chunked:
            headers["Transfer-Encoding"] = "chunked"
        self._send_head(HTTPStatus.OK, headers)

    def send_piece(self, value: Any) -> None:
        """An event of the stream: an object, by its type if it has one, or a word as [DONE]."""
        name = value.get("type") if isinstance(value, dict) else None
        head = f"event: {name}\n".encode() if name else b""
        data = value.encode() if isinstance(value, str) else _json(value)
        self._send_chunk(head + b"data: " + data)

    def send_comment(self, text: str) -> None:
        """A line of the stream that clients pass over, so that none of them takes it for dead."""
        self._send_chunk(b": " + text.encode())

    def end_stream(self) -> None:
        """The stream is whole."""
        if self._chunked:
            self._write(b"0\r\n\r\n")

    # For http.server.

    def handle_expect_100(self) -> bool:
        """The client may send its body when it is clear that it is wanted."""
        self._expects = True
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server finds wrong with a head."""
        self.close_connection = self._unread = True
        try:
            self._refuse(ApiError(int(code), message or HTTPStatus(code).phrase))
        finally:
            self._server.tell(self, 0.0)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line is written for each request, by `_answer`."""

    # Reading.

    def _forget(self) -> None:
        """Nothing is known of the next request yet."""
        self._expects = self._unread = self._chunked = False
        self.status, self.about = 0, ""
        self.command, self.path, self.requestline = "", "", ""
        self.request_version = "HTTP/1.1"
        self._allowed_origin = ""

    def _allow(self, seconds: float) -> None:
        self._reader.until = time.monotonic() + seconds

    def _read_head(self) -> bool:
        """The next request's line and headers; False if there is none that can be used."""
        self._forget()
        self._allow(self._times.idle)
        if not self.rfile.peek(1):  # type: ignore[attr-defined]
            return False
        self._allow(self._times.head)
        try:
            self.raw_requestline = self.rfile.readline(_LONGEST_LINE + 1)
            if len(self.raw_requestline) > _LONGEST_LINE:
                self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
                return False
            sound = self.parse_request()
        except TimeoutError:
            self.send_error(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the head of the request did not come within {self._times.head:.0f} s",
            )
            return False
        if sound:
            lengths = self.headers.get_all("Content-Length") or ["0"]
            self._unread = lengths != ["0"] or "Transfer-Encoding" in self.headers
        return sound

    def _length(self) -> int:
        lengths, self._unread = self.headers.get_all("Content-Length") or [], True
        if "Transfer-Encoding" in self.headers or not lengths:
            raise ApiError(411, "send the body with its Content-Length")
        if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            raise ApiError(400, "the Content-Length is not one number")
        if len(lengths[0]) > 15 or int(lengths[0]) > MOST_BODY_BYTES:
            raise ApiError(413, f"the body is larger than {MOST_BODY_BYTES:,} bytes")
        return int(lengths[0])

    # Answering.

    def _answer(self) -> None:
        began, self.busy = time.monotonic(), True
        try:
            try:
                self._server.desk.answer(self)
            except ApiError as error:
                self._refuse(error)
            except Gone:
                raise
            except Exception as error:
                self._server.log(f"fault: {type(error).__name__}")
                self._refuse(told(error))
        except Gone:
            self.about = "the client left"
            raise
        finally:
            self.busy = False
            self._server.tell(self, time.monotonic() - began)

    def _refuse(self, error: ApiError) -> None:
        """An error as the answer, or as the last piece of one that has begun."""
        self.about = self.about or (error.code or "")
        if not self.status:
            self.send(error.status, error.body(), error.headers)
            return
        self.close_connection = True
        for piece in error.last_pieces or (error.body(),):
            self.send_piece(piece)
        self.end_stream()

    def allow_reading(self, origin: str) -> None:
        """Let a page of this site read the answer; "" for none."""
        self._allowed_origin = origin

    def _send_head(self, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
        """Status and headers, and what follows them in the same piece of the network's."""
        self.status = int(status)
        self.close_connection = self.close_connection or self._unread or self._server.ending
        always = {"Server": self.server_version, "Date": self.date_time_string()}
        if self.close_connection:
            always["Connection"] = "close"
        elif self.request_version == "HTTP/1.0":
            always["Connection"] = "keep-alive"
        if self._allowed_origin:
            always |= {"Access-Control-Allow-Origin": self._allowed_origin, "Vary": "Origin"}
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in {**always, **headers}.items()]
        self._write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + data)

    def _send_chunk(self, event: bytes) -> None:
        data = event + b"\n\n"
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _write(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError as error:
            self.close_connection = True
            raise Gone from error


class _PatientReader(io.RawIOBase):
    """Reads a socket until a time that may be set anew, however slowly bytes come."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self.until = connection, 0.0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0 or not self._poll.poll(left * 1000):
            raise TimeoutError("the client is too slow")
        return self._connection.recv_into(buffer)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
