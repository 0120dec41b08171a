"""The chat in a browser: who is refused, and a page that asks for nothing from elsewhere."""

from __future__ import annotations

import argparse
import gc
import re
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("textual_serve", reason="the web extra is not installed")

from aiohttp import ClientSession, CookieJar, WSMsgType, WSServerHandshakeError, web

from qwen3_mlx.errors import OptionError
from qwen3_mlx_app import chat_command
from qwen3_mlx_app.web.serve import HOST, ChatServer, serve

#: Stands in for the app: it says that it is one, draws a word, and ends when it is told to.
APP = (
    "import sys, struct; o = sys.stdout.buffer; o.write(b'__GANGLION__\\n');"
    "o.write(b'D' + struct.pack('>I', 5) + b'drawn'); o.flush(); sys.stdin.buffer.read(5)"
)


@asynccontextmanager
async def running(command: str = "true") -> AsyncIterator[tuple[ChatServer, ClientSession]]:
    """A server on a free port, and a browser of sorts."""
    listening = socket.create_server((HOST, 0))  # held from here on, so no other program gets it
    server = ChatServer(command, listening.getsockname()[1])
    runner = web.AppRunner(await server.make_app())
    await runner.setup()
    await web.SockSite(runner, listening).start()
    base = f"http://{HOST}:{server.port}"
    try:
        async with ClientSession(base, cookie_jar=CookieJar(unsafe=True)) as client:
            yield server, client
    finally:
        await runner.cleanup()


async def enter(server: ChatServer, client: ClientSession) -> str:
    """Spend the token; the page."""
    async with client.get(f"/?token={server.token}") as response:
        assert response.status == 200
        assert response.url.query_string == ""
        return await response.text()


async def test_the_token_works_once() -> None:
    async with running() as (server, client):
        token = server.token
        for path in ("/", "/?token=wrong", "/static/js/textual.js", "/ws", "/download/x"):
            async with client.get(path, headers={"Origin": server.url.split("/?")[0]}) as answer:
                assert answer.status == 403
        await enter(server, client)
        async with client.get("/") as answer:
            assert answer.status == 200  # the cookie
        client.cookie_jar.clear()
        async with client.get(f"/?token={token}") as answer:
            assert answer.status == 403
            assert "works once" in await answer.text()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "[::1]:{port}"]
)
async def test_another_host_is_refused(host: str) -> None:
    async with running() as (server, client):
        await enter(server, client)
        name = host.format(port=server.port)
        async with client.get("/", headers={"Host": name}) as answer:
            assert answer.status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", None])
async def test_another_origin_is_refused(origin: str | None) -> None:
    async with running() as (server, client):
        await enter(server, client)
        headers = {} if origin is None else {"Origin": origin}
        with pytest.raises(WSServerHandshakeError, match="403"):
            await client.ws_connect("/ws", headers=headers)
        if origin is not None:
            async with client.get("/", headers=headers) as answer:
                assert answer.status == 403


async def test_the_page_and_all_it_needs_are_here() -> None:
    async with running() as (server, client):
        page = await enter(server, client)
        needed = set(re.findall(r"(?:src|href)=\"([^\"]+)\"|url\(\"([^\"]+)\"\)", page))
        paths = {one or other for one, other in needed} - {"data:,"}
        assert paths == {
            "/static/css/xterm.css", "/static/js/textual.js",
            "/static/fonts/RobotoMono-VariableFont_wght.ttf",
        }  # fmt: skip
        for path in paths:
            async with client.get(path) as answer:
                assert answer.status == 200
                text = (await answer.read()).decode("latin-1") if "fonts" not in path else ""
                text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
                assert not re.search(r"https?://|@import|url\(\s*['\"]?//", text)
        assert not re.search(r"https?://|[\"'(]//", page)
        async with client.get("/") as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert policy.count("http") == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_screen_comes_over_the_websocket_and_a_second_one_takes_its_place() -> None:
    async with running(shlex.join([sys.executable, "-c", APP])) as (server, client):
        await enter(server, client)
        origin = {"Origin": f"http://{HOST}:{server.port}"}
        async with client.ws_connect("/ws?width=80&height=24", headers=origin) as first:
            assert (await first.receive(timeout=60)).data == b"drawn"
            async with client.ws_connect("/ws", headers=origin) as second:
                assert (await second.receive(timeout=60)).data == b"drawn"
                end = await first.receive(timeout=60)
                assert end.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)
    gc.collect()  # textual-serve leaves the pipes of its programs to be collected


def test_wrong_wishes_are_one_sentence() -> None:
    parser = argparse.ArgumentParser()
    chat_command.add_parser(parser.add_subparsers())
    with pytest.raises(OptionError, match="leave one of them out"):
        chat_command.run(parser.parse_args(["chat", "--web", "--plain"]))
    with pytest.raises(OptionError, match="--port is for --web"):
        chat_command.run(parser.parse_args(["chat", "--port", "8080"]))
    with pytest.raises(OptionError, match="choose another --port"):
        serve([], 70_000)
