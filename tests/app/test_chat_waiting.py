"""What waits for the person: a focus, a cursor, a queued message, a place in the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from driving import (
    Clock,
    ask,
    closed,
    drawn,
    make_app,
    opened,
    press,
    ready,
    say,
    settled,
    told,
    wait_until,
)
from textual.events import Key, Paste
from textual.widgets import Input, OptionList, Static

from qwen3_mlx.errors import EngineError
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.exchange import SavedChat, to_json
from qwen3_mlx_app.tui.screens.chats import ChatsScreen
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.session import ChatOptions, Session
from qwen3_mlx_app.tui.settings import Settings, read_settings, write_settings
from qwen3_mlx_app.tui.store import SavedTurn, Store
from qwen3_mlx_app.tui.widgets.note import ErrorNote
from qwen3_mlx_app.tui.widgets.transcript import WINDOW

ENDLESS = Answer("one two three four five six", pause_after=4)


def shown(app: ChatApp, selector: str) -> str:
    return str(app.screen.query(selector).last(Static).render())


async def test_what_is_typed_and_pasted_arrives() -> None:
    model = FakeModel(["a", "b", "c"])
    app = make_app(model)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        for size in ((40, 10), (80, 24)):
            await pilot.resize_terminal(*size)
            await settled(pilot, app)
        await press(app, "h", "i")
        assert app.chat.composer.text == "hi"
        app.post_message(Paste(" one\r\ntwo\rthree\x1b[31m"))
        await wait_until(pilot, lambda: app.chat.composer.text == "hi one\ntwo\nthree[31m")
        app.chat.composer.put("")
        app.post_message(Paste("line\x1b[31m\r" * 100))
        await wait_until(pilot, lambda: "pasted 1" in shown(app, "Chips"))
        await press(app, "enter")
        await wait_until(pilot, lambda: len(model.calls) == 1)
        await drawn(pilot, app)
        assert "line[31m\nline[31m\n" in model.calls[0].prompt
        await ask(pilot, app, " /nope what is it?")
        assert model.calls[1].prompt == "/nope what is it?"
        commands = {command.title: command for command in app.get_system_commands(app.chat)}
        await commands["/title"].callback()
        assert app.chat.composer.text == "/title "


async def test_the_cursor_goes_to_the_version_that_comes() -> None:
    app = make_app(FakeModel(["one", "two", "three"]))
    async with app.run_test(size=(100, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await press(app, "alt+up")
        for count in (2, 3):
            await press(app, "r")
            await wait_until(pilot, lambda count=count: len(app.session.state.tree.all) == count)
            await drawn(pilot, app)
        for answer in ("two", "one"):
            await press(app, "left_square_bracket")
            await wait_until(pilot, lambda said=answer: app.session.state.last_answer == said)
            await drawn(pilot, app)
        assert app.chat.transcript.block is not None
        assert app.chat.transcript.block.view is app.chat.views[0]
        app.chat.new_chat()
        await app.chat.sync()
        await wait_until(pilot, lambda: app.chat.composer.has_focus)


async def test_what_is_queued_is_not_lost_and_takes_nobody_away() -> None:
    text = "\n\n".join(f"line {n}" for n in range(60))
    app = make_app(FakeModel([text, ENDLESS, "next", ENDLESS]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "long")
        box = app.chat.transcript
        assert box.scroll_y == box.max_scroll_y
        await say(app, "go")
        await wait_until(pilot, lambda: app.session.state.turns[1].answer != "")
        await say(app, "then")
        await settled(pilot, app)
        box.scroll_to(y=5, animate=False, immediate=True)
        box.release_anchor()
        await settled(pilot, app)
        app.session.worker.cancel(app.session.state.turns[1].number)
        await wait_until(pilot, lambda: app.session.state.last_answer == "next")
        await drawn(pilot, app)
        assert box.scroll_y == 5
        await say(app, "and")
        await wait_until(pilot, lambda: app.session.state.turns[3].answer != "")
        await say(app, "kept")
        await wait_until(pilot, lambda: app.session.state.queued == "kept")
        await wait_until(pilot, lambda: box.scroll_y == box.max_scroll_y)
        await press(app, "ctrl+n")
        await wait_until(pilot, lambda: app.chat.composer.text == "kept")
        assert app.session.state.queued is None


async def test_editing_ends_with_its_chat_and_the_right_chat_is_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path / "chats.db")
    for name in ("first", "second", "third"):
        store.add_all(store.new_chat(name), [SavedTurn(name, 1, answer="a")], None)
    session = Session(lambda progress: FakeModel(["x"]), clock=Clock(), store=store)
    app = ChatApp(session, "x", still=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "on show")
        await press(app, "up")
        await wait_until(pilot, lambda: app.chat.editing is not None)
        await press(app, "ctrl+o")
        await opened(pilot, app, ChatsScreen)
        options, box = app.screen.query_one(OptionList), app.screen.query_one(Input)
        options.highlighted = 2
        chosen = app.screen._chosen  # type: ignore[attr-defined]
        await press(app, "ctrl+e")
        await settled(pilot, app)
        box.value = "Another"
        await press(app, "enter")
        await settled(pilot, app)
        assert app.screen._chosen == chosen  # type: ignore[attr-defined]
        await press(app, "ctrl+x")
        await wait_until(pilot, lambda: options.option_count == 3)
        assert "Another" not in [row.title for row in store.chats()]
        options.highlighted = 1
        await press(app, "enter")
        await closed(pilot, app)
        await drawn(pilot, app)
        assert app.chat.editing is None


async def test_a_list_that_ends_early_says_so_and_an_import_ends_the_editing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen3_mlx_app.tui.screens.chats.MOST", 2)
    store = Store(tmp_path / "chats.db")
    for name in ("first", "second", "third"):
        store.add_all(store.new_chat(name), [SavedTurn(name, 1, answer="a")], None)
    session = Session(lambda progress: FakeModel(["x"]), clock=Clock(), store=store)
    app = ChatApp(session, "x", still=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+o")
        await opened(pilot, app, ChatsScreen)
        assert app.screen.query_one(OptionList).option_count == 2
        assert "The last 2; typing finds the others." in shown(app, "#word")
        await press(app, "escape")
        await closed(pilot, app)
        await ask(pilot, app, "q")
        (tmp_path / "a.json").write_text(to_json(SavedChat("a", turns=[SavedTurn("b", 1)])))
        app.chat.edit(session.state.turns[0])
        app.chat.import_chat(str(tmp_path / "a.json"))
        assert app.chat.editing is None
        assert session.state.turns[0].user == "b"


async def test_settings_of_two_windows_and_system_prompts(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    model = FakeModel(["a", "b"], info=replace(FakeModel([]).info, can_think=False))
    session = Session(lambda progress: model, ChatOptions(system="flag"), Clock())
    world = Environment(settings_path=path, settings=Settings(theme="dark"))
    app = ChatApp(session, "x", still=True, world=world)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        write_settings(path, Settings(theme="light", system="theirs"))
        app.chat.keep(thoughts="open")
        app.chat._change(replace(world.settings, max_tokens=512))
        kept = read_settings(path)[0]
        assert kept == Settings(theme="light", system="theirs", thoughts="open", max_tokens=512)
        app.chat.set_budget(1024)
        app.chat.action_think()
        await wait_until(pilot, lambda: "no thinking mode" in told(app))
        assert read_settings(path)[0] == replace(kept, budget=1024)
        await ask(pilot, app, "q")
        app.chat._change(replace(world.settings, system="new"))
        assert session.state.system == "flag"
        app.chat.set_system("pirate")
        app.chat.new_chat()
        await ask(pilot, app, "q")
    assert [call.system for call in model.calls] == ["flag", "new"]


async def test_a_note_of_a_failed_load_leaves_with_its_cause() -> None:
    loads = iter([EngineError("no room"), FakeModel([Answer("a", error=EngineError("dead"))])])

    def load(progress: object) -> FakeModel:
        match next(loads):
            case FakeModel() as model:
                return model
            case error:
                raise error

    app = ChatApp(Session(load, clock=Clock()), "x", still=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: bool(app.chat.query(ErrorNote)))
        await ask(pilot, app, "hello?")
        await wait_until(pilot, lambda: len(app.chat.query(ErrorNote)) == 1)
        assert "The engine met a fault" in shown(app, "ErrorNote")


@pytest.mark.parametrize("system", ["Be brief.\nBe kind.", ""])
async def test_a_system_prompt_of_two_lines_is_edited_on_one(system: str) -> None:
    from qwen3_mlx_app.tui.screens.settings import SettingsScreen

    app = make_app(FakeModel([]))
    kept: list[Settings] = []
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        app.push_screen(SettingsScreen(Settings(system=system), "", kept.append))
        await opened(pilot, app, SettingsScreen)
        rows, box = app.screen.query_one(OptionList), app.screen.query_one(Input)
        rows.highlighted = rows.get_option_index("system")
        await press(app, "enter")
        await wait_until(pilot, lambda: box.has_focus)
        assert "\n" not in box.value
        await press(app, "enter")
        await wait_until(pilot, lambda: bool(kept))
    assert kept[-1].system == system


async def test_undoing_a_paste_of_many_lines() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        app.post_message(Paste("\n".join(map(str, range(12)))))
        await wait_until(pilot, lambda: app.chat.composer.text.count("\n") == 11)
        await settled(pilot, app)
        await press(app, "ctrl+z")
        await settled(pilot, app)
        assert app.chat.composer.text == ""


async def test_keys_that_edit_keep_their_turn_among_letters() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        for key in ("h", "e", "l", "o", "backspace", "l", "o", "ctrl+j", "b"):
            app.post_message(Key(key, key if len(key) == 1 else None))  # at once, by a fast hand
        await wait_until(pilot, lambda: app.chat.composer.text.endswith("b"))
        assert app.chat.composer.text == "hello\nb"


async def test_a_draft_comes_back_after_an_old_message_was_edited() -> None:
    app = make_app(FakeModel(["one", "two"]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "q")
        app.chat.composer.put("a draft")
        app.chat.edit(app.chat.state.turns[-1])
        assert app.chat.composer.text == "q"
        await press(app, "escape")
        assert app.chat.composer.text == "a draft"


async def test_a_queued_message_keeps_its_mode() -> None:
    model = FakeModel([ENDLESS, "two"])
    app = make_app(model)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        app.chat.session.send("q")
        await wait_until(pilot, lambda: len(model.calls) == 1)
        app.chat.session.send("r", thinks=False)
        model.go_on()
        await wait_until(pilot, lambda: len(model.calls) == 2)
        assert [call.thinking for call in model.calls] == [True, False]
        assert app.chat.state.queued_thinks is None


async def test_a_long_chat_keeps_its_last_turns_on_the_screen_and_shows_earlier_ones() -> None:
    count = 2 * WINDOW + 3
    app = make_app(FakeModel([f"answer {number}" for number in range(count)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        for number in range(count):
            await ask(pilot, app, f"q{number}")
        transcript = app.chat.transcript
        assert transcript.hidden + len(transcript.views) == count
        assert WINDOW <= len(transcript.views) <= 2 * WINDOW
        assert "earlier turns" in shown(app, "#earlier")
        await transcript.show_earlier(app.chat.state, 0.0)
        assert transcript.hidden + len(transcript.views) == count
        assert transcript.views[-1].turn.answer == f"answer {count - 1}"
