"""Tools in the chat: every call waits for a yes, and the model reads what came of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import TIMING, Clock, drawn, opened, press, ready, say, settled, wait_until
from textual.pilot import Pilot
from textual.widgets import Static, TextArea

from qwen3_mlx.events import Reply, StepDone, ToolCall, ToolCallDelta, ToolCallStarted
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx.tools.functions import Tool
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.exchange import from_json, to_json, to_markdown
from qwen3_mlx_app.tui.screens.block import BlockScreen
from qwen3_mlx_app.tui.session import ChatOptions, Session
from qwen3_mlx_app.tui.store import Store
from qwen3_mlx_app.tui.widgets.answer import Answer as AnswerText
from qwen3_mlx_app.tui.widgets.approval import Approval
from qwen3_mlx_app.tui.widgets.keybar import KeyBar
from qwen3_mlx_app.tui.widgets.status import StatusLine
from qwen3_mlx_app.tui.widgets.tool_line import ToolLine


class Box:
    """Two tools, and what was done with them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @property
    def tools(self) -> tuple[Tool, ...]:
        def put(name: str) -> str:
            """Put something into the box."""
            self.done.append(name)
            return f"{name} is in the box\nsafely"

        def burn(name: str) -> str:
            """Burn something."""
            raise ValueError(f"{name} does not burn")

        return Tool.of(put), Tool.of(burn)


def calling(*calls: tuple[str, dict[str, Any]], text: str = "") -> Answer:
    return Answer(text, calls=calls, timing=TIMING)


def make(model: FakeModel, box: Box, store: Store | None = None) -> ChatApp:
    session = Session(lambda progress: model, ChatOptions(tools=box.tools), Clock(), store=store)
    return ChatApp(session, "Qwen3-fake", still=True)


def results(model: FakeModel) -> list[str]:
    """What the last call of the model could read of its tools."""
    return [m["content"] for m in model.calls[-1].messages if m["role"] == "tool"]


async def asked(pilot: Pilot[None], app: ChatApp, name: str) -> Approval:
    """Wait for the question about this argument, and until a letter counts as its answer."""
    approval = app.chat.query_one(Approval)

    def is_asked() -> bool:
        use = approval.use
        return use is not None and use.values["name"] == name and app.focused is approval

    await wait_until(pilot, is_asked)
    clock = app.session.clock
    assert isinstance(clock, Clock)
    clock.now += 1.0
    await settled(pilot, app)  # the key bar shows the keys of the question
    return approval


async def test_yes_runs_a_call_once_and_the_model_reads_the_result() -> None:
    box = Box()
    model = FakeModel(
        [
            calling(("put", {"name": "hat"}), text="I put it in."),
            calling(("put", {"name": "cat"})),
            "Both are in.",
        ]
    )
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat and the cat away.")
        approval = await asked(pilot, app, "hat")
        assert box.done == []
        assert 'name: "hat"' in str(approval.query_one(Static).render())
        keys = app.chat.query_one(KeyBar).keys()
        assert keys[0] == "answer('yes')"
        await press(app, "y")
        await wait_until(pilot, lambda: box.done == ["hat"])
        approval = await asked(pilot, app, "cat")
        assert 'name: "cat"' in str(approval.query_one(Static).render())
        assert box.done == ["hat"]
        await press(app, "y")
        await drawn(pilot, app)
        assert box.done == ["hat", "cat"]
        assert results(model) == ["hat is in the box\nsafely", "cat is in the box\nsafely"]
        assert not approval.display
        assert app.focused is app.chat.composer
        (turn,) = app.session.state.turns
        assert turn.answer == "I put it in.\n\nBoth are in."
        parts = [str(type(part).__name__) for part in app.chat.views[0].children]
        assert [part for part in parts if part in ("Answer", "ToolLine")] == [
            "Answer", "ToolLine", "ToolLine", "Answer",
        ]  # fmt: skip
        roles = [message["role"] for message in app.session.state.history()]
        assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
        assert model.calls[-1].messages == tuple(app.session.state.history()[:-1])
        await wait_until(pilot, lambda: bool(model.prepared))
        assert list(model.prepared[-1]) == app.session.state.history()


async def test_always_is_for_this_tool_in_this_chat() -> None:
    box = Box()
    put = [("put", {"name": name}) for name in ("a", "b")]
    model = FakeModel(
        [
            calling(*put, ("burn", {"name": "c"})), "Done.",
            calling(put[0]), "Again.",
            calling(put[1]), "And again.",
        ]
    )  # fmt: skip
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put a and b, burn c.")
        await asked(pilot, app, "a")
        await press(app, "a")
        approval = app.chat.query_one(Approval)
        await wait_until(pilot, lambda: approval.use is not None and approval.use.name == "burn")
        assert box.done == ["a", "b"]
        await asked(pilot, app, "c")
        await press(app, "y")
        await drawn(pilot, app)
        assert results(model)[-1] == "error: ValueError: c does not burn"
        await say(app, "Once more.")
        await wait_until(pilot, lambda: len(app.session.state.turns) == 2)
        await drawn(pilot, app)
        assert box.done == ["a", "b", "a"]
        await press(app, "ctrl+n")
        await say(app, "In a new chat.")
        await asked(pilot, app, "b")
        assert box.done == ["a", "b", "a"]
        await press(app, "n")
        await drawn(pilot, app)
        assert box.done == ["a", "b", "a"]


async def test_no_is_told_to_the_model_and_shown() -> None:
    box = Box()
    model = FakeModel([calling(("put", {"name": "hat"})), "Then not."])
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        await asked(pilot, app, "hat")
        await press(app, "n")
        await drawn(pilot, app)
        assert box.done == []
        assert results(model) == ["error: the person did not allow this call"]
        assert "✗" in str(app.chat.query_one(".tool-title", Static).render())


async def test_esc_stops_and_nothing_runs() -> None:
    box = Box()
    calls = [("put", {"name": name}) for name in "ab"]
    model = FakeModel([calling(*calls, text="Wait."), "Hello."])
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put a and b away.")
        await asked(pilot, app, "a")
        await press(app, "escape")
        await drawn(pilot, app)
        (turn,) = app.session.state.turns
        assert (turn.finish, turn.answer, box.done) == ("cancelled", "Wait.", [])
        assert [use.failed for use in turn.tools] == [True, True]
        assert app.focused is app.chat.composer
        await say(app, "Never mind.")
        await wait_until(pilot, lambda: len(app.session.state.turns) == 2)
        await drawn(pilot, app)
        assert [m["role"] for m in model.calls[-1].messages] == [
            "user", "assistant", "tool", "tool", "user",
        ]  # fmt: skip


async def test_the_composer_stays_open_beside_the_question() -> None:
    box = Box()
    model = FakeModel([calling(("put", {"name": "hat"})), "Fine.", "Next."])
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        approval = app.chat.query_one(Approval)
        await wait_until(pilot, lambda: app.focused is approval)
        await press(app, "y")  # as the question comes up: it was meant for a message
        await wait_until(pilot, lambda: app.chat.composer.text == "y")
        await press(app, "e", "s")
        await wait_until(pilot, lambda: app.chat.composer.text == "yes")
        assert box.done == []
        assert approval.display
        await press(app, "enter")
        await wait_until(pilot, lambda: app.session.state.queued == "yes")
        await press(app, "tab")
        await asked(pilot, app, "hat")
        await press(app, "x")
        await wait_until(pilot, lambda: app.chat.composer.text == "x")
        await press(app, "tab")
        await asked(pilot, app, "hat")
        await press(app, "y")
        await wait_until(pilot, lambda: len(app.session.state.turns) == 2)
        await drawn(pilot, app)
        assert box.done == ["hat"]


async def test_a_click_on_a_key_answers_and_one_elsewhere_does_not() -> None:
    box = Box()
    model = FakeModel([calling(("put", {"name": "hat"})), "Fine."])
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        approval = await asked(pilot, app, "hat")
        await pilot.click("#transcript")
        await wait_until(pilot, lambda: app.focused is app.chat.composer)
        assert (box.done, approval.display) == ([], True)
        await press(app, "tab")
        await asked(pilot, app, "hat")
        at = str(app.chat.query_one(KeyBar).render()).index("Yes")
        await pilot.click(KeyBar, offset=(at, 0))
        await wait_until(pilot, lambda: box.done == ["hat"])
        await drawn(pilot, app)


async def test_who_is_writing_keeps_the_focus() -> None:
    model = FakeModel(
        [replace(calling(("put", {"name": "hat"}), text="a b"), pause_after=1), "So."]
    )
    box = Box()
    app = make(model, box)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        app.chat.composer.put("and ")
        model.go_on()
        approval = app.chat.query_one(Approval)
        await wait_until(pilot, lambda: approval.display)
        await press(app, "y")
        await wait_until(pilot, lambda: app.chat.composer.text == "and y")
        assert box.done == []
        await press(app, "tab")
        await asked(pilot, app, "hat")
        await press(app, "y")
        await drawn(pilot, app)
        assert (app.chat.composer.text, box.done) == ("and y", ["hat"])


async def test_a_result_unfolds_and_can_be_read_in_whole() -> None:
    model = FakeModel([calling(("put", {"name": "hat"})), "Done."])
    app = make(model, Box())
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        await asked(pilot, app, "hat")
        await press(app, "y")
        await drawn(pilot, app)
        line = app.chat.query_one(ToolLine)
        assert "hat is in the box safely" in str(line.query_one(".tool-title", Static).render())
        assert not line.query_one(".tool-result").display
        await press(app, "alt+up", "up", "space")
        await wait_until(pilot, lambda: line.query_one(".tool-result").display)
        await press(app, "m")
        await opened(pilot, app, BlockScreen)
        text = app.screen.query_one(TextArea).text
        assert text == 'put {"name": "hat"}\n\nhat is in the box\nsafely'


async def test_a_call_is_seen_while_it_is_said() -> None:
    model = FakeModel([Answer("done", pause_after=0)])
    app = make(model, Box())
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        await wait_until(pilot, lambda: app.session.state.current is not None)
        state = app.session.state

        def title() -> str:
            lines = app.chat.query(".tool-title").results(Static)
            return "|".join(str(line.render()) for line in lines)

        state.apply(ToolCallStarted(0, "put"), 0.0)
        await wait_until(pilot, lambda: "⚙ put  …" in title())
        state.apply(ToolCallDelta(0, '{"name": "h'), 0.0)
        await wait_until(pilot, lambda: '{"name": "h …' in title())
        state.apply(ToolCallStarted(1, "burn"), 0.0)  # the first has become text
        state.apply(ToolCall("call_1", "burn", {"name": "x"}), 0.0)
        state.apply(StepDone(Reply("")), 0.0)
        await wait_until(pilot, lambda: '{"name": "x"} …' in title() and "put" not in title())
        model.go_on()
        await drawn(pilot, app)


async def test_a_model_that_cannot_call_tools_says_so() -> None:
    model = FakeModel(["Hello."], info=replace(FakeModel([]).info, can_call_tools=False))
    app = make(model, Box())
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        await wait_until(pilot, lambda: bool(app.session.state.turns))
        await drawn(pilot, app)
        assert model.calls[0].tools == ()
        notices = app.session.state.turns[0].notices
        assert notices == ["Qwen3-fake cannot call tools: it answers without them."]
        assert "cannot call tools" in str(app.chat.query_one(StatusLine).render())


async def test_wrong_calls_are_not_asked_about_and_the_rounds_end() -> None:
    wrong = [calling(("put", {"hat": 1})), calling(("cut", {}))] * 4
    model = FakeModel(wrong)
    app = make(model, Box())
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        await wait_until(pilot, lambda: bool(app.session.state.turns))
        await drawn(pilot, app)
        assert len(model.calls) == 8
        (turn,) = app.session.state.turns
        assert turn.notices == ["Stopped: the model went on calling tools."]
        assert len(turn.tools) == 8
        assert all(use.failed for use in turn.tools)
        assert "takes name" in str(turn.tools[0].result)
        assert "no tool named 'cut'" in str(turn.tools[1].result)


async def test_calls_are_stored_and_come_back(tmp_path: Path) -> None:
    box = Box()
    model = FakeModel(
        [calling(("put", {"name": "hat"}), ("burn", {"name": "c"}), text="So."), "Yes."]
    )
    store = Store(tmp_path / "chats.db")
    app = make(model, box, store)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "Put the hat away.")
        for name in ("hat", "c"):
            await asked(pilot, app, name)
            await press(app, "y")
        await drawn(pilot, app)
        history, chat = app.session.state.history(), app.session.keeper.chat
        exported = app.session.saved()
        app.session.new()
        assert app.session.open(chat)
        assert app.session.state.history() == history
        await app.chat.sync()
        await drawn(pilot, app)
        assert [answer.text.strip() for answer in app.chat.query(AnswerText)] == ["So.", "Yes."]
        (turn,) = app.session.state.turns
        assert [(use.name, use.failed) for use in turn.tools] == [("put", False), ("burn", True)]
        assert 'put {"name": "hat"} → hat is in the box safely' in to_markdown(exported)
        app.session.adopt(from_json(to_json(exported)))
        assert app.session.state.history() == history
        broken = json.loads(to_json(exported))
        endless = {"messages": [], "failed": [], "after": [], "thought_from": float("inf")}
        for bad in (1, {"messages": 3}, {"messages": [{"role": "system"}], "failed": []}, endless):
            broken["turns"][0]["details"]["steps"] = bad
            app.session.adopt(from_json(json.dumps(broken)))
            assert app.session.state.turns[0].answer == "So.\n\nYes."
            assert app.session.state.turns[0].tools == []


async def test_the_prompt_shows_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel([])
    seen: list[Any] = []
    render = model.render

    def note(messages: Any, tools: Any = None, thinking: Any = None) -> str:
        seen.append(tools)
        return render(messages, tools, thinking)

    monkeypatch.setattr(model, "render", note)
    app = make(model, Box())
    async with app.run_test() as pilot:
        await ready(pilot, app)
        app.session.prompt("hi")
        assert [tool["function"]["name"] for tool in seen[0]] == ["put", "burn"]
