"""The runs of docs/experts.md at a fiftieth of their size: memory stays inside the plan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx_app.cli import main

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("big") / "model"
    script("make_synthetic_moe.py", str(target), "--shape", "small")
    return target


def script(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_memory_stays_inside_the_plan_and_tokens_do_not_depend_on_it(folder: Path) -> None:
    runs: list[dict[str, Any]] = [
        json.loads(script("run_under_limit.py", str(folder), "--tokens", "5", *limit))
        for limit in (
            ["--memory-limit", "80MB"],
            ["--memory-limit", "160MB", "--ulimit"],
        )
    ]
    for run in runs:
        assert run["plan_bytes"] <= run["limit"]
        assert run["vm_hwm_bytes"] <= 1.05 * run["plan_bytes"] + 64e6
        assert run["mlx_peak_bytes"] <= run["plan_bytes"]
        assert run["read_amplification"] == 1.0
    assert runs[0]["slots"] != runs[1]["slots"]
    assert runs[0]["logits_sha256"] == runs[1]["logits_sha256"]


def test_bench_experts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "t.trace"
    arguments = ["-m", str(folder), "--slots", "16", "--dtype", "float32", "--tokens", "3"]
    arguments += ["--rounds", "2", "--prompt", "4", "--trace-out", str(trace), "--json"]
    assert main(["bench", "experts", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identical"] is True
    assert found["resident"]["cpu_ms_per_token"] > 0
    assert {
        "cpu_ms_per_token", "hit_rate", "misses_per_token", "read_amplification",
        "syncs_per_token", "peak_bytes", "plan_bytes",
    } <= set(found["streamed"])  # fmt: skip
    assert found["streamed"]["syncs_per_token"] == 12
    assert "cpu_ms_per_miss" in found
    assert main(["bench", "experts", "--replay", str(trace)]) == 0
    assert "belady" in capsys.readouterr().out


def test_bench_experts_refuses(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["bench", "experts", "-m", str(folder)]) == 2
    assert "--memory-limit 10GB, or --slots 16" in capsys.readouterr().err
    for flag in ("--tokens", "--rounds", "--prompt"):
        assert main(["bench", "experts", "-m", str(folder), "--slots", "16", flag, "0"]) == 2
        assert "at least" in capsys.readouterr().err
    assert main(["bench", "experts", "-m", str(folder), "--memory-limit", "1MB"]) == 2
    assert "pass --memory-limit" in capsys.readouterr().err
    assert main(["fit", str(folder), "--memory-limit", "1MB"]) == 2
    capsys.readouterr()
