"""Faults and leaving: requests fail, the server does not; who leaves costs nothing."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import pytest
from agent_stand import descriptors, until
from server_stand import CHAT, PATIENCE, Stand, hi, serving

from qwen3_mlx.errors import CheckpointError, EngineError, MemoryPlanError, PromptError
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.server import desk

HELD = Answer("one two three", pause_after=1)
UNREAD = Answer("one two three", pause_after=0)


def begun(stand: Stand, **more: Any) -> http.client.HTTPConnection:
    """A request that has been sent, and not been answered yet."""
    connection = stand.open()
    connection.request("POST", CHAT, json.dumps(hi() | more).encode())
    return connection


# Faults of the engine.


def test_a_fault_fails_its_request_and_the_model_is_loaded_again() -> None:
    models = [FakeModel([Answer(error=EngineError("out of memory"))]), FakeModel(["fine"])]
    loaded = iter(models)
    with serving(load=lambda: next(loaded)) as stand:
        reply = stand.chat()
        assert (reply.status, reply.error["type"]) == (500, "server_error")
        assert reply.error["message"] == "out of memory"
        assert stand.chat().json["choices"][0]["message"]["content"] == "fine"
    assert stand.served.loads == 2
    assert models[0].closed


def test_health_tells_the_fault_until_the_model_is_back() -> None:
    go = threading.Event()
    loads: list[int] = []

    def load() -> FakeModel:
        loads.append(1)
        if len(loads) == 1:
            return FakeModel([Answer(error=EngineError("out of luck"))])
        assert go.wait(PATIENCE)
        return FakeModel(lambda call: "fine")

    with serving(load=load) as stand:
        stand.served.open()
        assert stand.ask("GET", "/health").status == 200
        stand.chat()
        sick = stand.ask("GET", "/health")
        assert (sick.status, sick.json["fault"]) == (503, "out of luck")
        go.set()
        until(lambda: stand.served.loads == 2)  # by itself, without any request
        assert stand.ask("GET", "/health").json["status"] == "ok"


def test_a_fault_within_a_stream_is_its_last_piece() -> None:
    answer = Answer("one two three", error=EngineError("out of luck"), error_after=2)
    with serving([answer]) as stand:
        reply = stand.chat(stream=True)
    *pieces, last, end = reply.data.decode().split("\n\n")
    assert reply.status == 200
    assert (json.loads(last.removeprefix("data: "))["error"]["message"], end) == ("out of luck", "")
    assert not any("[DONE]" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PromptError("the prompt is empty"), 400),
        (CheckpointError("a shard is gone"), 503),
        (RuntimeError("a secret"), 500),
        (KeyError("a secret"), 500),
        (OSError(5, "a secret"), 500),
    ],
)
def test_errors_of_one_request_are_its_own(error: Exception, status: int) -> None:
    with serving([Answer(error=error), "fine"]) as stand:
        reply = stand.chat()
        assert reply.status == status
        assert b"secret" not in reply.data
        assert stand.chat().status == 200
    assert stand.served.loads == 1


def test_a_system_without_threads_or_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_line(client: Any) -> None:
        raise OSError(24, "Too many open files")

    with serving(["fine", "fine"]) as stand:
        with monkeypatch.context() as patch:
            patch.setattr(desk, "Line", no_line)
            assert stand.chat().status == 500
        with monkeypatch.context() as patch:
            patch.setattr(stand.served, "_pump", None)
            patch.setattr(threading.Thread, "start", _without_pumps(threading.Thread.start))
            assert stand.chat().status == 500
        assert (stand.gate.running, stand.served._running) == (0, set())
        assert stand.chat().status == 200


def _without_pumps(start: Any) -> Any:
    def refuse(thread: threading.Thread) -> None:
        if thread._target is None:  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread")
        start(thread)

    return refuse


def test_an_error_when_an_answer_begins() -> None:
    def tape(call: Any) -> str:
        raise RuntimeError("a secret") if call.prompt == "odd" else EngineError("closed")

    with serving(tape) as stand:
        assert stand.chat("odd").status == 500
        assert stand.chat("even").status == 500
        assert stand.gate.running == 0
    assert "secret" not in "".join(stand.lines)


def test_a_model_that_cannot_be_loaded_is_tried_again_for_the_next_request() -> None:
    outcomes: list[Any] = [MemoryPlanError("no room: 3 GB are free", 9), OSError("gone"), "fine"]

    def load() -> FakeModel:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return FakeModel([outcome])

    with serving(load=load) as stand:
        first = stand.chat()
        assert (first.status, first.error["code"]) == (503, "model_unavailable")
        assert first.error["message"] == "no room: 3 GB are free"
        assert stand.chat().status == 503
        assert stand.chat().status == 200


def test_an_engine_that_does_not_answer_is_not_healthy() -> None:
    go = threading.Event()

    def probe(model: Any) -> None:
        assert go.wait(PATIENCE)

    with serving(probe=probe, probe_seconds=0.1) as stand:
        stand.served.open()
        for _ in range(3):  # and all of them ask once
            sick = stand.ask("GET", "/health")
            assert (sick.status, "has not answered" in sick.json["fault"]) == (503, True)
        go.set()
        until(lambda: stand.ask("GET", "/health").status == 200)


def test_an_engine_whose_probe_fails_is_replaced() -> None:
    probed: list[Any] = []

    def probe(model: Any) -> None:
        probed.append(model)
        if len(probed) == 1:
            raise EngineError("the thread has ended")

    with serving(load=lambda: FakeModel(["fine"]), probe=probe) as stand:
        stand.served.open()
        assert stand.ask("GET", "/health").json["fault"] == "the thread has ended"
        until(lambda: stand.ask("GET", "/health").status == 200)
    assert stand.served.loads == 2


def test_others_keep_their_engine_until_they_are_done() -> None:
    """One request's engine fault does not take the model from under another."""
    tape = [HELD, Answer(error=EngineError("out of luck")), "fine"]
    with serving(tape) as stand:
        held = begun(stand)
        until(lambda: stand.gate.running == 1)
        assert stand.chat().status == 500
        assert stand.served.loads == 1
        stand.model.go_on()
        assert json.loads(held.getresponse().read())["choices"][0]["finish_reason"] == "stop"
        held.close()
        until(lambda: stand.served.loads == 2)


# Clients that leave.


@pytest.mark.parametrize("answer", [HELD, UNREAD], ids=["speaking", "reading"])
@pytest.mark.parametrize("streams", [False, True])
def test_whoever_leaves_cancels(answer: Answer, streams: bool) -> None:
    with serving([answer, "fine"], parallel=1) as stand:
        connection = begun(stand, stream=streams)
        until(lambda: stand.gate.running == 1)
        if streams:
            assert connection.getresponse().read(1)
        connection.close()
        until(lambda: stand.gate.running == 0)
        assert stand.chat().status == 200
        until(lambda: any("the client left" in line for line in stand.lines))


def test_whoever_leaves_the_row_is_not_asked_about() -> None:
    with serving([HELD, "fine"], parallel=1) as stand:
        first = begun(stand)
        until(lambda: stand.gate.running == 1)
        second = begun(stand)
        until(lambda: stand.gate.waiting == 1)
        second.close()
        until(lambda: stand.gate.waiting == 0)
        stand.model.go_on()
        assert first.getresponse().status == 200
        first.close()
    assert len(stand.model.calls) == 1


def test_a_client_that_sends_its_next_request_early_has_not_left() -> None:
    with serving([HELD, "fine"], parallel=1) as stand:
        body = json.dumps(hi()).encode()
        request = f"POST {CHAT} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        connection = stand.raw(request)
        until(lambda: stand.gate.running == 1)
        connection.sendall(request)
        stand.model.go_on()
        got = b""
        while got.count(b"HTTP/1.1 200") < 2:
            got += connection.recv(65_536)
        connection.close()


def test_nothing_is_left_behind() -> None:
    with serving(lambda call: HELD) as stand:
        assert stand.ask("GET", "/health").status == 200
        until(lambda: not stand.server._clients)
        before = descriptors()
        for _ in range(20):
            connection = begun(stand, stream=True)
            connection.getresponse().read(1)
            connection.close()
        until(lambda: not stand.server._clients and stand.gate.running == 0)
        until(lambda: descriptors() <= before)
        until(lambda: not [t for t in threading.enumerate() if t.name.endswith("(_pump)")])


# The row, and the end.


def test_so_many_run_so_many_wait_and_the_rest_is_sent_away() -> None:
    with serving(lambda call: HELD, parallel=2, waiting=1) as stand:
        running = [begun(stand), begun(stand)]
        until(lambda: stand.gate.running == 2)
        waiting = begun(stand)
        until(lambda: stand.gate.waiting == 1)
        refused = stand.chat()
        assert (refused.status, refused.error["type"]) == (429, "rate_limit_error")
        assert refused.headers["Retry-After"] == "5"
        assert stand.ask("GET", "/health").json["waiting"] == 1
        assert len(stand.model.calls) == 2
        stand.model.go_on()
        for connection in (*running, waiting):
            assert connection.getresponse().status == 200
            connection.close()


def test_the_end_is_told_to_those_who_wait_for_an_answer() -> None:
    with serving([HELD, HELD, "never"], parallel=2) as stand:
        idle = stand.open()
        assert stand.on(idle, "GET", "/health").status == 200
        whole, streamed = begun(stand), begun(stand, stream=True)
        until(lambda: stand.gate.running == 2)
        waiting = begun(stand)
        until(lambda: stand.gate.waiting == 1)
        response = streamed.getresponse()
        stand.server.shutdown()
        stand.server.close()
        assert b'"code":"ending"' in response.read()
        for connection in (whole, waiting):
            reply = connection.getresponse()
            assert (reply.status, json.loads(reply.read())["error"]["code"]) == (503, "ending")
            connection.close()
        streamed.close()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            stand.on(idle, "GET", "/health")
        idle.close()
    assert stand.model.closed
