"""`qwen3-mlx serve`: what it refuses, what it says, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from agent_stand import where_signal_is
from server_stand import CHAT, PATIENCE, hi

from qwen3_mlx_app.cli import main
from qwen3_mlx_app.server.command import _origin, names_of

SERVE = ["serve", "-m", "tiny", "--port", "0"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "QWEN3_MLX_SERVE_KEY"),
        (["--host", "192.0.2.1", "--key", ""], "a key is"),
        (["--key", "two words"], "a key is"),
        (["--key", "schlüssel"], "a key is"),
        (["--parallel", "0"], "--parallel is 0"),
        (["--allow-origin", "*"], "must be one site"),
        (["--allow-origin", "localhost:3000"], "must be one site"),
        (["--port", "99999"], "choose another --port"),
        (["--host", "192.0.2.1", "--key", "sesame"], "cannot be used"),
        (["--memory-limit", "1MB"], "a limit of 1.0 MB is too small"),
        (["-m", "no-such-model"], "no-such-model"),
    ],
)
def test_what_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SERVE, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *before, last = err.splitlines()
    assert last.startswith("qwen3-mlx: ")
    assert says in last
    assert all("loading" in line for line in before)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([*SERVE[:3], "--port", str(port)]) == 2
    assert str(port) in capsys.readouterr().err


def test_a_site_is_known_without_its_slash() -> None:
    assert _origin("http://LocalHost:3000/") == "http://localhost:3000"


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert names_of("tiny")[0] == "tiny"
    assert names_of("./mine") == ["mine", "./mine", str(tmp_path / "mine")]
    assert names_of("qwen3-30b-a3b")[0] == "qwen3-30b-a3b"
    assert "Qwen/Qwen3-30B-A3B" in names_of("qwen3-30b-a3b")
    assert names_of("org/some-model") == ["org/some-model", "some-model"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "qwen3_mlx_app.cli", *SERVE]
    heard = where_signal_is(signal.SIG_DFL, signal.SIGINT)
    process = subprocess.Popen(
        [*heard, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "QWEN3_MLX_SERVE_KEY": "sesame"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:(\d+)/v1 serves tiny: .*\^C", line)
        assert found, line
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=PATIENCE)
        key = {"Authorization": "Bearer sesame"}
        connection.request("POST", CHAT, json.dumps(hi("What is 12 + 30?")), key)
        assert connection.getresponse().read()  # and the connection stays open
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        connection.close()
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "What is" not in err
    assert f"POST {CHAT} 200" in err
