"""The list of models: what fits, downloads that go on behind the chat, changing to one."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from driving import Clock, ask, closed, opened, press, ready, told, wait_until
from textual.widgets import OptionList, Static

from qwen3_mlx.errors import DownloadPaused, HubError
from qwen3_mlx.pulling import Download, FileState, Listener
from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.tui import downloads as downloads_module
from qwen3_mlx_app.tui import fitting
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.downloads import Downloads
from qwen3_mlx_app.tui.fitting import Candidate, usable_bytes
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.screens.models import ModelsScreen
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings

MODELS = [
    Candidate("small", "small", 10**9, 10**8, "4-bit", here=True),
    Candidate("far", "far", 10**9, 10**8, "bf16", here=False),
    Candidate("huge", "huge", 10**12, 10**8, "4-bit", here=True),
    Candidate("moe", "moe", 3 * 10**10, 10**8, "4-bit", here=True, least_bytes=8 * 10**9),
]


class Hub:
    """A hub whose files come when the test says so."""

    def __init__(self) -> None:
        self.go, self.broken = Event(), False
        self.calls: list[str] = []

    def fetch(self, name: str, tell: Listener, stop: Event) -> Path:
        self.calls.append(name)
        files = (
            FileState("model-00001-of-00002.safetensors", 400_000_000, 800_000_000, "reading"),
            FileState("model-00002-of-00002.safetensors", 0, 200_000_000, "queued"),
        )
        tell(Download(name, files, 400_000_000, 10.0))
        while not self.go.wait(0.01):
            if stop.is_set():
                raise DownloadPaused(name)
        if self.broken:
            raise HubError("the hub answered 503; try again later")
        return Path(name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(fitting, "candidates", lambda local, unfinished: list(MODELS))
    monkeypatch.setattr(fitting, "usable_bytes", lambda limit="": 10**10)
    return Hub()


class Driven:
    """An app with those models; `asked` is what its loader was asked for."""

    def __init__(self, hub: Hub, settings: Settings | None = None) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.first = FakeModel(["one"])
        world = Environment(
            self.loader, settings or Settings(), load_name="small", downloads=Downloads(hub.fetch)
        )
        session = Session(lambda progress: self.first, clock=Clock())
        self.app = ChatApp(session, "small", still=True, world=world)

    def loader(self, name: str, memory: Mapping[str, Any]) -> Callable[[object], FakeModel]:
        self.asked.append((name, memory))
        return lambda progress: FakeModel(["two"])

    def shown(self, selector: str) -> str:
        return str(self.app.screen.query(selector).last(Static).render())

    def line(self, at: int) -> str:
        return str(self.app.screen.query_one(OptionList).get_option_at_index(at).prompt)


async def test_a_download_can_be_paused_and_goes_on_behind_the_chat(hub: Hub) -> None:
    driven = Driven(hub)
    app = driven.app
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+l")
        await opened(pilot, app, ModelsScreen)
        await wait_until(pilot, lambda: "= 1.5G of 10.0G" in driven.shown("#word"))
        await press(app, "down", "enter")
        await wait_until(pilot, lambda: "downloads 1.0G" in driven.shown("#word"))
        assert hub.calls == []
        await press(app, "enter")
        await wait_until(pilot, lambda: "40%" in driven.line(1))
        assert "40.0M/s · 15s" in driven.line(1).replace("40M/s", "40.0M/s")
        await wait_until(pilot, lambda: "00001" in driven.shown("#files"))
        assert "400.0M / 800.0M" in driven.shown("#files").replace("0.4G / 0.8G", "400.0M / 800.0M")
        await wait_until(pilot, lambda: "␣ Pause" in driven.shown("KeyBar"))
        await press(app, "enter")
        await wait_until(pilot, lambda: "on its way" in driven.shown("#word"))
        await press(app, "space")
        await wait_until(pilot, lambda: "paused" in driven.line(1))
        await press(app, "enter")
        await wait_until(pilot, lambda: hub.calls == ["far", "far"])
        await press(app, "escape")
        await closed(pilot, app)
        await ask(pilot, app, "meanwhile")
        hub.go.set()
        await wait_until(pilot, lambda: "far is here" in told(app))
        await press(app, "ctrl+l")
        await opened(pilot, app, ModelsScreen)
        await press(app, "down")
        await wait_until(pilot, lambda: "fits" in driven.line(1))
        await press(app, "enter")
        await wait_until(pilot, lambda: driven.first.closed)
        await wait_until(pilot, lambda: app.session.state.info is not None)
        assert driven.asked == [("far", {})]
        await ask(pilot, app, "and now?")
        assert [turn.answer for turn in app.session.state.turns] == ["one", "two"]


async def test_a_download_that_breaks_off_says_why_and_goes_on(hub: Hub) -> None:
    driven, hub.broken = Driven(hub), True
    app = driven.app
    hub.go.set()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+l")
        await opened(pilot, app, ModelsScreen)
        await press(app, "down", "enter", "enter")
        await wait_until(pilot, lambda: "broke off" in driven.line(1))
        await press(app, "up", "down")
        await wait_until(pilot, lambda: "503" in driven.shown("#word"))
        hub.broken = False
        await press(app, "enter")
        await wait_until(pilot, lambda: "fits" in driven.line(1))


async def test_too_big_is_loaded_anyway_and_experts_stay_on_disk(hub: Hub) -> None:
    driven = Driven(hub, Settings(context=4096))
    app = driven.app
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        for switched, (downs, words) in enumerate([(2, "anyway"), (3, "experts stay on disk")], 1):
            await press(app, "ctrl+l")
            await opened(pilot, app, ModelsScreen)
            app.screen.query_one(OptionList).highlighted = 0
            await press(app, *["down"] * downs)
            if downs == 2:
                await press(app, "enter")
            await wait_until(pilot, lambda words=words: words in driven.shown("#word"))
            await press(app, "enter")
            await wait_until(pilot, lambda n=switched: len(driven.asked) == n)
            await closed(pilot, app)
            await wait_until(pilot, lambda: app.session.state.info is not None)
    assert driven.asked == [
        ("huge", {"context": 4096}),
        ("moe", {"context": 4096, "memory_limit": 10**10}),
    ]


async def test_settings_of_memory_are_for_the_next_load(hub: Hub) -> None:
    driven = Driven(hub)
    app = driven.app
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        app.chat._change(Settings(context=8192, memory_limit="6GB"))
        assert not driven.first.closed
        app.chat.restart()
        await wait_until(pilot, lambda: driven.first.closed)
        await wait_until(pilot, lambda: app.session.state.info is not None)
    assert driven.asked == [("small", {"context": 8192, "memory_limit": "6GB"})]


def test_what_fits() -> None:
    assert [model.verdict(10**10) for model in MODELS] == [
        "fits", "fits", "too big", "streams experts",
    ]  # fmt: skip
    assert usable_bytes("1GB") == 10**9
    assert usable_bytes() > usable_bytes("1MB")
    partly = fitting.candidates([], [("Qwen/Qwen3-4B", 30, 100)])
    assert {c.load_name: c.partial for c in partly if c.partial} == {"4b": 0.3}


def test_downloads_are_closed_with_the_app(hub: Hub) -> None:
    assert doctest.testmod(downloads_module).failed == 0
    downloads = Downloads(hub.fetch)
    downloads.start("a")
    downloads.start("a")
    downloads.close()
    downloads.wait()
    assert [(each.name, each.phase) for each in downloads.all] == [("a", "paused")]
    assert hub.calls == ["a"]
