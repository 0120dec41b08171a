"""`qwen3-mlx chat --web`: the same app in a browser, on this computer only.

textual-serve carries the screen over a websocket. Its own page loads a font from outside, and
it answers anyone: any page that is open in a browser could talk to it, through its port or by a
name that resolves to 127.0.0.1. So here the page is ours and needs nothing from elsewhere, the
Host and Origin headers must be this server's, and the address that the terminal prints has a
token that works once and is exchanged for a cookie.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from string import Template

from aiohttp import web
from textual_serve.server import Server

from qwen3_mlx.errors import OptionError

__all__ = ["ChatServer", "serve"]

HOST = "127.0.0.1"
_PAGE = Path(__file__).parent / "page.html"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self' {ws}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ChatServer(Server):
    """One browser, one chat: a second connection takes the place of the first."""

    def __init__(self, command: str, port: int) -> None:
        super().__init__(command, host=HOST, port=port, title="qwen3-mlx chat")
        self.token: str | None = secrets.token_urlsafe(24)
        self._session = secrets.token_urlsafe(24)
        # Browsers share cookies between the ports of a host.
        self._cookie = f"qwen3_mlx_{port}"
        self._hosts = (f"{HOST}:{port}", f"localhost:{port}")
        self._running: asyncio.Task[object] | None = None

    @property
    def url(self) -> str:
        """The address to open, once."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    async def make_app(self) -> web.Application:
        """The application; every request passes the guard."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/ws", self.handle_websocket),
                web.get("/download/{key}", self.handle_download),
                web.static("/static", self.statics_path),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Ours are the host, the origin and, but for the first visit, the cookie."""
        if request.host not in self._hosts:
            raise web.HTTPForbidden(text=f"this server is {self._hosts[0]}, not {request.host}\n")
        origin = request.headers.get("Origin")
        if origin is None and request.path == "/ws":
            raise web.HTTPForbidden(text="a websocket needs an Origin\n")
        if origin is not None and origin != f"http://{request.host}":
            raise web.HTTPForbidden(text=f"{origin} is another site\n")
        if request.path == "/" and self._spend(request.query.get("token", "")):
            answer = web.Response(status=303, headers={"Location": "/"})
            answer.set_cookie(self._cookie, self._session, httponly=True, samesite="Strict")
            return answer
        given = request.cookies.get(self._cookie, "")
        if not hmac.compare_digest(given.encode(), self._session.encode()):
            raise web.HTTPForbidden(
                text="open the address that the terminal shows; its token works once\n"
            )
        return await handler(request)

    def _spend(self, given: str) -> bool:
        """Whether this is the token, which is then worth nothing any more."""
        if self.token is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            return False
        self.token = None
        return True

    async def _page(self, request: web.Request) -> web.Response:
        """Our page; the policy keeps it from loading anything from elsewhere."""
        socket_url = f"ws://{request.host}/ws"
        text = Template(_PAGE.read_text("utf-8")).substitute(websocket=socket_url, font_size=16)
        headers = {
            "Content-Security-Policy": _POLICY.format(ws=f"ws://{request.host}"),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Run the app for this connection; an older one is closed first."""
        older, self._running = self._running, asyncio.current_task()
        if older is not None:
            older.cancel()
            await asyncio.wait([older], timeout=5)
        return await super().handle_websocket(request)


def serve(argv: Sequence[str], port: int) -> int:
    """Serve `qwen3-mlx chat ARGV` until ^C; port 0 is any that is free."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise OptionError(f"port {port} cannot be used ({error}): choose another --port") from error
    command = shlex.join([sys.executable, "-m", "qwen3_mlx_app.cli", *argv])
    server = ChatServer(command, listening.getsockname()[1])
    print(f"open {server.url}\nThe address works once, on this computer; ^C ends the server.")
    web.run_app(server.make_app(), sock=listening, print=None)
    return 0
