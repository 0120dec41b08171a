"""`doctor`: each thing that can be wrong is found, with one suggestion; scripts get a status."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_stand import agent

from qwen3_mlx import hub
from qwen3_mlx.errors import EngineError
from qwen3_mlx.ledger import Entry, open_book
from qwen3_mlx.machines import Machine
from qwen3_mlx_app.cli import main
from qwen3_mlx_app.doctor import facts as looking
from qwen3_mlx_app.doctor.facts import Facts, Metal, Model, Place, gather, low_power, swap_used
from qwen3_mlx_app.doctor.findings import Finding, findings
from tests.checkpoints import write_checkpoint

GB = 10**9
LIMITS = {"max_recommended_working_set_size": 48 * 2**30, "max_buffer_length": 36 * 2**30}
WELL = Facts(
    system="Darwin", macos="26.1", architecture="arm64", rosetta=False, python="3.13.1",
    executable="/opt/homebrew/bin/python3",
    machine=Machine("Apple M4 Max", 64 << 30, 48 << 30, 546e9, here=True),
    swap_bytes=0, low_power=False, caffeinate=True, metal=Metal(True, limits=LIMITS),
    versions={"qwen3-mlx": "0.1.0", "mlx": "0.32.4"},
    places=(Place("models of Hugging Face", "/c", 500 * GB, True),),
    settings={}, models=(Model("Qwen/Qwen3-4B", "/m", 8 * GB),), unfinished=(), claims=(),
    trial="",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in looking.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))


def test_a_mac_that_is_well() -> None:
    found = findings(WELL)
    assert {finding.level for finding in found} == {"ok"}
    texts = [finding.text for finding in found]
    assert texts[0].startswith("Apple M4 Max, 64 GB, of which a program may use 51.5 GB; macOS 26")
    assert "Metal is available: working set 51.5 GB, largest buffer 38.7 GB" in texts


@pytest.mark.parametrize(
    ("changes", "topic", "level", "words"),
    [
        ({"rosetta": True}, "rosetta", "problem", "install an arm64 Python"),
        ({"architecture": "x86_64"}, "machine", "problem", "use a Mac with an M chip"),
        ({"macos": "13.7"}, "macos", "problem", "update macOS"),
        ({"low_power": True}, "power", "warning", "Battery"),
        ({"caffeinate": False}, "awake", "warning", "PATH"),
        ({"metal": Metal(False, "ImportError: no libmlx")}, "mlx", "problem", "force-reinstall"),
        ({"metal": Metal(False)}, "metal", "problem", "virtual machine"),
        ({"metal": Metal(False), "system": "Linux", "macos": ""}, "metal", "note", "use a Mac"),
        ({"metal": Metal(True, in_place=False)}, "experts", "warning", "--memory-limit"),
        ({"versions": {"mlx": "1", "textual": ""}}, "versions", "problem", "install qwen3-mlx"),
        ({"claims": (Entry(7, "chat", 60 * GB),)}, "plans", "warning", "close one of these"),
        ({"swap_bytes": 9 * GB}, "swap", "warning", "smaller model"),
        ({"places": (Place("own files", "/h", 9 * GB, False),)}, "disk", "problem",
         "QWEN3_MLX_HOME"),
        ({"places": (Place("models of Hugging Face", "/h", GB, True),)}, "disk", "warning",
         "HF_HOME"),
        ({"places": (Place("models of Hugging Face", "/h", 9 * GB, False),),
          "settings": {"HF_HOME": "/h", "HF_HUB_CACHE": "/h"}}, "disk", "problem", "HF_HUB_CACHE"),
        ({"settings": {"HF_HUB_OFFLINE": "1"}}, "settings", "note", ""),
        ({"models": ()}, "models", "note", "qwen3-mlx pull 4b"),
        ({"models": (Model("a/b", "/x", error="a shard is missing"),)}, "models", "warning",
         "qwen3-mlx pull a/b"),
        ({"models": (Model("mine", "/x", error="cut short"),)}, "models", "warning",
         "qwen3-mlx rm mine"),
        ({"unfinished": (("a/b", GB, 2 * GB),)}, "models", "warning", "goes on"),
        ({"trial": "EngineError: no"}, "trial", "problem", "install qwen3-mlx again"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(
    changes: dict[str, Any], topic: str, level: str, words: str
) -> None:  # fmt: skip
    found = findings(replace(WELL, **changes))
    (one,) = [each for each in found if (each.topic, each.level) == (topic, level)]
    assert words in one.suggestion
    worse = [each for each in found if each.level in ("warning", "problem")]
    assert worse == ([one] if level in ("warning", "problem") else [])
    assert all(each.suggestion for each in worse)


def _doctor(
    monkeypatch: pytest.MonkeyPatch, facts: Facts, *words: str
) -> int:  # fmt: skip
    monkeypatch.setattr("qwen3_mlx_app.doctor.facts.gather", lambda: facts)
    return main(["doctor", *words])


def test_status_and_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _doctor(monkeypatch, WELL) == 0
    assert capsys.readouterr().out.endswith("\n\nall is well\n")
    assert _doctor(monkeypatch, replace(WELL, low_power=True)) == 0
    assert capsys.readouterr().out.endswith("0 problems, 1 warning\n")
    assert _doctor(monkeypatch, replace(WELL, rosetta=True, low_power=True)) == 1
    out = capsys.readouterr().out
    assert "PROBLEM  /opt/homebrew/bin/python3 is an Intel Python under Rosetta" in out
    assert "\n         → install an arm64 Python" in out
    assert out.endswith("1 problem, 1 warning\n")


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _doctor(monkeypatch, replace(WELL, trial="X: y"), "--json") == 1
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is False
    assert set(value) == {"ok", "findings", "facts"}
    assert set(value["findings"][0]) == {"topic", "level", "text", "suggestion"}
    assert value["facts"]["machine"]["name"] == "Apple M4 Max"


# What is asked of the system.


def test_gather_here(monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(hub.models_dir() / "whole")
    broken = write_checkpoint(hub.models_dir() / "broken")
    (broken / "model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with open_book(hub.data_dir() / "memory") as book:
        claim = book.claim(5, "chat")
    found = gather(lambda: "")
    claim.close()
    assert {model.name: bool(model.error) for model in found.models} == {
        "broken": True, "whole": False,
    }  # fmt: skip
    assert [entry.what for entry in found.claims] == ["chat"]
    assert found.settings["HF_HUB_OFFLINE"] == "1"
    assert found.versions["mlx"].startswith("0.")
    assert found.metal.in_place
    assert all(place.writable and place.free_bytes > 0 for place in found.places)
    assert all(isinstance(finding, Finding) for finding in findings(found))


def test_gather_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"sysctl.proc_translated": "1", "vm.swapusage": "total = 3.00G  used = 2.50G"}
    monkeypatch.setattr(looking.sys, "platform", "darwin")
    monkeypatch.setattr(looking, "sysctl", answers.get)
    monkeypatch.setattr(looking, "this_machine", lambda: WELL.machine)
    monkeypatch.setattr(looking, "_said", lambda *words: " lowpowermode 1\n")
    found = gather(lambda: "")
    assert (found.rosetta, found.low_power, found.swap_bytes) == (True, True, 5 * 2**29)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking.os, "access", lambda path, mode: False)
    assert not looking._place("own files", tmp_path / "a" / "b").writable


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not looking._place("own files", tmp_path / "file" / "b").writable
    assert looking._place("own files", tmp_path / "b" / "c").writable


def test_folders_that_may_not_be_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tests may run as root, to whom nothing is closed: so the system's answer is changed."""
    stat = os.stat

    def closed(path: Any, *more: Any, **named: Any) -> os.stat_result:
        if not isinstance(path, int) and os.fspath(path).startswith(f"{tmp_path}/closed/"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, *more, **named)

    monkeypatch.setattr(os, "stat", closed)
    monkeypatch.setattr(looking, "ask_tiny", lambda: "")
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "closed" / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "closed" / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "closed" / "user"))
    assert main(["doctor"]) == 0
    assert f"own files in {tmp_path}/closed/home" in capsys.readouterr().out


def test_models_are_named_without_mlx(tmp_path: Path) -> None:
    """The one command that is left to whoever cannot import mlx."""
    write_checkpoint(hub.models_dir() / "mine")
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "__init__.py").touch()
    (tmp_path / "mlx" / "core.py").write_text("raise ImportError('no libmlx')")
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_mlx_app.cli", "doctor"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "PROBLEM  mlx cannot be used (ImportError: no libmlx)" in done.stdout
    assert "mine is here, not looked at for want of mlx" in done.stdout


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("used", 0), ("used = many", 0), ("total = 0.00M  used = 0.00M  free = 0.00M", 0),
     ("total = 7168,00M  used = 6500,25M", 6500 * 2**20 + 2**18), ("used = 1.5T", 3 << 39),
     ("total = 1.00G  used = 1.00K  free = 1.00G", 1024)],
)  # fmt: skip
def test_swap(text: str, size: int) -> None:
    assert swap_used(text) == size


def test_power() -> None:
    assert not low_power("")
    assert not low_power(" lowpowermode         0\n powermode            2\n")
    assert low_power(" powermode            1\n")


def test_what_metal_says_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer systems give the GPU more than the rule for named Macs."""
    assert looking._machine() == looking.this_machine()
    monkeypatch.setattr("mlx.core.metal.is_available", lambda: True)
    monkeypatch.setattr("mlx.core.device_info", lambda: LIMITS)
    assert looking._machine().usable_bytes == 48 * 2**30


def test_tiny_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looking.ask_tiny() == ""

    def fails(*_: object, **__: object) -> None:
        raise EngineError("the engine stopped")

    monkeypatch.setattr("qwen3_mlx.load", fails, raising=False)
    assert looking.ask_tiny() == "EngineError: the engine stopped"


def test_an_agent_does_not_answer_in_its_place() -> None:
    with agent(lambda call: "I am another process.") as server:
        assert looking.ask_tiny() == ""
    assert server.model.calls == []
