"""Times whole processes of `ask`, warm through an agent and cold, over bare Python; and faults.

    python scripts/measure_agent.py [MODEL] [--tokens 8] [--rounds 10]
    python scripts/measure_agent.py --storm 1000       # requests, 64 at once, some killed

MODEL is a name or folder as for `ask`; `scripts/random_model.py 0.6b FOLDER` makes one of the
0.6B shape. Each round runs every command once, so that a busy machine slows all of them; the
client's processor time is told beside the clock's for the same reason.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qwen3_mlx.warm import link

CLI = [sys.executable, "-m", "qwen3_mlx_app.cli"]


@contextmanager
def agent(model: str) -> Iterator[None]:
    process = subprocess.Popen([*CLI, "agent", "run", "-m", model], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        process.stderr.readline()
        yield
    finally:
        process.terminate()
        process.communicate()


def status() -> dict[str, Any]:
    """What the agent says of itself."""
    facts: dict[str, Any] = (link.tell({"do": "status"}) or {})["status"]
    return facts


def run(command: list[str], *, warm: bool = True) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    environment = os.environ | {"QWEN3_MLX_AGENT": "1" if warm else "0"}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def measure(model: str, tokens: int, rounds: int) -> None:
    ask = [*CLI, "ask", "-m", model, "--no-think", "--max-tokens", str(tokens), "What is 12 + 30?"]
    commands = {"python": [sys.executable, "-c", "pass"], "warm": ask, "cold": ask}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with agent(model):
        for number in range(rounds + 1):
            for name, command in commands.items():
                seconds = run(command, warm=name != "cold")
                if number:  # the first round loads the model and fills caches
                    taken[name].append(seconds)
        facts = status()
    for kind, which in (("clock", 0), ("processor", 1)):
        median = {name: statistics.median(each[which] for each in taken[name]) for name in taken}
        least = {name: min(each[which] for each in taken[name]) for name in taken}
        figures = ", ".join(f"{n} {median[n]:.3f} s (least {least[n]:.3f})" for n in taken)
        print(f"{kind}: {figures}")
        over = least["warm"] - least["python"]
        print(f"  warm over bare Python, least: {over:.3f} s; cold / warm: ", end="")
        print(f"{median['cold'] / median['warm']:.1f}")
    print(f"answers given by the agent: {facts['served']} of {rounds + 1}")


def storm(model: str, requests: int) -> None:
    """Many requests, 64 at once, every tenth of which goes away at its first event."""
    answered, left, lock = 0, 0, threading.Lock()
    numbers = iter(range(requests))

    def client() -> None:
        nonlocal answered, left
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            stream = link.ask(model, {}, f"What is {number} + 1?", {"max_tokens": 4, "seed": 1})
            assert stream is not None
            if number % 10 == 9:
                stream.close()
                with lock:
                    left += 1
                continue
            events = list(stream)
            with lock:
                answered += events[-1]["event"] == "Done"

    with agent(model):
        threads = [threading.Thread(target=client) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until = time.monotonic() + 60
        while (facts := status())["running"] and time.monotonic() < until:
            time.sleep(0.1)  # it may still hear of those that left
    print(f"{requests} requests: {answered} answered, {left} left early; agent: {facts}")
    if answered + left != requests or facts["served"] != requests or facts["running"]:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--storm", type=int, metavar="N", help="N requests instead of times")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["QWEN3_MLX_HOME"] = scratch
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        if args.storm:
            storm(args.model, args.storm)
        else:
            measure(args.model, args.tokens, args.rounds)


if __name__ == "__main__":
    main()
