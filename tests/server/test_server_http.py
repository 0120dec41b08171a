"""HTTP itself: connections that stay, bodies with bounds, clients that are slow or malformed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from agent_stand import until
from hypothesis import given
from hypothesis import strategies as st
from server_stand import CHAT, Stand, hi, serving

from qwen3_mlx.testing import Answer
from qwen3_mlx_app.server.connection import Times

BODY = json.dumps(hi()).encode()
POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % CHAT.encode()
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    with connection:
        got = b""
        while part := connection.recv(65_536):
            got += part
    return got


def test_a_connection_stays_for_many_requests() -> None:
    with serving() as stand:
        connection = stand.open()
        for streams in (False, True, False, True):
            reply = stand.on(connection, "POST", CHAT, hi() | {"stream": streams})
            assert reply.status == 200
            assert b"HI" in reply.data
            assert stand.on(connection, "GET", "/nowhere").status == 404
            assert stand.on(connection, "POST", CHAT, b"{").status == 400
            assert stand.on(connection, "HEAD", "/v1/models").data == b""
        assert len(stand.server._clients) == 1
        connection.close()


def test_requests_that_come_at_once_are_answered_in_order() -> None:
    last = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    with serving(["one", "two", "three"]) as stand:
        got = everything(stand.raw(WHOLE + WHOLE + last))
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.index(b'"one"') < got.index(b'"two"') < got.index(b'"three"')


def test_the_old_protocol_gets_a_stream_without_chunks() -> None:
    body = json.dumps(hi() | {"stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving() as stand:
        got = everything(stand.raw(head.encode() + body))
    assert b"Transfer-Encoding" not in got
    assert got.endswith(b"data: [DONE]\n\n")


def test_the_body_is_asked_for_where_it_is_wanted() -> None:
    head = POST + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    with serving() as stand:
        connection = stand.raw(head % len(BODY))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert everything(connection).startswith(b"HTTP/1.1 200")
        connection = stand.raw(head % 99_000_000)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).startswith(b"HTTP/1.1 413")


def test_head_options_and_wrong_methods() -> None:
    with serving() as stand:
        head = stand.ask("HEAD", "/v1/models")
        assert (head.status, head.data) == (200, b"")
        assert int(head.headers["Content-Length"]) == len(stand.ask("GET", "/v1/models").data)
        options = stand.ask("OPTIONS", CHAT)
        assert (options.status, options.headers["Allow"]) == (204, "POST, OPTIONS")
        assert not [name for name in options.headers if name.lower().startswith("access-control")]
        assert stand.ask("OPTIONS", "*").status == 204
        for method, page in (("GET", CHAT), ("BREW", "/health"), ("DELETE", "/v1/models")):
            reply = stand.ask(method, page)
            assert (reply.status, reply.error["type"]) == (405, "invalid_request_error")
            assert reply.headers["Allow"]
        assert stand.ask("GET", "/").status == 404
        assert stand.ask("GET", "/v1/models?a=b").status == 200


BODIES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"{", 400),
    (b"[]", 400),
    (b"null", 400),
    (b"\xff\xfe", 400),
    (b'{"messages": NaN}', 400),
    (b'{"seed": 1e999, "messages": [{"role": "user", "content": "hi"}]}', 400),
    (b'{"temperature": 1e999, "messages": [{"role": "user", "content": "hi"}]}', 400),
    (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    (b'{"seed": ' + b"9" * 10_000 + b"}", 400),
    (b'{"messages": ' + b"[" * 200 + b"]" * 200 + b"}", 400),
    (b"[" * 1_000_000, 400),
    (b'{"a":' * 500_000, 400),
    (b"\xef\xbb\xbf" + BODY, 200),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=lambda value: repr(value)[:24])
def test_bodies(body: bytes, status: int) -> None:
    with serving() as stand:
        reply = stand.ask("POST", CHAT, body)
    assert reply.status == status
    assert status == 200 or set(reply.error) == {"message", "type", "param", "code"}
    assert len(reply.data) < 2_000


HEADS: list[tuple[bytes, int]] = [
    (POST + b"\r\n", 411),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
    (POST + b"Content-Length: -1\r\n\r\n", 400),
    (POST + b"Content-Length: 1e3\r\n\r\n", 400),
    (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    (POST + b"Content-Length: 32000001\r\n\r\n", 413),
    (POST + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n", 413),
    (b"GET /health HTTP/9.9\r\n\r\n", 505),
    (b"hello\r\n\r\n", 400),
    (b"GET http://[/health HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
    (b"GET http://[ HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"GET /health HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    (b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
]


@pytest.mark.parametrize(("data", "status"), HEADS, ids=lambda value: repr(value)[-24:])
def test_heads(data: bytes, status: int) -> None:
    with serving() as stand:
        connection = stand.raw(data)
        connection.shutdown(socket.SHUT_WR)
        got = everything(connection)
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close" in head
        assert status == 200 or json.loads(body)["error"]["message"]
        assert stand.chat().status == 200  # and the server goes on


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with serving() as made:
        yield made


WORDS = st.sampled_from([
    b"GET ", b"POST ", b"/health", b"/v1/models/%ff", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n",
    b"Host: ", b"localhost", b"Content-Length: ", b"2", b"-5", b"Expect: 100-continue", b": ",
    b"Connection: close", b"{}", b"\0", b"\xff", b"[", b"//", b"?", b"*", b"OPTIONS ",
])  # fmt: skip


@given(st.lists(WORDS | st.binary(max_size=5), max_size=14))
def test_whatever_comes_is_answered_or_closed(stand: Stand, parts: list[bytes]) -> None:
    connection = stand.raw(b"".join(parts))
    connection.shutdown(socket.SHUT_WR)
    got = everything(connection)
    assert not got or got.startswith(b"HTTP/1.1 ")
    assert not [line for line in stand.lines if line.startswith("fault")]
    assert stand.ask("GET", "/health").status == 200


SLOW = {
    "head": b"POST ",
    "line": POST + b"Content-Le",
    "body": POST + b"Content-Length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW)
def test_clients_that_take_for_ever_are_let_go(data: bytes) -> None:
    with serving(times=Times(head=0.2, body=0.2)) as stand:
        assert everything(stand.raw(data)).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed() -> None:
    with serving(times=Times(idle=0.2)) as stand:
        assert everything(stand.raw()) == b""
        until(lambda: not stand.server._clients)


def test_too_many_clients_are_told_so() -> None:
    with serving(most_clients=1) as stand:
        first = stand.open()
        assert stand.on(first, "GET", "/health").status == 200
        refused = stand.ask("GET", "/health")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        first.close()
        until(lambda: stand.server._connected == 0)
        assert stand.ask("GET", "/health").status == 200


def test_the_log_has_a_line_for_each_request_and_no_content() -> None:
    with serving([Answer("secret answer", thinking="secret thought")]) as stand:
        stand.chat("secret question")
        stand.ask("GET", "/secret/page?secret=1")
        stand.ask("SECRET", "/health")
        stand.ask("POST", CHAT, b"secret")
        until(lambda: len(stand.lines) == 4)
    assert "secret" not in "".join(stand.lines).lower()
    assert any(f"POST {CHAT} 200" in line and "tokens, stop" in line for line in stand.lines)


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_client_that_takes_nothing_is_given_up(more: dict[str, Any]) -> None:
    words = " " * 20_000_000 + "x"  # more than the system keeps for a connection
    with serving([words], times=Times(write=0.2)) as stand:
        body = json.dumps(hi() | more).encode()
        with stand.raw(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body):
            until(lambda: any("the client left" in line for line in stand.lines))
            until(lambda: stand.gate.running == 0)
