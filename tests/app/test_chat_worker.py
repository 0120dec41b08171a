"""The thread that owns the model, and the session on top of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from driving import PATIENCE, until

from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import Done, Event, Failed, Loading, Reply, TextDelta
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.session import ChatOptions, Session
from qwen3_mlx_app.tui.state import Loaded, LoadFailed, Phase
from qwen3_mlx_app.tui.worker import Envelope, Job, Worker


def collect(worker: Worker, job: int) -> list[Event]:
    """Everything up to the end of a job."""
    seen: list[Envelope] = []

    def over() -> bool:
        worker.wait(0.1)
        seen.extend(worker.drain())
        return any(e.job == job and isinstance(e.event, (Done, Failed)) for e in seen)

    until(over)
    return [e.event for e in seen if e.job == job]  # type: ignore[misc]


@pytest.fixture
def model() -> Iterator[FakeModel]:
    return FakeModel(["one two", Answer("a " * 500, tokens_per_second=50), "three"])


def test_it_loads_runs_and_closes_on_one_thread(model: FakeModel) -> None:
    threads: list[str] = []

    def load(progress: Callable[[Loading], None]) -> FakeModel:
        threads.append(threading.current_thread().name)
        progress(Loading(5, 10))
        return model

    worker = Worker(load)
    worker.start()
    until(lambda: len(worker._out) == 3)
    assert [envelope.event for envelope in worker.drain()] == [
        Loading(0, 0),
        Loading(5, 10),
        Loaded(model.info),
    ]
    worker.post(Job(1, lambda m: m.stream("hi")))
    events = collect(worker, 1)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "one two"
    worker.close()
    assert model.closed
    assert threads == ["qwen3-chat"]


def test_a_job_can_be_cancelled_before_and_while_it_runs(model: FakeModel) -> None:
    worker = Worker(lambda progress: model)
    worker.cancel(1)
    worker.post(Job(1, lambda m: m.stream("a")))
    worker.start()
    (last,) = collect(worker, 1)[-1:]
    assert isinstance(last, Done)
    assert last.reply.finish_reason == "cancelled"
    worker.post(Job(2, lambda m: m.stream("b")))
    until(lambda: any(isinstance(e.event, TextDelta) for e in list(worker._out)))
    worker.cancel(2)
    last = collect(worker, 2)[-1]
    assert isinstance(last, Done)
    assert 0 < last.reply.usage.answer_tokens < 500
    worker.close()


def test_closing_ends_what_runs(model: FakeModel) -> None:
    worker = Worker(lambda progress: model)
    worker.start()
    worker.post(Job(1, lambda m: m.stream("a")))
    worker.post(Job(2, lambda m: m.stream("b")))
    until(lambda: len(model.calls) == 2)
    worker.close(timeout=PATIENCE)
    assert model.closed
    ends = [e.event for e in worker.drain() if e.job == 2 and isinstance(e.event, Done)]
    assert [end.reply.finish_reason for end in ends] == ["cancelled"]


def test_closing_starts_nothing_that_waits(model: FakeModel) -> None:
    worker = Worker(lambda progress: model)
    worker.start()
    for number in (1, 2, 3):
        worker.post(Job(number, lambda m: m.stream("a")))
    until(lambda: len(model.calls) == 2)  # the second of the tape takes ten seconds
    worker.close(timeout=PATIENCE)
    assert model.closed
    assert len(model.calls) == 2


class Silent:
    """A generation that ends without a word."""

    def __iter__(self) -> Iterator[Event]:
        return iter(())

    def cancel(self) -> None: ...

    def result(self) -> Reply:
        return Reply("")


def test_whatever_goes_wrong_becomes_the_end(model: FakeModel) -> None:
    worker = Worker(lambda progress: model)
    worker.start()
    worker.post(Job(1, lambda m: Silent()))
    silent = collect(worker, 1)[-1]
    assert isinstance(silent, Failed)
    assert "without a word" in str(silent.error)

    def broken(m: object) -> Silent:
        raise EngineError("no")

    worker.post(Job(2, broken))
    assert str(collect(worker, 2)[-1].error) == "no"  # type: ignore[union-attr]
    worker.post(Job(3, lambda m: m.stream("still there?")))
    assert isinstance(collect(worker, 3)[-1], Done)
    worker.close()


def test_a_second_try_after_a_failed_load(model: FakeModel) -> None:
    tries: list[int] = []

    def load(progress: object) -> FakeModel:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("disk asleep")
        return model

    session = Session(load)
    session.start()
    until(lambda: session.drain() and session.state.load_error is not None)
    turn = session.send("hi")
    assert turn is not None
    until(lambda: session.drain() and not turn.running)
    assert (turn.phase, turn.answer) == (Phase.DONE, "one two")
    session.close()


def test_leaving_while_the_model_loads_does_not_wait() -> None:
    began, gate, over = threading.Event(), threading.Event(), threading.Event()

    def load(progress: object) -> FakeModel:
        began.set()
        gate.wait(PATIENCE)
        over.set()
        return FakeModel([])

    session = Session(load)
    session.start()
    assert began.wait(PATIENCE)
    session.close()
    assert not over.is_set()
    gate.set()
    session.worker._thread.join(PATIENCE)


def test_a_load_failure_is_told_once() -> None:
    def load(progress: object) -> FakeModel:
        raise OSError("gone")

    worker = Worker(load)
    worker.start()
    until(lambda: len(worker._out) == 2)
    event = worker.drain()[-1].event
    assert isinstance(event, LoadFailed)
    worker.close()


def test_a_turn_is_read_ahead_for_the_next() -> None:
    """When an answer has come, the model may read the conversation while nobody waits."""
    model = FakeModel([Answer("Four.", thinking="2 and 2"), "Five."])
    session = Session(lambda progress: model, ChatOptions(system="Be brief."))
    session.start()

    def read_ahead(times: int) -> bool:
        session.drain()
        return len(model.prepared) == times

    for number, text in enumerate(("2 + 2?", "and one?"), 1):
        session.send(text)
        until(lambda number=number: read_ahead(number))  # type: ignore[misc]
    session.close()

    assert [[m["content"] for m in messages] for messages in model.prepared] == [
        ["2 + 2?", "Four."], ["2 + 2?", "Four.", "and one?", "Five."],
    ]  # fmt: skip
    assert model.prepared[0][1]["reasoning_content"] == "2 and 2"
