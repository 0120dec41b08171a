"""The key map: keys of one's own work, are shown, and are refused where they cannot work."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import Clock, closed, make_app, opened, press, ready, wait_until
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Static

from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.tui import keymap
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.screens.help import HelpScreen
from qwen3_mlx_app.tui.screens.keys import KeyCatcher, KeysScreen
from qwen3_mlx_app.tui.screens.settings import SettingsScreen
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings, read_settings
from qwen3_mlx_app.tui.widgets.keybar import KeyBar


@pytest.fixture(autouse=True)
def default_keys() -> Iterator[None]:
    yield
    keymap.use({})


def test_the_examples_run() -> None:
    assert doctest.testmod(keymap).failed == 0
    assert keymap.problems(keymap.DEFAULTS) == {}


async def test_macos_takes_ctrl_up_so_there_is_a_second_key() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "f3")
        assert app.session.state.budget == 16384
        await press(app, "f4")
        assert app.session.state.budget is None
        await press(app, "f1")
        await opened(pilot, app, HelpScreen)
        text = "\n".join(str(static.render()) for static in app.screen.query(Static))
        assert "^↑ F4" in text


async def test_a_key_is_changed_in_the_settings_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    world = Environment(settings_path=path)
    session = Session(lambda progress: FakeModel([]), clock=Clock())
    app = ChatApp(session, "x", still=True, world=world)
    async with app.run_test(size=(100, 40)) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+e")
        await opened(pilot, app, SettingsScreen)
        await press(app, "end", "enter")
        await opened(pilot, app, KeysScreen)
        assert "⏎ Another key" in str(app.screen.query_one(KeyBar).render())
        await press(app, "enter")
        await opened(pilot, app, KeyCatcher)
        await press(app, "ctrl+r")
        await opened(pilot, app, KeysScreen)
        word = app.screen.query_one("#word", Static)
        await wait_until(pilot, lambda: "is the key of retry" in str(word.render()))
        await press(app, "enter")
        await opened(pilot, app, KeyCatcher)
        await press(app, "f6")
        await wait_until(pilot, lambda: read_settings(path)[0].keys == {"think": "f6"})
        await opened(pilot, app, KeysScreen)
        await press(app, "escape")
        await opened(pilot, app, SettingsScreen)
        await press(app, "escape")
        await closed(pilot, app)
        assert "F6 Think" in str(app.chat.query_one(KeyBar).render())
        await press(app, "f6")
        assert not app.session.state.thinking
        await press(app, "ctrl+t")
        assert not app.session.state.thinking
        await press(app, "ctrl+e")
        await opened(pilot, app, SettingsScreen)
        await press(app, "end", "enter")
        await opened(pilot, app, KeysScreen)
        await press(app, "backspace")
        await wait_until(pilot, lambda: read_settings(path)[0].keys == {})


def test_keys_in_the_file_are_read_with_care(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('theme = "light"\n[keys]\nthink = "f5"\nnew = "a"\nfly = "f7"\ncopy = "f5"\n')
    settings, wrong = read_settings(path)
    assert settings.keys == {}  # think and copy share a key: neither can have it
    assert settings == Settings(theme="light")
    assert len(wrong) == 4


_KEYS = st.text("ctrlaf+,1x ", max_size=12)


@given(st.dictionaries(st.sampled_from([*keymap.DEFAULTS, "fly"]), _KEYS))
def test_what_is_left_after_the_problems_has_no_key_twice(chosen: dict[str, str]) -> None:
    wrong = keymap.problems(chosen)
    keymap.use({name: keys for name, keys in chosen.items() if name not in wrong})
    every = [key for name in keymap.DEFAULTS for key in keymap.keys_of(name)]
    assert len(set(every)) == len(every)
    keymap.use({})
