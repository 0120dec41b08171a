"""The whole app on a real model: tiny, three turns, thinking on, off and with a budget."""

from __future__ import annotations

from driving import ask, press, ready, say
from textual.widgets import Static

import qwen3_mlx
from qwen3_mlx.interface import Sampling
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.session import ChatOptions, Session
from qwen3_mlx_app.tui.store import Store


async def test_three_turns_with_tiny() -> None:
    options = ChatOptions(sampling=Sampling(temperature=0), max_tokens=160)
    store = Store(":memory:")
    session = Session(
        lambda progress: qwen3_mlx.load("tiny", progress=progress), options, store=store
    )
    app = ChatApp(session, "tiny", still=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "What is 12 + 30?")
        await press(app, "ctrl+t")
        await ask(pilot, app, "What is 3 + 4?")
        await say(app, "/think 4")
        await ask(pilot, app, "What is 21 + 17?")
        free, silent, short = session.state.turns
        titles = [str(each.render()) for each in app.chat.query(".thought-title").results(Static)]
        gauges = str(app.chat.query_one("StatusLine", Static).render())
        stored = store.turns(session.keeper.chat)
        await say(app, "/prompt")
    assert all(turn.error is None and turn.answer for turn in session.state.turns)
    assert "42" in free.answer
    assert free.thought_tokens > 4
    assert (silent.thought, silent.thought_tokens) == ("", 0)
    assert (short.thought_tokens, short.ended_by) == (4, "budget")
    assert len(titles) == 2
    assert "budget used up" in titles[1]
    assert "mem" in gauges
    assert "tok/s" in gauges
    assert [turn.answer for turn in stored] == [turn.answer for turn in session.state.turns]
