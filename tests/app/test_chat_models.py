"""The list of models: what fits, downloads that go on behind the chat, changing to one."""

from __future__ import annotations

import doctest
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from checkpoints import base_config, write_checkpoint
from driving import Clock, ask, closed, opened, press, ready, told, wait_until
from offers import offer
from textual.widgets import OptionList, Static

from qwen3_mlx.catalogue import entries, find
from qwen3_mlx.checkpoint import Checkpoint, TensorInfo
from qwen3_mlx.errors import DownloadPaused, HubError
from qwen3_mlx.fit import OUTSIDE_BYTES
from qwen3_mlx.ledger import Entry
from qwen3_mlx.machines import named
from qwen3_mlx.model.allocation import SPEND
from qwen3_mlx.model.shapes import expected_shapes
from qwen3_mlx.pulling import Download, FileState, Listener
from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app import models_command
from qwen3_mlx_app.cli import main
from qwen3_mlx_app.tui import downloads as downloads_module
from qwen3_mlx_app.tui import fitting
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.downloads import Downloads
from qwen3_mlx_app.tui.screens.choices import Environment
from qwen3_mlx_app.tui.screens.models import ModelsScreen
from qwen3_mlx_app.tui.session import Session
from qwen3_mlx_app.tui.settings import Settings
from qwen3_mlx_app.tui.widgets.header import HeaderBar
from qwen3_mlx_convert.plan import make_plan
from qwen3_mlx_convert.quantize import Recipe

MODELS = [
    offer("0.6b", 4, 10**10, name="small"),
    offer("0.6b", 16, 10**10, name="far", here=False),
    offer("32b", 4, 10**10, name="huge"),
    offer("30b-a3b", 4, 10**10, name="moe"),
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
    monkeypatch.setattr(fitting, "candidates", lambda local, unfinished, limit: list(MODELS))
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
        await wait_until(pilot, lambda: "= 1.6G of 10.0G" in driven.shown("#word"))
        await press(app, "down", "enter")
        await wait_until(pilot, lambda: "downloads 1.2G" in driven.shown("#word"))
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
        assert app.chat.query_one(HeaderBar).model_name == "moe"  # while it loads, too
    # `load` keeps on disk what does not fit, where nobody set a limit.
    assert driven.asked == [("huge", {"context": 4096}), ("moe", {"context": 4096})]


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


async def test_a_limit_beyond_what_is_left_becomes_what_is_left(hub: Hub) -> None:
    driven = Driven(hub, Settings(memory_limit="64GB"))
    app = driven.app
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        wishes = [app.chat._memory(model) for model in MODELS]
    assert [model.judged.verdict for model in MODELS] == [
        "fits", "fits", "too big", "streams experts",
    ]  # fmt: skip
    set_limit = {"memory_limit": "64GB"}
    most = 10**10 - OUTSIDE_BYTES
    assert wishes == [set_limit, set_limit, set_limit, {"memory_limit": most}]


# The same verdicts as `fit` and `models`.

MACS = ("m1 8GB", "m2 16GB", "m4 pro 24GB", "m4 max 64GB", "m3 ultra 256GB")


def _fit(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["fit", *words, "--json"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


@pytest.mark.parametrize("mac", MACS)
def test_models_to_download_get_the_verdicts_of_fit(
    capsys: pytest.CaptureFixture[str], mac: str
) -> None:
    models = fitting.candidates([], [("Qwen/Qwen3-4B", 30, 100)], machine=named(mac))
    chat = {model.name: model.judged for model in models if not model.here}
    assert set(chat) == {entry.name for entry in entries()} - {"tiny"}
    rows = _fit(capsys, "--bf16", "--on", mac)["models"]
    for row in rows:
        judged = chat[row["name"]]
        assert (judged.verdict, judged.needed_bytes) == (row["verdict"], row["needed_bytes"])
    assert {model.name: model.partial for model in models if model.partial} == {"4b": 0.3}
    tiny = next(model for model in models if model.here)
    assert (tiny.load_name, tiny.stored, tiny.judged.verdict) == ("tiny", "built in", "fits")
    assert tiny.judged.verdict == _fit(capsys, "tiny", "--on", mac)["verdict"]


@pytest.mark.parametrize("name", ["4b", "30b-a3b", "235b-a22b"])
def test_models_that_are_here_get_the_verdicts_of_fit_and_models(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    folder = _headers_of(tmp_path / "home" / "models" / name, name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    verdicts = []
    for mac in MACS:
        _, model, *_ = fitting.candidates([(name, folder)], machine=named(mac))
        assert (model.load_name, model.stored, model.here) == (str(folder), "4-bit", True)
        found = _fit(capsys, str(folder), "--on", mac)
        assert (model.judged.verdict, model.weight_bytes) == (
            found["verdict"], found["weight_bytes"],
        )  # fmt: skip
        monkeypatch.setattr(models_command, "this_machine", lambda mac=mac: named(mac))
        assert models_command.local()[0]["verdict"] == model.judged.verdict
        verdicts.append(model.judged.verdict)
    if name == "30b-a3b":
        assert verdicts == ["streams experts"] * 3 + ["fits"] * 2


def _headers_of(folder: Path, name: str) -> Path:
    """A converted model whose weights are a hole in a file."""
    entry = find(name)
    assert entry is not None
    config = entry.config
    tensors = {
        name: TensorInfo(folder / "x", "BF16", shape, 0, 2 * prod(shape))
        for name, shape in expected_shapes(config).items()
    }
    plan = make_plan(Checkpoint(folder, {}, tensors), config, Recipe(4, spend=SPEND))
    raw = base_config(
        moe=config.experts > 0, tied=config.tied, hidden_size=config.hidden_size,
        intermediate_size=config.mlp_width, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim, vocab_size=config.vocab_size,
        max_position_embeddings=config.max_positions, quantization=plan.block,
    )  # fmt: skip
    if config.experts:
        raw |= {
            "num_experts": config.experts, "num_experts_per_tok": config.top_k,
            "moe_intermediate_size": config.expert_width,
        }  # fmt: skip
    header, at = {}, 0
    for output in plan.outputs:
        spans = [at, at := at + output.nbytes]
        header[output.name] = {"dtype": output.dtype, "shape": output.shape, "data_offsets": spans}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(raw))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return folder


def test_a_limit_and_the_plans_of_others_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac = replace(named("m4 max 64GB"), here=True)
    pids = [os.getpid(), 1]
    book = [Entry(pid, "a program", 40 * 10**9) for pid in pids]
    monkeypatch.setattr("qwen3_mlx_app.fit_subjects.read_book", lambda folder: book)

    def usable(limit: str) -> int:
        (first, *others) = fitting.candidates([], limit=limit, machine=mac)
        assert all(each.judged.usable_bytes == first.judged.usable_bytes for each in others)
        return first.judged.usable_bytes

    left = mac.usable_bytes - 40 * 10**9  # the model of this process leaves for the next one
    assert (usable(""), usable("64GB"), usable("2GB")) == (left, left, 2 * 10**9)


def test_what_cannot_be_used_cannot_be_chosen(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "whole")
    broken = write_checkpoint(tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    found = fitting.candidates([("whole", whole), ("broken", broken)])
    here = [(model.name, model.stored) for model in found if model.here]
    assert here == [("tiny", "built in"), ("whole", "bf16")]


async def test_no_memory_left_is_drawn(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    none_left = [offer("0.6b", 4, -(10**9), name="small")]
    monkeypatch.setattr(fitting, "candidates", lambda local, unfinished, limit: none_left)
    driven = Driven(hub)
    async with driven.app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, driven.app)
        await press(driven.app, "ctrl+l")
        await opened(pilot, driven.app, ModelsScreen)
        assert "too big" in driven.line(0)
        assert "of 0M" in driven.shown("#word")


def test_downloads_are_closed_with_the_app(hub: Hub) -> None:
    assert doctest.testmod(downloads_module).failed == 0
    downloads = Downloads(hub.fetch)
    downloads.start("a")
    downloads.start("a")
    downloads.close()
    downloads.wait()
    assert [(each.name, each.phase) for each in downloads.all] == [("a", "paused")]
    assert hub.calls == ["a"]
