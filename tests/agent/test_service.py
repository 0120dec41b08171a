"""The agent as a service: the files are good, and the system is told the right words."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stubs import stub

from qwen3_mlx_app.agent import service
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
    assert main([*INSTALL, "--dry-run"]) == 0
    assert plistlib.loads(capsys.readouterr().out.encode())["Label"] == service.LABEL
    assert not (tmp_path / "user").exists()
