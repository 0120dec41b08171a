"""The agent and its clients, over a real socket, with a scripted model."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent_stand import agent, descriptors, until

import qwen3_mlx
from qwen3_mlx.errors import AgentGoneError, CheckpointError, EngineError, OptionError
from qwen3_mlx.events import Done, Failed, Loading, Prefill, TextDelta, ThinkingDelta, ThinkingDone
from qwen3_mlx.testing import Answer, FakeGeneration, FakeModel
from qwen3_mlx.warm import link, place
from qwen3_mlx.warm.model import WarmModel, warm_model
from qwen3_mlx.warm.wire import PROTOCOL, Frames, pack
from qwen3_mlx_app.agent import server as server_module
from qwen3_mlx_app.agent.holder import Holder
from qwen3_mlx_app.agent.identity import Identity
from qwen3_mlx_app.agent.log import Log
from qwen3_mlx_app.agent.server import Busy, Server
from qwen3_mlx_app.agent.talk import Talk


def texts(prompt: str, **wishes: Any) -> str:
    stream = link.ask("tiny", {}, prompt, wishes)
    assert stream is not None
    return "".join(event.get("text", "") for event in stream if event["event"] == "TextDelta")


def raw() -> socket.socket:
    """A connection that says whatever a test likes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(120)
    connection.connect(place.socket_path())
    return connection


HELLO = {"hello": {"protocol": PROTOCOL, "version": qwen3_mlx.__version__}}
ASK = {"do": "ask", "model": "tiny", "load": {}, "prompt": "hi", "wishes": {}}


def test_an_answer_comes_in_the_events_of_the_engine() -> None:
    with agent([Answer("Four.", thinking="Two and two.")]):
        model = warm_model("tiny", {})
        assert model is not None
        events = list(model.stream("2 + 2?", thinking=True, max_tokens=50, seed=3))
    kinds = [type(event) for event in events]
    assert kinds == [Prefill, *[ThinkingDelta] * 3, ThinkingDone, TextDelta, Done]
    assert isinstance(events[-1], Done)
    assert events[-1].reply.text == "Four."
    assert events[-1].reply.thinking == "Two and two."


def test_no_agent_is_no_answer_and_no_word() -> None:
    notes: list[str] = []
    assert link.ask("tiny", {}, "hi", {}, note=notes.append) is None
    assert warm_model("tiny", {}) is None
    assert notes == []


def test_the_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with agent():
        assert texts("hi") == "HI"
        monkeypatch.setenv("QWEN3_MLX_AGENT", "0")
        assert link.ask("tiny", {}, "hi", {}) is None


def test_names_that_mean_the_same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(qwen3_mlx.__file__).parent
    with agent():
        monkeypatch.chdir(folder)
        for name in ("tiny", "./tiny", str(folder / "tiny"), "tiny/."):
            assert link.holds(name, {}), name
        for name in ("4b", "no-such-model", str(folder), "Qwen/Qwen3-4B", ""):
            assert not link.holds(name, {}), name


def test_memory_options_must_be_the_same() -> None:
    with agent(flags={"context": 512}):
        assert link.holds("tiny", {})
        assert link.holds("tiny", {"context": 512, "slots": None})
        assert not link.holds("tiny", {"context": 256})
    with agent():
        assert not link.holds("tiny", {"memory_limit": "1GB"})


def test_wishes_and_conversations_arrive() -> None:
    with agent() as server:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        model = warm_model("tiny", {})
        assert model is not None
        sampling = qwen3_mlx.Sampling(temperature=0.5)
        model.ask(messages, sampling=sampling, stop="x", timeout=2.0, seed=None)
    [call] = server.model.calls
    assert call.messages == tuple(messages)
    assert (call.sampling, call.stop, call.timeout) == (sampling, ("x",), 2.0)


@pytest.mark.parametrize(
    ("tape", "wishes", "error"),
    [
        ([Answer(error=CheckpointError("a shard is gone"))], {}, CheckpointError),
        ([Answer(error=RuntimeError("out of luck"))], {}, EngineError),
        (["x"], {"max_tokens": "many"}, OptionError),
        (["x"], {"colour": "red"}, OptionError),
        ([], {}, EngineError),
    ],
)
def test_errors_are_those_of_a_model_in_this_process(
    tape: list[Any], wishes: dict[str, Any], error: type[Exception]
) -> None:
    with agent(tape):
        model = warm_model("tiny", {})
        assert model is not None
        with pytest.raises(error):
            model.ask("hi", **wishes)


def test_a_model_that_cannot_be_loaded_is_told() -> None:
    def load(tell: Callable[[Loading], None]) -> FakeModel:
        tell(Loading(1, 2))
        raise CheckpointError("config.json is gone")

    with agent(load=load), pytest.raises(CheckpointError, match=r"config\.json"):
        warm_model("tiny", {})


def test_loading_is_told_and_happens_once() -> None:
    loads: list[int] = []

    def load(tell: Callable[[Loading], None]) -> FakeModel:
        loads.append(1)
        tell(Loading(1, 2))
        tell(Loading(2, 2))
        return FakeModel(lambda call: "yes")

    seen: list[Loading] = []
    with agent(load=load):
        model = warm_model("tiny", {}, seen.append)
        assert model is not None
        assert model.ask("hi").text == model.ask("hi").text == "yes"
    assert seen == [Loading(1, 2), Loading(2, 2)]
    assert loads == [1]


def test_cancel_and_answer_now_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for_the_answer, answer_now = threading.Event(), FakeGeneration.answer_now

    def told(generation: FakeGeneration) -> None:
        answer_now(generation)
        asked_for_the_answer.set()

    monkeypatch.setattr(FakeGeneration, "answer_now", told)
    thinking = Answer("yes", thinking="hm " * 9, pause_after=2)
    with agent([Answer("a b c d", pause_after=2), thinking]) as server:
        model = warm_model("tiny", {})
        assert model is not None
        generation = model.stream("hi")
        events = iter(generation)
        assert [type(next(events)) for _ in range(3)] == [Prefill, TextDelta, TextDelta]
        generation.cancel()
        assert generation.result().finish_reason == "cancelled"
        assert generation.result().text == "a b"

        generation = model.stream("hi")
        events = iter(generation)
        assert [type(next(events)) for _ in range(3)] == [Prefill, ThinkingDelta, ThinkingDelta]
        generation.answer_now()
        until(lambda: asked_for_the_answer.is_set())
        server.model.go_on()
        reply = generation.result()
        assert (reply.thought_ended_by, reply.thinking, reply.text) == ("user", "hm hm", "yes")


def test_a_client_that_leaves_cancels_its_answer() -> None:
    before = descriptors()
    with agent([Answer("a b c", pause_after=1), "fine"]) as server:
        connection = raw()
        connection.sendall(pack(HELLO) + pack(ASK))
        until(lambda: server.holder.users == 1)
        connection.close()
        until(lambda: server.holder.users == 0)
        assert texts("hi") == "fine"
        until(lambda: server.facts()["clients"] == 0)
    assert descriptors() <= before


@pytest.mark.parametrize("minimum", [-1, 32_769, 10**30, 3.0, True, "3", None, [3]])
def test_a_minimum_that_is_none_ends_the_answer_and_is_logged(minimum: Any) -> None:
    lines: list[str] = []
    with agent([Answer("a b c", pause_after=1), "fine"], log=lines.append) as server:
        connection = raw()
        connection.sendall(pack(HELLO) + pack(ASK))
        until(lambda: server.facts()["running"] == 1)
        connection.sendall(pack({"do": "think_more", "minimum": minimum}))
        frames, reasons = Frames(connection), list[Any]()
        while (message := frames.read()) is not None:
            reasons += [message["reply"]["finish_reason"]] if "reply" in message else []
        frames.close()
        assert texts("hi") == "fine"
    assert reasons == ["cancelled"]
    assert [line for line in lines if line.startswith("malformed")] == [
        "malformed: think_more takes a number from 0 to 32,768"
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        pack({"hi": 1}),
        pack({"hello": 3}),
        pack(HELLO) + b"\0\0\0\x02[]",
        pack(HELLO) + (17 << 20).to_bytes(4, "big"),
        pack(HELLO) + pack({"do": "dance"}),
        pack(HELLO) + pack({}),
        pack(HELLO) + pack({"do": "ask"}),
        pack(HELLO) + pack(ASK | {"wishes": []}),
        pack(HELLO) + pack(ASK | {"prompt": None}),
        pack(HELLO) + pack(ASK | {"load": 3}),
        pack(HELLO) + pack({"do": "prepare", "model": "tiny", "load": {}, "messages": 3}),
        pack(HELLO)[:9],
        b"",
    ],
)
def test_nonsense_is_answered_and_survived(data: bytes) -> None:
    with agent() as server:
        connection = raw()
        connection.sendall(data)
        with suppress(OSError):  # it may have hung up already
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        connection.close()
        assert texts("still here") == "STILL HERE"
        until(lambda: server.facts()["clients"] == 0)


def test_a_client_that_says_nothing_or_takes_nothing_is_given_up() -> None:
    with agent(lambda call: "word " * 200_000, stall_seconds=0.2) as server:
        silent = raw()
        assert silent.recv(1) == b""
        silent.close()

        deaf, theirs = socket.socketpair()
        deaf.sendall(pack(HELLO) + pack(ASK))
        theirs.settimeout(0.2)
        Talk(Frames(theirs), server).run()
        deaf.close()
        assert (server.facts()["served"], server.facts()["running"]) == (1, 0)


def test_sixty_four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_HELLO_SECONDS", 120.0)
    with agent() as server:
        answers: dict[int, str] = {}

        def ask(number: int) -> None:
            answers[number] = texts(f"number {number}")

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {n: f"NUMBER {n}" for n in range(64)}
        assert server.facts()["served"] == 64


def test_more_clients_than_it_takes_are_told() -> None:
    notes: list[str] = []
    with agent(most_clients=1) as server:
        one = raw()
        until(lambda: server.facts()["clients"] == 1)
        assert link.ask("tiny", {}, "hi", {}, note=notes.append) is None
        one.close()
        until(lambda: server.facts()["clients"] == 0)
        assert texts("hi") == "HI"
    assert "1 clients talk to it already" in notes[0]


def test_other_users_are_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, notes = os.geteuid(), list[str]()
    with agent() as server:
        monkeypatch.setattr(place, "peer_uid", lambda connection: mine + 1)
        assert link.ask("tiny", {}, "secret", {}, note=notes.append) is None
        until(lambda: server.facts()["refused"] == 1)
        connection = raw()
        answer = Frames(connection).read()
        connection.close()
    assert answer is not None
    assert f"user {mine + 1} asks" in answer["refused"]["text"]
    assert "another user" in notes[0]
    assert server.model.calls == []


def test_the_kernel_tells_who_asks() -> None:
    one, other = socket.socketpair()
    assert place.peer_uid(one) == os.geteuid()
    one.close()
    other.close()


def test_the_socket_is_for_its_owner_only() -> None:
    with agent():
        assert stat.S_IMODE(os.stat(place.socket_path()).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(place.folder()).st_mode) == 0o700
        os.chmod(place.folder(), 0o755)
        notes: list[str] = []
        assert link.ask("tiny", {}, "secret", {}, note=notes.append) is None
        assert "open to others" in notes[0]
        os.chmod(place.folder(), 0o700)
    assert not os.path.exists(place.socket_path())


def test_a_folder_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    os.makedirs(os.path.dirname(place.folder()), exist_ok=True)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    os.symlink(tmp_path / "elsewhere", place.folder())
    with pytest.raises(OptionError, match="is not a folder"):
        Server(Identity("tiny", {}), Holder(lambda tell: FakeModel([])))
    os.unlink(place.folder())


def test_a_socket_that_cannot_be_made_is_told_and_leaves_no_lock() -> None:
    os.mkdir(os.path.join(place.make_folder(), "agent.sock"))
    for _ in range(2):
        with pytest.raises(OptionError, match="the agent cannot listen: "):
            Server(Identity("tiny", {}), Holder(lambda tell: FakeModel([])))


def test_a_deep_home_still_has_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / ("deep" * 20) / "er"))
    with agent():
        assert len(place.socket_path()) < 104
        assert texts("hi") == "HI"


def test_a_second_agent_finds_the_first() -> None:
    with agent(), pytest.raises(Busy):
        Server(Identity("tiny", {}), Holder(lambda tell: FakeModel([])))


def test_the_socket_of_a_killed_agent_is_taken_over() -> None:
    path = os.path.join(place.make_folder(), "agent.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    assert link.ask("tiny", {}, "hi", {}) is None
    with agent():
        assert texts("hi") == "HI"


def test_an_idle_model_is_let_go_and_comes_back() -> None:
    now = [0.0]
    models = [FakeModel(lambda call: "one"), FakeModel(lambda call: "two")]
    load = iter(models)
    with agent(
        load=lambda tell: next(load), idle_seconds=60, clock=lambda: now[0], tick=0.01
    ) as server:
        assert texts("hi") == "one"
        until(lambda: server.holder.users == 0)
        now[0] = 59
        assert server.facts()["loaded"]
        now[0] = 61
        until(lambda: models[0].closed)
        assert not server.facts()["loaded"]
        assert texts("hi") == "two"


def test_a_model_whose_files_changed_is_loaded_anew() -> None:
    signature = [1]
    holder = Holder(lambda tell: FakeModel([]), signature=lambda: signature[0])
    with holder.model(lambda loading: None) as one, holder.model(lambda loading: None) as same:
        signature[0] = 2
        with holder.model(lambda loading: None) as busy:
            assert one is same is busy
    with holder.model(lambda loading: None) as other:
        assert other is not one
    assert holder.loads == 2


def test_stop_ends_what_runs() -> None:
    with agent([Answer("a b c", pause_after=1)]) as server:
        stream = link.ask("tiny", {}, "hi", {})
        assert stream is not None
        assert link.tell({"do": "stop"}) == {"ok": True}
        last = list(stream)[-1]
        assert last["reply"]["finish_reason"] == "cancelled"
        until(lambda: server.outcome == "stop")
    assert server.model.closed


def test_a_client_of_another_version_has_the_agent_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Upgraded: the old agent finishes what runs, and the client waits for the new one."""
    monkeypatch.setattr(server_module, "_installed_version", lambda: qwen3_mlx.__version__)
    monkeypatch.setattr(link, "_RESTART_SECONDS", 120.0)
    with agent([Answer("a b c", pause_after=1)], version="0.0.1") as old:
        connection = raw()
        connection.sendall(pack({"hello": {"protocol": PROTOCOL, "version": "0.0.1"}}) + pack(ASK))
        until(lambda: old.holder.users == 1)

        def successor() -> None:
            until(lambda: bool(old._leaving))
            old.model.go_on()
            until(lambda: old.outcome == "restart")
            with agent() as new:
                until(lambda: new.facts()["served"] == 1 and new.facts()["clients"] == 0)

        thread = threading.Thread(target=successor)
        thread.start()
        assert texts("hi") == "HI"
        thread.join()
        frames, reasons = Frames(connection), list[Any]()
        while (message := frames.read()) is not None:
            reasons += [message["reply"]["finish_reason"]] if "reply" in message else []
        frames.close()
    assert reasons == ["stop"]


def test_an_agent_of_another_installation_is_left_alone() -> None:
    with agent():
        connection = raw()
        hello = {"hello": {"protocol": PROTOCOL, "version": "8.8"}}
        connection.sendall(pack(hello) + pack(ASK) + pack({"do": "restart"}))
        frames = Frames(connection)
        answers = [frames.read(), frames.read(), frames.read()]
        frames.close()
        assert [each["refused"]["why"] for each in answers[1:] if each] == ["version", "same"]
        assert texts("hi") == "HI"


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    log = Log("/dev/full")
    with agent(log=log) as server:
        assert texts("hi") == "HI"
        assert server.facts()["log_lines_lost"] == log.lost > 0


def test_the_log_stays_small_and_private(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), most_bytes=200)
    for number in range(50):
        log(f"line {number}")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"log", "log.1"}
    assert max(sizes.values()) <= 300
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert log.lost == 0


def test_an_agent_that_goes_away_mid_answer_is_told() -> None:
    def hang_up() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(place.make_folder(), "agent.sock"))
        listener.listen(1)
        ready.set()
        connection, _ = listener.accept()
        frames = Frames(connection)
        while (message := frames.read()) is not None and "do" not in message:
            pass
        connection.sendall(pack(HELLO))
        connection.sendall(pack({"event": "TextDelta", "text": "half", "tokens": 1}))
        connection.close()
        listener.close()

    ready = threading.Event()
    thread = threading.Thread(target=hang_up)
    thread.start()
    assert ready.wait(120)
    model = WarmModel("tiny", {}, FakeModel([]).info)
    generation = model.stream("hi")
    with pytest.raises(AgentGoneError):
        generation.result()
    thread.join()


def test_the_library_uses_the_agent_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with agent() as server:
        with qwen3_mlx.load("tiny") as model:
            assert model.ask("hi").text == "HI"
            assert model.info == server.model.info
            model.prepare([{"role": "user", "content": "hi"}])
            assert not caplog.records
            ids = model.encode("hi")
            assert not caplog.records
            assert len(model.logits(ids)) == len(ids)  # only a model of one's own does this
            assert "in this process too" in caplog.text
        with qwen3_mlx.load("tiny", agent=False) as model:
            assert model.info.name == "tiny"


def test_a_warm_model_goes_on_without_its_agent(caplog: pytest.LogCaptureFixture) -> None:
    with agent():
        model = qwen3_mlx.load("tiny")
        assert isinstance(model, WarmModel)
    assert model.ask("hi", max_tokens=2, seed=1).usage.answer_tokens <= 2
    assert "the agent does not answer" in caplog.text
    model.close()


def test_values_choices_and_coroutines_come_from_the_agent() -> None:
    with agent(["[3, 4]", "no", "later"]) as server:
        model = qwen3_mlx.load("tiny")
        assert model.json("two numbers", list[int]) == [3, 4]
        assert model.choose("?", ["yes", "no"]) == "no"
        assert asyncio.run(model.aask("hi")).text == "later"
    assert [call.grammar.kind for call in server.model.calls[:2] if call.grammar] == [
        "json", "choice",
    ]  # fmt: skip


def test_tools_reach_the_agent_as_descriptions() -> None:
    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    with agent(["fine"]) as server:
        assert qwen3_mlx.load("tiny").ask("hi", tools=[weather]).text == "fine"
    [tool] = server.model.calls[0].tools
    assert tool["function"]["name"] == "weather"


def test_failed_events_are_kept() -> None:
    with agent([Answer("a b c", error=EngineError("broken"), error_after=2)]):
        model = warm_model("tiny", {})
        assert model is not None
        events = list(model.stream("hi"))
    assert isinstance(events[-1], Failed)
    assert events[-1].kept == "a b"
