"""Times whole processes: Python alone, `import qwen3_mlx`, and a cold `ask` beside mlx-lm.

    python scripts/measure_startup.py [MODEL] [--rounds N]

MODEL is a name or folder as for `ask`. Each round runs every command once, so that a busy
machine slows all of them; the processor's time is told beside the clock's for the same reason.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from gains import Gain

from qwen3_mlx import hub
from qwen3_mlx_app.bench.peer import cold_command as their_command
from qwen3_mlx_app.bench.sides import cold_command as our_command


class Seconds(NamedTuple):
    """What a process took by the clock, and of the processor."""

    clock: float
    cpu: float


def run(command: list[str], *, empty_cache: bool) -> Seconds:
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {"QWEN3_MLX_HOME": scratch}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if empty_cache:
            environment["TMPDIR"] = scratch
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")
        return Seconds(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = hub.resolve(args.model)
    commands = {
        "python": ([sys.executable, "-c", "pass"], False),
        "import qwen3_mlx": ([sys.executable, "-c", "import qwen3_mlx"], False),
        "import, load named": ([sys.executable, "-c", "from qwen3_mlx import load"], False),
        "ask": (our_command(folder), False),
        "mlx-lm": (their_command(folder), False),
        "ask, empty cache": (our_command(folder), True),
        "mlx-lm, empty cache": (their_command(folder), True),
    }
    taken: dict[str, list[Seconds]] = {name: [] for name in commands}
    for number in range(args.rounds + 1):
        for name, (command, empty) in commands.items():
            seconds = run(command, empty_cache=empty)
            if number:  # the first round fills the caches of files and of compiled Python
                taken[name].append(seconds)
    for kind in Seconds._fields:
        tell(kind, {name: [getattr(each, kind) for each in taken[name]] for name in taken})


def tell(kind: str, taken: dict[str, list[float]]) -> None:
    median = {name: statistics.median(values) for name, values in taken.items()}
    print(f"{kind}: " + ", ".join(f"{name} {value:.3f} s" for name, value in median.items()))
    for name in ("import qwen3_mlx", "import, load named"):
        print(f"  {name}, over bare Python: {median[name] - median['python']:.3f} s")
    for ours, theirs in (("ask", "mlx-lm"), ("ask, empty cache", "mlx-lm, empty cache")):
        pairs = zip(taken[ours], taken[theirs], strict=True)
        gain = Gain.of(f"cold {ours}, one token", (other / mine for mine, other in pairs))
        print(f"  {ours}: {gain}")
        if kind == "clock":
            gain.keep()


if __name__ == "__main__":
    main()
