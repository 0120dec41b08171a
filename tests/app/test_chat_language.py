"""English and Chinese: no string of the interface is missing, and placeholders agree."""

from __future__ import annotations

import doctest
import re
import string

import pytest
from driving import full_answer, make_app, opened, press, ready
from interface_strings import interface_strings
from textual.widgets import Static

from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.tui import attachments, budgets, keymap, language, settings
from qwen3_mlx_app.tui.chinese import WORDS
from qwen3_mlx_app.tui.screens.help import HelpScreen
from qwen3_mlx_app.tui.widgets.keybar import KeyBar


def test_no_string_is_missing_in_chinese() -> None:
    assert sorted(interface_strings() - set(WORDS)) == []


@pytest.mark.parametrize("english", sorted(WORDS))
def test_placeholders_agree(english: str) -> None:
    def names(text: str) -> list[str]:
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)

    assert names(english) == names(WORDS[english])


@pytest.mark.parametrize("module", [language, attachments, budgets, keymap, settings])
def test_the_examples_in_docstrings_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert result.failed == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_TW", "LANG": "C"}, "zh"),
    ],
)
def test_the_language_of_the_system(environment: dict[str, str], expected: str) -> None:
    assert language.system_language(environment) == expected


@pytest.mark.usefixtures("chinese")
async def test_the_screen_is_chinese() -> None:
    app = make_app(FakeModel([full_answer()]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        assert "思考" in str(app.chat.query_one(KeyBar).render())
        assert "给 Qwen3 发消息" in str(app.chat.composer.placeholder)
        palette = list(app.get_system_commands(app.chat))
        assert [each.title for each in palette][-2:] == ["主题", "截图"]
        assert [each.help for each in palette if not re.search("[\u4e00-\u9fff]", each.help)] == []
        await press(app, "f1")
        await opened(pilot, app, HelpScreen)
        words = "\n".join(str(each.render()) for each in app.screen.query(Static))
        assert "回答前先思考" in words


async def test_another_language_at_once() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        try:
            app.chat._change(settings.Settings(language="zh"))
            assert "给 Qwen3 发消息" in str(app.chat.composer.placeholder)
        finally:
            app.chat._change(settings.Settings(language="en"))
        assert "Message Qwen3" in str(app.chat.composer.placeholder)
