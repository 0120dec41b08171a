"""The agent as a process of its own, and `ask` as one: with tiny, as people run them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_stand import agent, until, where_signal_is

import qwen3_mlx
from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Prefill, ThinkingDelta
from qwen3_mlx.testing import Answer
from qwen3_mlx.warm import link, place
from qwen3_mlx.warm.model import WarmModel
from qwen3_mlx_app.cli import main

CLI = [sys.executable, "-m", "qwen3_mlx_app.cli"]
ASK = [*CLI, "ask", "-m", "tiny", "--no-think", "--max-tokens", "8", "What is 12 + 30?"]


PATIENCE = 300.0  # seconds for a process that a slow machine still gets done


@contextmanager
def running(*before: str) -> Iterator[subprocess.Popen[bytes]]:
    """`qwen3-mlx agent run`, listening, with words before it."""
    command = [*before, *CLI, "agent", "run", "-m", "tiny"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert b"agent for tiny at" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def ask(*more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*ASK, *more], capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
    )


def test_a_warm_answer_is_the_cold_one_and_imports_nothing_heavy(
    capfd: pytest.CaptureFixture[str],
) -> None:
    cold = ask("--seed", "1")
    assert cold.returncode == 0
    with running():
        warm = ask("--seed", "1")
        assert (warm.returncode, warm.stdout, warm.stderr) == (0, cold.stdout, cold.stderr)
        assert cold.stderr.startswith(b"note: the answer was cut after ")
        assert cold.stderr.count(b"\n") == 1
        timed = subprocess.run(
            [sys.executable, "-X", "importtime", *ASK[1:]],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE,
        )  # fmt: skip
        assert main(["agent", "status", "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["served"] == 2
    imported = {line.rpartition("|")[2].strip() for line in timed.stderr.splitlines()}
    heavy = {
        "mlx", "numpy", "tokenizers", "rich", "textual", "jinja2", "huggingface_hub", "shutil",
        "dataclasses", "inspect", "typing", "pathlib", "qwen3_mlx.api", "qwen3_mlx.events",
    }  # fmt: skip
    assert "qwen3_mlx.warm.link" in imported
    assert not imported & heavy


def test_a_second_agent_says_that_there_is_one(capfd: pytest.CaptureFixture[str]) -> None:
    with running() as process:
        assert main(["agent", "run", "-m", "tiny"]) == 0
        assert f"process {process.pid}" in capfd.readouterr().err
        assert main(["agent", "run", "-m", "tiny", "--context", "64"]) == 2
        assert "qwen3-mlx agent stop" in capfd.readouterr().err


def test_a_thought_is_held_open_at_the_agent_too() -> None:
    """As docs/thinking.md says of any model that `load` returns."""
    with running(), qwen3_mlx.load("tiny") as model:
        assert isinstance(model, WarmModel)
        wishes: dict[str, Any] = {"loop_guard": False, "seed": 1, "max_tokens": 800}
        generation = model.stream("What is 12 + 30?", min_thinking=100, **wishes)
        events = iter(generation)
        assert isinstance(next(each for each in events if not isinstance(each, Prefill)),
                          ThinkingDelta)  # fmt: skip
        generation.think_more(250)
        reply = generation.result()
        assert reply.usage.thinking_tokens >= 250
        assert reply.finish_reason == "stop"
        with pytest.raises(OptionError, match="no thought"):
            model.stream("1 + 1 =", raw=True, max_tokens=1).think_more(3)
        assert model._local is None


def test_killed_clients_leave_nothing_behind() -> None:
    with running() as process:
        for _ in range(3):
            client = subprocess.Popen(
                [*CLI, "ask", "-m", "tiny", "count", "--max-tokens", "2000"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert client.stdout is not None
            client.stdout.read(1)
            client.send_signal(signal.SIGKILL)
            client.communicate()
        assert ask().returncode == 0
        facts = _facts()
        assert (facts["pid"], facts["running"]) == (process.pid, 0)


def test_terminated_it_leaves_in_order_and_killed_it_is_replaced() -> None:
    with running() as process:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert not os.path.exists(place.socket_path())
    with running() as process:
        process.kill()
        process.wait(PATIENCE)
        assert os.path.exists(place.socket_path())
        assert ask().returncode == 0  # here, since nobody answers
    with running():
        assert ask().returncode == 0
        assert main(["agent", "stop"]) == 0
        assert main(["agent", "stop"]) == 1


def test_an_upgrade_restarts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the package is upgraded under a running agent."""
    import shutil

    import qwen3_mlx_app

    for package in (qwen3_mlx, qwen3_mlx_app):
        folder = Path(str(package.__file__)).parent
        shutil.copytree(folder, tmp_path / "lib" / folder.name)
    client = tmp_path / "lib" / "qwen3_mlx" / "warm" / "link.py"
    text = client.read_text()
    patient = text.replace("_RESTART_SECONDS = 10.0", f"_RESTART_SECONDS = {PATIENCE}")
    assert patient != text
    client.write_text(patient)
    monkeypatch.chdir(tmp_path)  # `python -m` looks into the working folder first
    monkeypatch.setenv(
        "PYTHONPATH", f"{tmp_path / 'lib'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    with running() as process:
        assert ask().returncode == 0
        before = _facts()
        version = tmp_path / "lib" / "qwen3_mlx" / "version.py"
        version.write_text('"""New."""\n\n__version__ = "99.0"\n')
        warm = ask()
        assert warm.returncode == 0
        assert warm.stderr.startswith(b"note: the answer was cut after ")
        assert warm.stderr.count(b"\n") == 1
        after = subprocess.run(
            [*CLI, "agent", "status", "--json"], capture_output=True, timeout=PATIENCE
        )
        facts = json.loads(after.stdout)
        assert (before["version"], facts["version"]) == (qwen3_mlx.__version__, "99.0")
        assert facts["pid"] == process.pid  # the same process, so launchd does not notice
        assert facts["served"] == 1


def test_a_hang_up_that_nohup_ignores_does_not_end_it() -> None:
    with running(*where_signal_is(signal.SIG_IGN, signal.SIGHUP)) as process:
        process.send_signal(signal.SIGHUP)
        assert ask().returncode == 0
        assert _status()["served"] == 1


def test_an_agent_that_does_not_answer_yet_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with open(os.path.join(place.make_folder(), "agent.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["agent", "run", "-m", "tiny"]) == 2
    assert "running already, and is just starting or ending" in capsys.readouterr().err


def test_interrupted_ask_prints_what_was_said() -> None:
    with agent([Answer("a b c", pause_after=2)]) as server:
        process = subprocess.Popen(
            ASK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.read(3) == b"a b"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == (b"\n", b"")
        assert process.returncode == 130
        until(lambda: server.facts()["running"] == 0)


def _facts() -> dict[str, Any]:
    """What the agent says of itself, when nothing runs any more."""
    until(lambda: _status()["running"] == 0)
    return _status()


def _status() -> dict[str, Any]:
    answer = link.tell({"do": "status"})
    assert answer is not None
    status: dict[str, Any] = answer["status"]
    return status
