"""Frames: what is sent comes whole, and nothing that is not a frame gets through."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx.warm.wire import MAX_FRAME, Frames, WireError, pack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4)


@contextmanager
def pair() -> Iterator[tuple[Frames, socket.socket]]:
    """A reader of frames, and the raw socket that feeds it."""
    one, other = socket.socketpair()
    one.settimeout(0.05)
    frames = Frames(one)
    try:
        yield frames, other
    finally:
        frames.close()
        other.close()


class Fed:
    """A socket that gives what it was fed, cut as a test likes it."""

    def __init__(self, data: bytes, cut: int) -> None:
        self._pieces = [data[start : start + cut] for start in range(0, len(data), cut)]

    def recv(self, most: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@settings(max_examples=40)
@given(messages=MESSAGES, cut=st.integers(1, 40))
def test_messages_come_back_however_they_are_cut(messages: list[dict[str, Any]], cut: int) -> None:
    frames = Frames(Fed(b"".join(map(pack, messages)), cut))  # type: ignore[arg-type]
    assert [frames.read() for _ in messages] == messages
    assert frames.read() is None


@settings(max_examples=40)
@given(data=st.binary(min_size=1, max_size=64))
def test_bytes_at_random_never_get_through_as_anything_but_objects(data: bytes) -> None:
    frames = Frames(Fed(data, 7))  # type: ignore[arg-type]
    try:
        while (message := frames.read()) is not None:
            assert isinstance(message, dict)
    except WireError:
        pass


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "1,195,725,856 bytes"),
        ((MAX_FRAME + 1).to_bytes(4, "big"), f"the most is {MAX_FRAME:,}"),
        (b"\0\0\0\2[]", "not a JSON object"),
        (b"\0\0\0\1{", "not JSON"),
        (b"\0\0\0\2{", "ends after 5 bytes"),
        (b"\0\0", "ends after 2 bytes"),
        ((100_000).to_bytes(4, "big") + b"[" * 100_000, "not JSON"),
        ((5_002).to_bytes(4, "big") + b"[" + b"1" * 5_000 + b"]", "not JSON"),
    ],
)
def test_what_is_no_frame_is_told_in_numbers(data: bytes, sentence: str) -> None:
    frames = Frames(Fed(data, 4096))  # type: ignore[arg-type]
    with pytest.raises(WireError, match=sentence):
        frames.read()


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(WireError, match="the most is"):
        pack({"prompt": "x" * MAX_FRAME})


def test_lone_surrogates_survive() -> None:
    frames = Frames(Fed(pack({"prompt": "\udcff"}), 5))  # type: ignore[arg-type]
    assert frames.read() == {"prompt": "\udcff"}


def test_patience_waits_between_messages_and_not_within_one() -> None:
    with pair() as (frames, raw):
        raw.sendall(b"\0\0")
        with pytest.raises(TimeoutError):
            frames.read(patient=True)


def test_a_frame_is_as_the_protocol_says() -> None:
    frame = pack({"hello": {"protocol": 1}})
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert json.loads(frame[4:]) == {"hello": {"protocol": 1}}
