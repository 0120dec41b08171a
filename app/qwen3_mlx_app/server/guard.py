"""Who may ask: this computer's own names, no other site's pages, and the key if there is one.

A page in a browser can send requests to any port of this computer, with its own address as
Origin, or under a name of its own that it has resolved to 127.0.0.1 ("DNS rebinding").
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection
from email.message import Message

from qwen3_mlx_app.server.faults import ApiError

__all__ = ["Guard", "is_loopback"]


class Guard:
    """Looks at the headers of each request.

    Args:
        host: where the server listens.
        key: what clients must know; "" for nothing.
        hosts: further names by which it may be called.
        origins: sites whose pages may ask.
    """

    def __init__(
        self,
        host: str,
        key: str = "",
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        own = socket.gethostname().lower().removesuffix(".local")
        names = ("localhost", host, own, f"{own}.local", *hosts)
        self._names = {name.lower() for name in names}
        self._key, self._origins = key.encode(), frozenset(origins)

    def admit(self, headers: Message, *, open_to_all: bool = False) -> None:
        """Let a request pass.

        Args:
            open_to_all: it needs no key.

        Raises:
            ApiError: it comes under a foreign name, from a foreign site, or without the key.
        """
        named = headers.get_all("Host") or []
        if len(named) > 1 or (named and not self._is_ours(named[0])):
            raise ApiError(
                403, "the Host header is not a name of this server (--allow-host adds one)",
                code="foreign_host",
            )  # fmt: skip
        origin = headers.get("Origin")
        own = [f"http://{name}" for name in named]
        if origin is not None and origin not in own and origin not in self._origins:
            raise ApiError(
                403, "pages of other sites may not ask (--allow-origin lets one)",
                code="foreign_origin",
            )  # fmt: skip
        if not open_to_all and not self.knows_key(headers):
            raise ApiError(
                401, "the key is missing or wrong: send it as Authorization: Bearer KEY",
                code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    def knows_key(self, headers: Message) -> bool:
        """Whether the key is there, or none is needed."""
        kind, _, given = (headers.get("Authorization") or "").partition(" ")
        known = hmac.compare_digest(given.strip().encode(errors="replace"), self._key)
        return not self._key or (kind.lower() == "bearer" and known)

    def may_read(self, headers: Message) -> str:
        """The site whose page may read the answer, for CORS; "" for none."""
        origin = headers.get("Origin") or ""
        return origin if origin in self._origins else ""

    def _is_ours(self, host: str) -> bool:
        """A number is never somebody else's name for this computer."""
        name = _without_port(host.strip()).lower().removesuffix(".")
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names or name.endswith(".localhost")
        return True


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach what listens there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdigit() or not port) and not host.endswith("]") else host
