"""Versions of a turn, the block cursor, the list of chats, models, settings, attachments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from driving import (
    Clock,
    ask,
    closed,
    drawn,
    full_answer,
    make_app,
    opened,
    press,
    ready,
    say,
    settled,
    told,
    wait_until,
)
from textual.screen import Screen
from textual.widgets import Input, Markdown, OptionList, Static, TextArea

from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.exchange import SavedChat, to_json
from qwen3_mlx_app.tui.screens.block import BlockScreen
from qwen3_mlx_app.tui.screens.chats import ChatsScreen
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.screens.drawn import LEAST
from qwen3_mlx_app.tui.screens.models import ModelsScreen
from qwen3_mlx_app.tui.screens.settings import SettingsScreen
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings, read_settings, write_settings
from qwen3_mlx_app.tui.store import SavedTurn, Store
from qwen3_mlx_app.tui.widgets.composer import Chips
from qwen3_mlx_app.tui.widgets.keybar import KeyBar

LONG = Answer("one two three four five six", thinking="well now so then", pause_after=2)


def shown(app: ChatApp, selector: str) -> str:
    return str(app.screen.query(selector).last(Static).render())


def stored_app(path: Path, *tape: Answer | str) -> ChatApp:
    """The app with a database."""
    session = Session(lambda progress: FakeModel(tape), clock=Clock(), store=Store(path))
    return ChatApp(session, "Qwen3-fake", still=True)


async def test_editing_answering_anew_and_flipping_lose_nothing() -> None:
    model = FakeModel(["one", "two", "edited", "again"])
    app = make_app(model)
    async with app.run_test(size=(100, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await ask(pilot, app, "second")
        await press(app, "up")
        await wait_until(pilot, lambda: app.chat.composer.text == "second")
        await press(app, "escape")
        await wait_until(pilot, lambda: app.chat.composer.text == "")
        await press(app, "up", "!", "enter")
        await wait_until(pilot, lambda: app.session.state.last_answer == "edited")
        await drawn(pilot, app)
        assert [t.user for t in app.session.state.turns] == ["first", "second!"]
        assert "‹2/2›" in shown(app, "UserTurn")
        await press(app, "alt+up", "left_square_bracket")
        await wait_until(pilot, lambda: app.session.state.last_answer == "two")
        await drawn(pilot, app)
        assert [t.answer for t in app.session.state.turns] == ["one", "two"]
        await press(app, "alt+up", "up", "up", "up", "up", "e")
        await wait_until(pilot, lambda: app.chat.composer.text == "first")
        await press(app, "enter")
        await wait_until(pilot, lambda: app.session.state.last_answer == "again")
        await drawn(pilot, app)
        assert [t.answer for t in app.session.state.turns] == ["again"]
        assert len(app.session.state.tree.all) == 4
        assert len(app.chat.query(Markdown)) == 1


async def test_the_block_cursor_copies_writes_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(FakeModel([full_answer()]))
    async with app.run_test(size=(100, 40)) as pilot:
        await ready(pilot, app)
        await press(app, "alt+up")
        assert app.chat.composer.has_focus
        await ask(pilot, app, "hi")
        await press(app, "alt+up", "c")
        await wait_until(pilot, lambda: app.clipboard.startswith("def merge"))
        await wait_until(pilot, lambda: "c Copy" in shown(app, "KeyBar"))
        await press(app, "w", "w")
        await wait_until(pilot, (tmp_path / "code-2.py").exists)
        assert (tmp_path / "code.py").read_text().startswith("def merge")
        await press(app, "m")
        await opened(pilot, app, BlockScreen)
        assert app.screen.query_one(TextArea).text.startswith("def merge")
        await press(app, "escape")
        await closed(pilot, app)
        await press(app, "up", "up", "space")
        await wait_until(pilot, lambda: app.chat.query_one(".thought-body").display)
        await press(app, "down", "down", "down")
        await wait_until(pilot, lambda: app.chat.composer.has_focus)
        await press(app, "alt+up", "x")
        await wait_until(pilot, lambda: app.chat.composer.text == "x")


async def test_a_stopped_answer_is_continued() -> None:
    model = FakeModel([Answer("one two three", pause_after=2), " three"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+g")
        await wait_until(pilot, lambda: "nothing to continue" in told(app))
        await say(app, "count")
        await wait_until(pilot, lambda: app.session.state.turns[0].answer == "one two")
        await press(app, "escape")
        await drawn(pilot, app)
        assert "^g" in shown(app, ".stats")
        await press(app, "ctrl+g")
        await wait_until(pilot, lambda: app.session.state.last_answer == "one two three")
        await drawn(pilot, app)
        assert len(app.chat.query(".stats")) == 1
    assert model.calls[1].thinking is False
    assert model.calls[1].messages[1]["content"] == "one two"


async def test_budgets_and_answer_now() -> None:
    model = FakeModel([LONG, Answer("yes", thinking="a b c d e f g"), "x"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+down", "ctrl+down")
        assert app.session.state.budget == 8192
        await wait_until(pilot, lambda: "8k" in shown(app, "#pill"))
        await press(app, "ctrl+b")
        await say(app, "go")
        await wait_until(pilot, lambda: app.session.state.turns[0].thought_tokens == 2)
        await wait_until(pilot, lambda: "2 / 8,192" in shown(app, ".thought-title"))
        await press(app, "ctrl+b")
        model.go_on()
        await drawn(pilot, app)
        assert "ended by you" in shown(app, ".thought-title")
        await say(app, "/think 3")
        await ask(pilot, app, "more")
        assert "budget used up" in shown(app, ".thought-title")
        await say(app, "/think off")
        assert app.session.state.budget is None
    assert [call.thinking_budget for call in model.calls] == [8192, 3]


async def test_the_list_of_chats(tmp_path: Path) -> None:
    app = stored_app(tmp_path / "chats.db", "stable 排序", "hello", "third")
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "How do I sort?")
        assert "How do I sort? · saved" in shown(app, "#title")
        await press(app, "ctrl+n")
        await ask(pilot, app, "Say hello")
        await press(app, "ctrl+o")
        await opened(pilot, app, ChatsScreen)
        options, box = app.screen.query_one(OptionList), app.screen.query_one(Input)
        await wait_until(pilot, lambda: options.option_count == 2)
        await press(app, "ctrl+x")
        await wait_until(pilot, lambda: "on show" in shown(app, "#word"))
        await press(app, *"排序")
        await wait_until(pilot, lambda: options.option_count == 1)
        await press(app, "ctrl+e")
        await wait_until(pilot, lambda: box.value == "How do I sort?")
        box.value = "Sorting"
        await press(app, "enter")
        await wait_until(pilot, lambda: box.value == "排序")
        await settled(pilot, app)
        await press(app, "ctrl+x")
        await wait_until(pilot, lambda: options.option_count == 0)
        await press(app, "ctrl+z")
        await wait_until(pilot, lambda: options.option_count == 1)
        await press(app, "enter")
        await wait_until(pilot, lambda: app.session.keeper.title == "Sorting")
        await closed(pilot, app)
        await drawn(pilot, app)
        assert app.chat.query_one(Markdown).source == "stable 排序"
        await ask(pilot, app, "more")
        await say(app, "/title New name")
        await wait_until(pilot, lambda: "New name · saved" in shown(app, "#title"))
        await press(app, "ctrl+o")
        await opened(pilot, app, ChatsScreen)
        await press(app, "escape")
        await closed(pilot, app)


async def test_long_chats_are_mounted_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    store = Store(path)
    turns = [SavedTurn(f"q{n}", n + 1, n or None, answer=f"a{n}") for n in range(25)]
    store.add_all(store.new_chat("long"), turns, None)
    store.close()
    app = stored_app(path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+o")
        await opened(pilot, app, ChatsScreen)
        await press(app, "enter")
        await wait_until(pilot, lambda: len(app.chat.views) == 10)
        await closed(pilot, app)
        box, turns_there = app.chat.transcript, app.session.state.turns
        assert (box.hidden, len(app.chat.views)) == (15, 10)
        assert all(view.finished for view in app.chat.views)
        assert box.scroll_y == box.max_scroll_y > 10
        for hidden in (5, 0):  # ten more each time that the top is reached, and never all at once
            box.scroll_home(animate=False)
            await wait_until(pilot, lambda hidden=hidden: box.hidden == hidden)
            await wait_until(pilot, lambda: box._from_bottom is None and box.scroll_y > 10)
            await settled(pilot, app)
            assert [view.turn for view in app.chat.views] == turns_there[hidden:]


async def test_settings_work_at_once_and_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    model = FakeModel(["one"])
    session = Session(lambda progress: model, clock=Clock())
    app = ChatApp(session, "x", still=True, world=Environment(settings_path=path))
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+e")
        await opened(pilot, app, SettingsScreen)
        await press(app, "down", "right")
        await wait_until(pilot, lambda: app.theme == "qwen3-light")
        await press(app, "down", "right", "down", "down", "right", "down", "right", "up", "up")
        await press(app, *["down"] * 7, "enter")
        await wait_until(pilot, lambda: app.screen.query_one(Input).has_focus)
        await press(app, *"Hi.", "enter")
        await wait_until(pilot, lambda: app.screen.query_one(OptionList).has_focus)
        await press(app, "escape")
        await closed(pilot, app)
        await ask(pilot, app, "q")
    settings, problems = read_settings(path)
    assert problems == []
    assert (settings.theme, settings.thoughts, settings.budget) == ("light", "open", 512)
    (call,) = model.calls
    assert (call.system, call.thinking_budget) == ("Hi.", 512)
    assert call.sampling is not None
    assert call.sampling.temperature == 0.6
    assert app.session.state.view == "open"


async def test_settings_in_the_smallest_window() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=LEAST) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+e")
        await opened(pilot, app, SettingsScreen)
        rows, bar = app.screen.query_one(OptionList), app.screen.query_one(KeyBar)
        await press(app, "end")
        await wait_until(pilot, lambda: rows.scroll_y == rows.max_scroll_y > 0)
        assert rows.size.height >= 5
        assert rows.region.bottom <= bar.region.y < bar.region.bottom < LEAST[1]


def test_a_settings_file_is_read_with_care(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "settings.toml"
    assert read_settings(path) == (Settings(), [])
    wanted = Settings(system='say "hi"\n\\ 你好', temperature=0.25, budget=700, thinking=False)
    write_settings(path, wanted)
    assert read_settings(path) == (wanted, [])
    assert "# the most tokens of a thought" in path.read_text()
    path.write_text('theme = "pink"\nbudget = true\nunknown = 1\nthinking = false\n')
    settings, problems = read_settings(path)
    assert settings == Settings(thinking=False)
    assert len(problems) == 3


def test_a_settings_file_with_a_slip_is_kept_when_another_is_written(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(slip := 'system = "mine"\nlanguage = "zh\n')
    assert read_settings(path)[0] == Settings()
    odd = Settings(system="a\x7f\x01b")
    write_settings(path, odd)
    assert path.with_suffix(".toml.bad").read_text() == slip
    assert read_settings(path) == (odd, [])
    path.write_text("= nonsense")
    assert read_settings(path)[0] == Settings()


async def test_files_and_long_pastes_go_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("buy milk")
    Path("picture.png").write_bytes(b"\x89PNG\0\xff")
    model = FakeModel(["ok"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        app.chat.composer.put("see @picture.png")
        await wait_until(pilot, lambda: "no text file" in shown(app, "Chips"))
        await press(app, "enter")
        await wait_until(pilot, lambda: "no text file" in told(app))
        await wait_until(pilot, lambda: app.chat.composer.text == "see @picture.png")
        app.chat.composer.put("see @notes.txt")
        app.chat.composer.post_message(app.chat.composer.Pasted("line\n" * 100))
        await wait_until(pilot, lambda: "pasted 1" in shown(app, "Chips"))
        await wait_until(pilot, lambda: "notes.txt ~2 tok" in shown(app, "Chips"))
        await press(app, "enter")
        await wait_until(pilot, lambda: app.session.state.last_answer == "ok")
        await drawn(pilot, app)
        assert not app.chat.query_one(Chips).display
        assert "notes.txt ~2 tok" in shown(app, "UserTurn")
        assert "milk" not in shown(app, "UserTurn")
    assert '<file name="notes.txt">\nbuy milk\n</file>' in model.calls[0].prompt


async def test_export_and_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(FakeModel(["one", "two"]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "/export")
        await wait_until(pilot, lambda: "nothing to export" in told(app))
        await ask(pilot, app, "hi")
        await press(app, "ctrl+r")
        await wait_until(pilot, lambda: app.session.state.last_answer == "two")
        await drawn(pilot, app)
        await say(app, "/export")
        await wait_until(pilot, lambda: "Written: chat.md" in told(app))
        assert "two" in (tmp_path / "chat.md").read_text()
        await say(app, "/export all.json")
        await wait_until(pilot, lambda: "Written: all.json" in told(app))
        assert len(json.loads((tmp_path / "all.json").read_text())["turns"]) == 2
        await say(app, "/new")
        await wait_until(pilot, lambda: not app.session.state.turns)
        await say(app, "/import all.json")
        await wait_until(pilot, lambda: app.session.state.last_answer == "two")
        await drawn(pilot, app)
        assert [turn.answer for turn in app.session.state.turns] == ["two"]
        assert "‹2/2›" in shown(app, "UserTurn")
        await say(app, "/import chat.md")
        await wait_until(pilot, lambda: "was not imported" in shown(app, "NoticeLine"))
        await say(app, "/fork")
        await wait_until(pilot, lambda: "You go on in a copy" in told(app))
        await say(app, "/answer")
        await wait_until(pilot, lambda: "no thought to end" in told(app))
        await say(app, "/continue")
        await wait_until(pilot, lambda: "nothing to continue" in told(app))


@pytest.mark.parametrize("title", ["", "empty"])
async def test_a_file_without_turns_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("none.json").write_text(to_json(SavedChat(title)))
    app = stored_app(tmp_path / "chats.db", "one")
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        await say(app, "/import none.json")
        await wait_until(pilot, lambda: "none.json was not imported" in shown(app, "NoticeLine"))
        assert "(0 turns)" in shown(app, "NoticeLine")
        assert [turn.answer for turn in app.session.state.turns] == ["one"]


async def test_a_terminal_that_is_too_small_says_so() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(40, 10)) as pilot:
        await ready(pilot, app)
        await wait_until(pilot, lambda: "40×10" in shown(app, "#small"))
        await wait_until(pilot, lambda: not app.chat.query_one("#bottom").display)


async def test_the_block_keys_answer_anew_flip_and_fork(tmp_path: Path) -> None:
    app = stored_app(tmp_path / "chats.db", "one", "two", "three")
    async with app.run_test(size=(100, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await press(app, "alt+up", "k", "j", "r")
        await wait_until(pilot, lambda: app.session.state.last_answer == "two")
        await drawn(pilot, app)
        await press(app, "escape", "alt+up", "left_square_bracket")
        await wait_until(pilot, lambda: app.session.state.last_answer == "one")
        await drawn(pilot, app)
        await press(app, "alt+up", "right_square_bracket")
        await wait_until(pilot, lambda: app.session.state.last_answer == "two")
        await drawn(pilot, app)
        first = app.session.keeper.chat
        await press(app, "alt+up", "f")
        await wait_until(pilot, lambda: app.session.keeper.chat not in (0, first))
        assert app.session.keeper.title.endswith("(2)")


async def test_the_commands_that_open_something(tmp_path: Path) -> None:
    app = stored_app(tmp_path / "chats.db", "one")
    app.chat.world.loader = lambda name, memory: lambda progress: FakeModel([])
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "what is a merge")
        await say(app, "/new")
        screens: list[tuple[str, type[Screen[Any]]]] = [
            ("/chats merge", ChatsScreen), ("/models", ModelsScreen), ("/settings", SettingsScreen),
        ]  # fmt: skip
        for command, kind in screens:
            await say(app, command)
            await opened(pilot, app, kind)
            if kind is ChatsScreen:
                assert app.screen.query_one(Input).value == "merge"
                assert app.screen.query_one(OptionList).option_count == 1
            await press(app, "escape")
            await closed(pilot, app)


async def test_formulas_show_their_source() -> None:
    app = make_app(FakeModel(["So:\n\n$$\n\\frac{a}{b} \\leq 1\n$$\n\nend"]))
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        await press(app, "alt+up", "m")
        await opened(pilot, app, BlockScreen)
        assert "\\frac{a}{b} \\leq 1" in app.screen.query_one(TextArea).text
