"""The door: a socket, a thread for each client, a line for each request, and an orderly end."""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from qwen3_mlx.errors import OptionError
from qwen3_mlx_app.server.connection import Connection, Times
from qwen3_mlx_app.server.desk import Desk
from qwen3_mlx_app.server.faults import ApiError

__all__ = ["Server"]

#: Clients at once; more are told so and turned away.
_MOST_CLIENTS = 256
#: Answers that are ended may send their last words for so long.
_LAST_WORDS_SECONDS = 3.0
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens, and lets a `Connection` have each client.

    Args:
        host: a name or number of this computer.
        port: 0 is any that is free.
        desk: answers the requests.
        log: told what happened, in one line; never what was asked or answered.

    Raises:
        OptionError: the port or the host cannot be used.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        desk: Desk,
        log: Callable[[str], None] = lambda line: None,
        *,
        times: Times | None = None,
        most_clients: int = _MOST_CLIENTS,
    ) -> None:
        self.desk, self.log, self.times = desk, log, times or Times()
        self.ending = False
        self._most_clients = most_clients
        self._guard = threading.Lock()
        self._clients: dict[Connection, threading.Thread] = {}
        self._connected = 0
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), Connection)
        except (OSError, OverflowError) as error:
            raise OptionError(
                f"port {port} of {host} cannot be used ({error}): choose another --port"
            ) from error

    @property
    def url(self) -> str:
        """The address for clients."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        if name in ("0.0.0.0", "::"):  # every address of this computer: this is one
            name = socket.gethostname()
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/v1"

    def close(self) -> None:
        """No new clients; running answers are cancelled and sent; then the model goes.

        After `serve_forever` has returned, on its thread or another.
        """
        self.ending = True
        self.server_close()
        with self._guard:
            clients = dict(self._clients)
        self.desk.served.cancel()
        for client in clients:
            client.hang_up()
        until = time.monotonic() + _LAST_WORDS_SECONDS
        for thread in clients.values():
            thread.join(timeout=max(0.0, until - time.monotonic()))
        self.desk.served.close()

    # For connections.

    def came(self, client: Connection) -> None:
        """A client's thread runs."""
        with self._guard:
            self._clients[client] = threading.current_thread()

    def left(self, client: Connection) -> None:
        """It ends."""
        with self._guard:
            self._clients.pop(client, None)

    def tell(self, client: Connection, seconds: float) -> None:
        """Log one request: when, which page, how it ended; nothing of what was said."""
        page = client.page if self.desk.has(client.page) else "(no page)"
        method = client.command if client.command in _METHODS else "(no method)"
        words = [method, page, str(client.status), f"{seconds:.2f} s"]
        self.log(" ".join(words) + (f", {client.about}" if client.about else ""))

    # For socketserver.

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:  # no file descriptors are left: those who talk will free some
            self.log(f"cannot accept: {error.strerror}")
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            full = self._connected >= self._most_clients
            self._connected += not full
        if full:
            self._turn_away(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._gone()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._gone()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Without a traceback: it could show what was asked."""
        self.log(f"fault of a connection: {type(sys.exc_info()[1]).__name__}")

    def _gone(self) -> None:
        with self._guard:
            self._connected -= 1

    def _turn_away(self, request: socket.socket) -> None:
        self.log("refused: too many clients")
        with suppress(OSError):
            request.settimeout(1.0)
            request.sendall(_too_many(self._most_clients))
        self.shutdown_request(request)


def _too_many(most: int) -> bytes:
    error = ApiError(503, f"{most} clients are connected already: try again later", code="busy")
    body = json.dumps(error.body()).encode()
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
    return head.encode() + body
