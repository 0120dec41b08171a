"""Settings that are changed while the chat runs, beside the flags that it was started with."""

from __future__ import annotations

from dataclasses import replace

from driving import ask, make_app, ready

from qwen3_mlx.interface import Sampling
from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.tui.session import ChatOptions
from qwen3_mlx_app.tui.settings import PRESETS, Settings


async def test_a_change_leaves_what_the_command_line_said() -> None:
    """`chat --temperature 0 --top-p 0.5 --budget 512 --no-think --max-tokens 99`, then ^e."""
    model = FakeModel(["one", "two", "three"])
    flags = Sampling(temperature=0.0, top_p=0.5)
    app = make_app(model, options=ChatOptions(None, False, flags, 99), theme="light")
    app.session.state.budget, app.session.state.view = 512, "open"
    async with app.run_test() as pilot:
        await ready(pilot, app)
        app.chat._change(changed := Settings(language="en"))
        assert app.theme == "qwen3-light"
        app.chat._change(changed := replace(changed, theme="light"))
        app.chat._change(changed := replace(changed, theme="dark"))
        assert app.theme == "qwen3-dark"
        state = app.session.state
        assert (state.thinking, state.budget, state.view) == (False, 512, "open")
        await ask(pilot, app, "q")
        app.chat._change(changed := replace(changed, temperature=0.3, budget=1024))
        assert (state.thinking, state.budget) == (False, 1024)
        await ask(pilot, app, "q")
        app.chat._change(replace(changed, temperature=-1.0, preset="direct", max_tokens=512))
        await ask(pilot, app, "q")
    asked = [(call.thinking, call.sampling, call.max_tokens) for call in model.calls]
    assert asked == [
        (False, flags, 99), (False, Sampling(temperature=0.3, top_p=0.5), 99),
        (False, PRESETS["direct"], 512),
    ]  # fmt: skip
