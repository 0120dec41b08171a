"""Ways to ask: many at once, coroutines, cancel from elsewhere, models that come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from checkpoints import write_checkpoint
from script import scripted

import qwen3_mlx
from qwen3_mlx import OptionError, PromptError, Qwen3, TextDelta
from qwen3_mlx.events import Done
from qwen3_mlx.mailbox import Mailbox
from qwen3_mlx.reading import Reading
from qwen3_mlx.testing import Answer, FakeModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("asking") / "model"
    return str(write_checkpoint(folder, dtype="F32", tokenizer=True))


@pytest.fixture(scope="module")
def model(folder: str) -> Iterator[Qwen3]:
    with qwen3_mlx.load(folder) as model:
        yield model


def test_many_are_as_each_alone(model: Qwen3) -> None:
    wishes: dict[str, Any] = {"seed": 3, "max_tokens": 5, "thinking": False}
    steps: list[tuple[int, int]] = []
    replies = model.ask_many(["a", "b", "c"], progress=lambda *n: steps.append(n), **wishes)

    assert [reply.text for reply in replies] == [model.ask(p, **wishes).text for p in "abc"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert model.ask_many([]) == []


def test_errors_of_many(model: Qwen3) -> None:
    prompts = ["a", " ", "c"]
    with pytest.raises(PromptError, match="the prompt is empty"):
        model.ask_many(prompts, max_tokens=2)
    kept = model.ask_many(prompts, max_tokens=2, errors="keep")
    assert [isinstance(each, PromptError) for each in kept] == [False, True, False]
    with pytest.raises(OptionError, match="raise or keep"):
        model.ask_many(prompts, errors="drop")  # type: ignore[call-overload]


def test_more_than_the_window() -> None:
    model = FakeModel(lambda call: call.prompt)
    prompts = [f"p{n}" for n in range(200)]
    assert [reply.text for reply in model.ask_many(prompts)] == prompts


async def test_coroutines_say_what_threads_say(model: Qwen3) -> None:
    wishes: dict[str, Any] = {"seed": 3, "max_tokens": 6, "thinking": False}
    one, other, value = await asyncio.gather(
        model.aask("a", **wishes),
        model.aask("b", **wishes),
        model.ajson("c", int, thinking=False, max_tokens=12),
    )
    assert isinstance(value, int)
    said = [e.text async for e in model.astream("a", **wishes) if isinstance(e, TextDelta)]
    both = await model.aask_many(["a", "b"], **wishes)
    assert "".join(said) == one.text
    assert [reply.text for reply in both] == [one.text, other.text]  # type: ignore[union-attr]


async def test_a_cancelled_task_cancels_its_answer(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(model, monkeypatch, model.encode("a"))  # for ever
    generation = model.stream("a", max_tokens=4000, loop_guard=False)
    task = asyncio.ensure_future(generation.aresult())
    await asyncio.sleep(0)  # the task begins to read
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert generation.request is not None
    assert generation.request.cancelled


def test_cancel_reaches_every_answer(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(model, monkeypatch, model.encode("a"))  # for ever
    running = [model.stream("a", max_tokens=4000, loop_guard=False) for _ in range(3)]
    threading.Thread(target=model.cancel).start()
    assert [each.result().finish_reason for each in running] == ["cancelled"] * 3


def test_models_come_and_go(folder: str) -> None:
    """Neither threads nor models stay behind; scripts/measure_cycles.py does it 1,000 times."""
    qwen3_mlx.load(folder).close()  # the engine's thread stays for the next one
    before, gone = threading.active_count(), []
    for _ in range(5):
        with qwen3_mlx.load(folder) as model:
            model.choose("x", ["a", "b"], thinking=False)
            gone.append(weakref.ref(model._engine))
    del model
    gc.collect()
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)  # the thread that built a vocabulary may be on its last lines
    assert threading.active_count() <= before
    assert [each() for each in gone] == [None] * 5


def test_an_answer_outlives_the_name_of_its_model(folder: str) -> None:
    model = qwen3_mlx.load(folder)
    gone, engine = weakref.ref(model), weakref.ref(model._engine)
    answer = model.stream("x", thinking=False, max_tokens=100, loop_guard=False, seed=1)
    del model
    gc.collect()
    assert answer.result().finish_reason in ("stop", "length")
    assert gone() is None  # held until the end, and no longer
    until = time.monotonic() + 20
    while engine() is not None and time.monotonic() < until:
        gc.collect()
    assert engine() is None


def test_an_answer_whose_end_fails_ends_all_the_same(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(ids: object, thought: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.thoughts, "remember", forgets)
        answer = model.stream("x", thinking=False, max_tokens=2)
    with pytest.raises(RuntimeError, match="no memory"):
        answer.result()


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_what_is_called_at_the_end_may_fail(
    model: Qwen3, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def fails() -> None:
        raise error

    answer = model.stream("x", thinking=False, max_tokens=20)
    answer.when_done(fails)
    assert answer.result().finish_reason in ("stop", "length")
    assert model.ask("x", thinking=False, max_tokens=2).usage.answer_tokens
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)


def test_an_answer_may_begin_at_the_end_of_another(model: Qwen3) -> None:
    """On the engine's thread, where a saved prefix is read by a call to that thread."""
    model.save_prefix(system="You are brief.")
    begun: list[Any] = []
    answer = model.stream("x", thinking=False, max_tokens=20)
    answer.when_done(lambda: begun.append(model.stream("y", system="You are brief.", max_tokens=2)))
    answer.result()
    until = time.monotonic() + 20
    while not begun and time.monotonic() < until:
        time.sleep(0.01)
    assert begun[0].result().usage.cached_tokens


def test_scripted_models_can_all_of_it() -> None:
    assert asyncio.run(FakeModel(["[1]"]).ajson("?", list[int])) == [1]
    with pytest.raises(qwen3_mlx.IncompleteError):
        FakeModel(["no json"]).json("?", int)
    with pytest.raises(qwen3_mlx.IncompleteError):
        FakeModel([Answer("3", finish_reason="timeout")]).json("?", int)


class EndsMeanwhile(Reading):
    """The writer ends the answer at the very moment at which a reader looks whether it is over."""

    writer: threading.Thread | None = None
    _is_over = False

    @property
    def _over(self) -> bool:
        over, writer, self.writer = self._is_over, self.writer, None
        if writer is not None:
            writer.start()
            writer.join(0.2)  # as far as it gets
        return over

    @_over.setter
    def _over(self, over: bool) -> None:
        self._is_over = over


def test_the_end_is_told_once_even_if_it_comes_at_that_moment() -> None:
    """Told twice, `ask_many` would look for an answer that it has taken already."""
    reading, told = EndsMeanwhile(), list[int]()
    writer = reading.writer = threading.Thread(target=reading._finish)
    reading.when_done(lambda: told.append(1))
    writer.join()
    assert told == [1]


def test_several_may_wait_for_one_answer() -> None:
    reading, told = Reading(), list[object]()
    for number in range(2):
        reading.when_done(lambda number=number: told.append(number))  # type: ignore[misc]
    readers = [threading.Thread(target=lambda: told.append(reading.result())) for _ in range(2)]
    for thread in readers:
        thread.start()

    async def also() -> None:
        results = [asyncio.create_task(reading.aresult()) for _ in range(2)]
        await asyncio.sleep(0.05)
        reading._events.put(TextDelta("hi", 1))
        reading._events.put(Done(reply))
        reading._finish()
        told.extend(await asyncio.wait_for(asyncio.gather(*results), 10))

    reply = FakeModel(["hi"]).ask("?")
    asyncio.run(also())
    for thread in readers:
        thread.join(10)
    assert [each for each in told if isinstance(each, int)] == [0, 1]
    assert [each for each in told if not isinstance(each, int)] == [reply] * 4


def test_who_waits_may_stop_while_something_is_put() -> None:
    box = Mailbox[int]()
    box._wakes |= {box._wakes.clear, lambda: box._wakes.clear()}
    box.put(1)
    assert box.get() == 1
    assert not box._wakes
