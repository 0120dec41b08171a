"""Who may ask: names of this computer, no pages of other sites, and the key."""

from __future__ import annotations

from email.message import Message

import pytest
from server_stand import CHAT, serving

from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.guard import Guard, is_loopback


def admitted(guard: Guard, **headers: str) -> int:
    """200, or the status of the refusal."""
    message = Message()
    for name, value in headers.items():
        message[name] = value
    try:
        guard.admit(message)
    except ApiError as error:
        return error.status
    return 200


OURS = [
    "127.0.0.1:8080", "127.0.0.1", "localhost:9999", "LOCALHOST", "[::1]:8080", "[::1]",
    "app.localhost:80", "192.168.1.7:8080", "localhost.",
]  # fmt: skip
FOREIGN = [
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
    "notlocalhost", "", "127.0.0.1@evil.example", "evil.example:80:80", "[::1].evil",
]  # fmt: skip


@pytest.mark.parametrize("host", OURS)
def test_names_of_this_computer(host: str) -> None:
    assert admitted(Guard("127.0.0.1"), Host=host) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_names_that_somebody_else_has_given_it(host: str) -> None:
    assert admitted(Guard("127.0.0.1"), Host=host) == 403


def test_further_names() -> None:
    guard = Guard("studio.lan", hosts=["host.docker.internal"])
    assert admitted(guard, Host="host.docker.internal:8080") == 200
    assert admitted(guard, Host="studio.lan:8080") == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8080", 200),
        ("https://localhost:8080", 403),
        ("http://localhost:3000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("file://", 403),
    ],
)
def test_origins(origin: str, status: int) -> None:
    assert admitted(Guard("127.0.0.1"), Host="localhost:8080", Origin=origin) == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("Bearer open-sesame", 200),
        ("bearer open-sesame", 200),
        ("Bearer open-sesam", 401),
        ("Bearer ", 401),
        ("Basic open-sesame", 401),
        ("open-sesame", 401),
        ("Bearer öpen", 401),
    ],
)
def test_keys(sent: str, status: int) -> None:
    assert admitted(Guard("0.0.0.0", "open-sesame"), Authorization=sent) == status


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.7", "studio.lan", "")))


def test_the_server_asks_for_its_key() -> None:
    key = {"Authorization": "Bearer sesame"}
    with serving(guard=Guard("127.0.0.1", "sesame")) as stand:
        refused = stand.chat()
        assert (refused.status, refused.error["type"]) == (401, "authentication_error")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert stand.ask("GET", "/v1/models").status == 401
        assert stand.ask("GET", "/v1/models", **key).status == 200
        assert stand.ask("GET", "/health").json == {"status": "ok"}
        assert stand.ask("GET", "/health", **key).json["model"] == "fake"
    assert stand.model.calls == []


def test_pages_of_other_sites_are_refused_before_anything_is_read() -> None:
    with serving() as stand:
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            reply = stand.ask("POST", CHAT, b"{", **headers)
            assert (reply.status, reply.error["type"]) == (403, "permission_error")
            assert reply.headers["Connection"] == "close"
            assert reply.headers["Access-Control-Allow-Origin"] is None
            assert stand.ask("OPTIONS", CHAT, **headers).status == 403


def test_a_site_that_was_allowed_may_ask_and_read() -> None:
    site = {"Origin": "http://localhost:3000"}
    guard = Guard("127.0.0.1", "sesame", origins=["http://localhost:3000"])
    with serving(guard=guard) as stand:
        before = stand.ask("OPTIONS", CHAT, **site)
        assert before.status == 204
        assert before.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert "Authorization" in before.headers["Access-Control-Allow-Headers"]
        for wanted, granted in (("authorization,x-stainless-os", "authorization, x-stainless-os"),
                                ("bad name", "Authorization, Content-Type")):  # fmt: skip
            asked = {"Access_Control_Request_Headers": wanted, **site}
            answer = stand.ask("OPTIONS", CHAT, **asked)
            assert answer.headers["Access-Control-Allow-Headers"] == granted
        reply = stand.ask("GET", "/v1/models", Authorization="Bearer sesame", **site)
        assert reply.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert reply.headers["Vary"] == "Origin"
        assert stand.ask("GET", "/v1/models", **site).status == 401
