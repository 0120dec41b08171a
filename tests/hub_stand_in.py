"""A small HTTP server that answers as the hub does, on a loopback port.

    with stand_in({"org/model": folder}) as server: ...   # server.url, server.requests

Files are listed with git's SHA-1, or as large files with their SHA-256, and served with
`Range`. An id that starts with "gated/", "limited/" or "down/" is refused in that way; any
other id that was not given does not exist. What goes wrong on the way is set on the server.
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

__all__ = ["COMMIT", "LARGE", "Server", "oid", "stand_in"]

COMMIT = "1" * 40
#: Files from this size on are listed as large ones.
LARGE = 4096

_REFUSALS = {"gated": (403, "GatedRepo"), "limited": (429, ""), "down": (501, "")}


class Server(ThreadingHTTPServer):
    """Serves `models`, folders by hub id, and keeps the paths that were asked for.

    Attributes:
        drops: so many answers with the bytes of a file break off half way.
        no_ranges: files are sent whole, whatever part is asked for.
        spoiled: names of files of which one byte is wrong.
        refuse_next: answers to give instead of the next files, as (status, headers).
        gate: an event to wait for before the last byte of a file.
        ranges: the `Range` of each request for a file, "" for none.
    """

    daemon_threads = True

    def __init__(self, models: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.sent_bytes = 0
        self.drops = 0
        self.no_ranges = False
        self.spoiled: set[str] = set()
        self.refuse_next: list[tuple[int, dict[str, str]]] = []
        self.gate: threading.Event | None = None
        self.headers: dict[str, str] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no news."""


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
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        api = re.match(r"/api/models/([^/]+/[^/?]+)/(revision|tree)/", self.path)
        file = re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)", self.path)
        match = api or file
        name = match.group(1) if match else ""
        folder = self.server.models.get(name)
        if folder is None:
            status, code = _REFUSALS.get(name.split("/")[0], (404, "RepoNotFound"))
            self._send(status, b"", ({"X-Error-Code": code} if code else {}) | self.server.headers)
        elif api:
            value = _info(name, folder) if api.group(2) == "revision" else _tree(folder)
            self._send(200, json.dumps(value).encode(), {})
        elif file and (refusal := self._refusal()):
            self._send(refusal[0], b"", refusal[1])
        elif file:
            self._send_file(folder / file.group(2))

    def _refusal(self) -> tuple[int, dict[str, str]] | None:
        with self.server.lock:
            return self.server.refuse_next.pop(0) if self.server.refuse_next else None

    def _send_file(self, path: Path) -> None:
        server = self.server
        data = bytearray(path.read_bytes())
        if path.name in server.spoiled:
            data[-1] ^= 1
        wanted = self.headers.get("Range", "")
        server.ranges.append(wanted)
        begin = 0 if server.no_ranges or not wanted else int(wanted[6:].partition("-")[0])
        headers = {"ETag": f'"{oid(bytes(data))}"', "X-Repo-Commit": COMMIT}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        with server.lock:
            drop = server.drops > 0 and len(data) >= LARGE
            server.drops -= drop
        self._send(206 if begin else 200, bytes(data[begin:]), headers, drop=drop)

    def _send(
        self, status: int, data: bytes, headers: Mapping[str, str], drop: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 4 if drop else -1])
        self.server.sent_bytes += len(data) // 4 if drop else len(data)
        if drop:
            self.close_connection = True
            self.connection.close()
            return
        if self.server.gate is not None and len(data) >= LARGE:
            self.wfile.flush()
            self.server.gate.wait(30)
        self.wfile.write(data[-1:])


def _info(name: str, folder: Path) -> dict[str, Any]:
    files = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
    return {"_id": "1", "id": name, "sha": COMMIT, "private": False, "siblings": files}


def _tree(folder: Path) -> list[dict[str, Any]]:
    return [_entry(path) for path in sorted(folder.iterdir())]


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    entry: dict[str, Any] = {
        "type": "file", "path": path.name, "size": len(data), "oid": oid(data)
    }  # fmt: skip
    if len(data) >= LARGE:
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry


def oid(data: bytes) -> str:
    """What git calls a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
