"""A small HTTP server that answers as the hub does, on a loopback port.

    with stand_in({"org/model": folder}) as server: ...   # server.url, server.requests

An id that starts with "gated/", "limited/" or "down/" is refused in that way; any other id
that was not given does not exist.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["Server", "stand_in"]

COMMIT = "1" * 40

_REFUSALS = {"gated": (403, "GatedRepo"), "limited": (429, ""), "down": (501, "")}


class Server(ThreadingHTTPServer):
    """Serves `models`, folders by hub id, and keeps the paths that were asked for."""

    daemon_threads = True

    def __init__(self, models: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def stand_in(models: Mapping[str, Path]) -> Iterator[Server]:
    server = Server(models)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.server.requests.append(self.path)
        api = re.match(r"/api/models/([^/]+/[^/?]+)/(revision|tree)/", self.path)
        file = re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)", self.path)
        match = api or file
        name = match.group(1) if match else ""
        folder = self.server.models.get(name)
        if folder is None:
            status, code = _REFUSALS.get(name.split("/")[0], (404, "RepoNotFound"))
            self._send(status, b"", {"X-Error-Code": code} if code else {}, body)
        elif api:
            value = _info(name, folder) if api.group(2) == "revision" else _tree(folder)
            self._send(200, json.dumps(value).encode(), {}, body)
        elif file:
            data = (folder / file.group(2)).read_bytes()
            headers = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": COMMIT}
            self._send(200, data, headers, body)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


def _info(name: str, folder: Path) -> dict[str, Any]:
    files = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
    return {"_id": "1", "id": name, "sha": COMMIT, "private": False, "siblings": files}


def _tree(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "path": path.name,
            "size": path.stat().st_size,
            "oid": _oid(path.read_bytes()),
        }
        for path in sorted(folder.iterdir())
    ]


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
