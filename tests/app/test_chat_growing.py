"""An answer that came in pieces is drawn as one that came whole."""

from __future__ import annotations

import doctest
import random
from itertools import pairwise

import pytest
from textual.app import App, ComposeResult
from textual.widget import Widget
from textual.widgets import Static
from textual.widgets.markdown import MarkdownFence

from qwen3_mlx_app.tui import pace
from qwen3_mlx_app.tui.widgets.answer import Answer

DOCUMENTS = {
    "bullets": "Before.\n\n- one\n- two **bold**\n- three\n\nAfter.\n",
    "loose": "- one\n\n  more of one\n\n- two\n\n- three\n",
    "past ten": "".join(f"{n}. item {n}\n" for n in range(1, 13)) + "\nEnd.",
    "all ones": "".join(f"1. item {n}\n" for n in range(1, 13)),
    "from eight": "".join(f"{n}. item {n}\n" for n in range(8, 12)),
    "nested": "1. **A**:\n   - a\n   - b\n     1. deep\n     2. deeper\n   - c\n2. B\n\n# End\n",
    "code": "- first:\n\n  ```python\n  print(1)\n  print(2)\n  ```\n\n- two\n\n  > a\n  > b\n",
    "table": "- a\n\n  | x | y |\n  | - | - |\n  | 1 | 2 |\n\n- b\n",
    "turns": "- a\n* b\n+ c\n\n1) one\n1. two\n",
    "stars": "- ***Key*** point\n- ***\n- b\n\n> ***\n\n***\n",
    "empty": "-\n- \n- x\n  ---\n- y\n  ===\n-\n\n  z\n",
}


class Page(App[None]):
    """One growing answer and one that comes whole."""

    def compose(self) -> ComposeResult:
        yield Answer()
        yield Answer()


def drawn(widget: Widget) -> list[object]:
    """What a widget shows, with its kind and all below it."""
    if isinstance(widget, MarkdownFence):
        return [type(widget).__name__, widget.code, widget.lexer]
    said = widget.content if isinstance(widget, Static) else getattr(widget, "symbol", "")
    return [type(widget).__name__, str(said), [drawn(child) for child in widget.children]]


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_growing_answer_is_drawn_as_one_that_came_whole(name: str) -> None:
    text, dice = DOCUMENTS[name], random.Random(name)
    async with Page().run_test() as pilot:
        grown, whole = pilot.app.query(Answer)
        await whole.sync(text)
        for _ in range(3):
            await grown.update("")
            grown._written, at = 0, 0
            while at < len(text):
                at = min(len(text), at + dice.randint(1, 12))
                await grown.sync(text[:at])
            assert [drawn(child) for child in grown.children] == [
                drawn(child) for child in whole.children
            ]


async def test_the_items_that_are_finished_stay_the_same_widgets() -> None:
    async with Page().run_test() as pilot:
        answer = pilot.app.query(Answer).first()
        await answer.sync("- one\n- two\n")
        bullets = list(answer.query("MarkdownBullet"))
        await answer.sync("- one\n- two\n- three\n  - four")
        assert list(answer.query("MarkdownBullet"))[:2] == bullets
        assert len(answer.query("MarkdownBullet")) == 4


async def test_the_language_of_code_without_one_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("textual.highlight.guess_language")
    async with Page().run_test() as pilot:
        answer = pilot.app.query(Answer).first()
        await answer.sync("```\nx = 1\n```\n\n- a\n\n      code\n")
        assert [each.code for each in answer.query(MarkdownFence)] == ["x = 1", "code"]
        assert len(answer.query("MarkdownFence")) == 2


def test_pictures_are_due_as_often_as_a_quarter_of_a_core_allows() -> None:
    """At most ten a second; fewer where one costs much; one a second whatever it costs."""
    assert doctest.testmod(pace).failed == 0
    now = cpu = 0.0
    dear = pace.Pace(lambda: now, lambda: cpu)
    drawn = []
    for tick in range(200):
        now = tick / 20
        if dear.due():
            drawn.append(now)
            cpu += 0.1
    gaps = {round(later - sooner, 2) for sooner, later in pairwise(drawn)}
    assert gaps <= {0.4, 0.45}
    cpu, hopeless = 0.0, pace.Pace(lambda: now, lambda: cpu)
    count = 0
    for _ in range(200):
        now, cpu = now + 0.05, cpu + 0.05
        count += hopeless.due()
    assert 9 <= count <= 11
