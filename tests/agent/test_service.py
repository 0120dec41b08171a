"""The agent as a service: the files are good, and the system is told the right words."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from hub_stand_in import Server, stand_in
from stubs import stub

from qwen3_mlx.errors import ModelNotFoundError
from qwen3_mlx_app.agent import command, service
from qwen3_mlx_app.agent.identity import Identity
from qwen3_mlx_app.cli import main

INSTALL = ["agent", "install", "-m", "tiny", "--idle", "60", "--context", "512"]
RUN = ["agent", "run", "-m", "tiny", "--idle", "60", "--context", "512"]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def test_launchd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service.sys, "platform", "darwin")
    monkeypatch.setenv("HF_HOME", "/models & more")
    told = stub(tmp_path / "bin", "launchctl")
    assert main(INSTALL) == 0
    path = tmp_path / "user" / "Library" / "LaunchAgents" / f"{service.LABEL}.plist"
    made = plistlib.loads(path.read_bytes())
    assert made["Label"] == service.LABEL == path.stem
    assert made["ProgramArguments"] == [sys.executable, "-m", "qwen3_mlx_app.cli", *RUN]
    assert made["EnvironmentVariables"]["HF_HOME"] == "/models & more"
    assert made["EnvironmentVariables"]["QWEN3_MLX_HOME"] == os.environ["QWEN3_MLX_HOME"]
    assert made["KeepAlive"] == {"SuccessfulExit": False}
    assert made["RunAtLoad"] is True
    domain = f"gui/{os.getuid()}"
    assert [call["argv"][1:] for call in told()] == [
        ["bootout", f"{domain}/{service.LABEL}"],
        ["bootstrap", domain, str(path)],
    ]
    assert main(["agent", "uninstall"]) == 0
    assert told()[-1]["argv"][1:] == ["bootout", f"{domain}/{service.LABEL}"]
    assert not path.exists()
    assert main(["agent", "uninstall"]) == 2
    assert "no agent is installed" in capsys.readouterr().err


def test_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.sys, "platform", "linux")
    told = stub(tmp_path / "bin", "systemctl")
    assert main(INSTALL) == 0
    path = tmp_path / "user" / ".config" / "systemd" / "user" / "qwen3-mlx-agent.service"
    lines = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    assert shlex.split(lines["ExecStart"]) == [sys.executable, "-m", "qwen3_mlx_app.cli", *RUN]
    assert lines["Restart"] == "on-failure"
    unit = path.name
    assert [call["argv"][1:] for call in told()] == [
        ["--user", "daemon-reload"], ["--user", "enable", unit], ["--user", "restart", unit],
    ]  # fmt: skip
    assert main(["agent", "uninstall"]) == 0
    assert told()[-1]["argv"][1:] == ["--user", "disable", "--now", unit]


def test_systemd_itself_finds_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("systemd-analyze", path=os.defpath + ":/usr/bin")
    if program is None:
        pytest.skip("there is no systemd-analyze")
    monkeypatch.setattr(service.sys, "platform", "linux")
    monkeypatch.setenv("HF_HOME", '/50% of "all" $HOME')
    unit = tmp_path / "qwen3-mlx-agent.service"
    unit.write_bytes(service.definition(RUN))
    done = subprocess.run([program, "--user", "verify", str(unit)], capture_output=True, text=True)
    about_us = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about_us == []


def test_a_system_that_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service.sys, "platform", "linux")
    assert main(INSTALL) == 2
    assert "qwen3-mlx agent run" in capsys.readouterr().err
    stub(tmp_path / "bin", "systemctl", status=1)
    assert main(INSTALL) == 2
    assert "systemctl --user daemon-reload failed" in capsys.readouterr().err


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service.sys, "platform", "darwin")
    assert main([*INSTALL, "--dry-run", "--speculate"]) == 0
    written = plistlib.loads(capsys.readouterr().out.encode())
    assert written["Label"] == service.LABEL
    assert written["ProgramArguments"][-1] == "--speculate"
    assert not (tmp_path / "user").exists()


# A model that is not here.

FAR = ["-m", "org/model"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    source = write_checkpoint(tmp_path / "source", tokenizer=True)
    with stand_in({"org/model": source}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_dry_run_downloads_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("org/model", "4b"):
        assert main(["agent", "install", "-m", model, "--dry-run"]) == 0
        out, err = capsys.readouterr()
        assert model in out
        assert f"{model} is not here: without --dry-run it is downloaded first\n" in err
    assert main(["agent", "install", "-m", "5b", "--dry-run"]) == 2
    with pytest.raises(ModelNotFoundError, match="`qwen3-mlx pull org/model` gets it"):
        Identity("org/model", {})
    assert server.requests == []
    assert not (tmp_path / "hf").exists()


def test_install_shows_the_download(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(service.sys, "platform", "linux")
    stub(tmp_path / "bin", "systemctl")
    assert main(["agent", "install", *FAR]) == 0
    out, err = capsys.readouterr()
    assert "model.safetensors is here\n" in err
    assert "org/model will be warm at every login" in out
    asked = len(server.requests)
    assert main(["agent", "install", *FAR]) == 0
    assert "is here" not in capsys.readouterr().err
    assert len(server.requests) == asked


def test_run_shows_the_download(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Identity] = []
    monkeypatch.setattr(command, "_server", lambda args, identity: kept.append(identity))
    assert main(["agent", "run", *FAR]) == 0
    assert "model.safetensors is here\n" in capsys.readouterr().err
    assert kept[0].name == "org/model"
    assert (kept[0].folder / "model.safetensors").exists()
