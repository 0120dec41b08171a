"""A server on a thread of the test, and a client that says what it likes.

with serving(lambda call: call.prompt.upper()) as stand: …     # stand.model is the FakeModel
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from qwen3_mlx.interface import ChatModel
from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.server.desk import Desk
from qwen3_mlx_app.server.gate import Gate
from qwen3_mlx_app.server.guard import Guard
from qwen3_mlx_app.server.served import Served
from qwen3_mlx_app.server.server import Server

__all__ = ["CHAT", "PATIENCE", "Reply", "Stand", "hi", "serving"]

#: What never happens is given up after so long; a slow machine takes part of it.
PATIENCE = 120.0
CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    """A response, and its body as JSON or as the pieces of a stream."""

    status: int
    headers: http.client.HTTPMessage
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The objects of a stream of named events, which has no word at its end."""
        events = [each for each in self.data.decode().split("\n\n") if each[:1] != ":"]
        assert events.pop() == ""
        made = []
        for name, data in (event.split("\n") for event in events):
            made.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {made[-1]['type']}"
        return made

    @property
    def pieces(self) -> list[Any]:
        """The objects of a stream, whose end is [DONE]."""
        events = [each for each in self.data.decode().split("\n\n") if each[:1] != ":"]
        assert events[-2:] == ["data: [DONE]", ""]
        return [json.loads(each.removeprefix("data: ")) for each in events[:-2]]


@dataclass
class Stand:
    """A running server, and requests to it."""

    server: Server
    model: Any
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def gate(self) -> Gate:
        return self.server.desk.gate

    @property
    def served(self) -> Served:
        return self.server.desk.served

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method: str, page: str, body: Any = None, **headers: str) -> Reply:
        """One request on a connection of its own."""
        connection = self.open()
        try:
            return self.on(connection, method, page, body, **headers)
        finally:
            connection.close()

    def on(
        self, connection: http.client.HTTPConnection, method: str, page: str, body: Any = None,
        **headers: str,
    ) -> Reply:  # fmt: skip
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, page, data, named)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())

    def chat(self, text: str = "hi", **more: Any) -> Reply:
        """A question; `more` are fields of the body."""
        return self.ask("POST", CHAT, hi(text) | more)

    def raw(self, data: bytes = b"") -> socket.socket:
        """A connection that has sent these bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(data)
        return connection


def hi(text: str = "hi") -> dict[str, Any]:
    """The body of the smallest question."""
    return {"messages": [{"role": "user", "content": text}]}


@contextmanager
def serving(
    tape: Any = lambda call: call.prompt.upper(),
    *,
    parallel: int = 4,
    waiting: int = 16,
    guard: Guard | None = None,
    load: Callable[[], ChatModel] | None = None,
    probe: Callable[[ChatModel], None] = lambda model: None,
    probe_seconds: float = PATIENCE,
    **options: Any,
) -> Iterator[Stand]:
    """A running server for a model that it calls "fake" and "org/fake".

    A `load` of the test's own is not called before the first request.
    """
    model = tape if not callable(tape) and not isinstance(tape, list) else FakeModel(tape)
    lines: list[str] = []
    served = Served(
        load or (lambda: model), probe=probe, probe_seconds=probe_seconds, log=lines.append
    )
    desk = Desk(["fake", "org/fake"], served, Gate(parallel, waiting), guard or Guard("127.0.0.1"))
    if load is None:
        served.open()
    server = Server("127.0.0.1", 0, desk, lines.append, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    lines.clear()
    thread.start()
    try:
        yield Stand(server, model, lines)
    finally:
        server.shutdown()
        server.close()
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()
