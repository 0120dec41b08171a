"""Kills `ask --jsonl --resume` again and again, and counts what is answered.

    python scripts/check_resume.py --inputs 2000 --kills 10 --compare

A warm agent with tiny answers. Every input must have one line, in order; with --compare, the same
text as in a run that nobody killed, which is made afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = [sys.executable, "-m", "qwen3_mlx_app.cli"]
ASK = [*CLI, "ask", "-m", "tiny", "--no-think", "--max-tokens", "6", "--seed", "1", "--jsonl", "-q",
       "--parallel", "8", "--resume"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--compare", action="store_true", help="with a run that nobody kills")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["QWEN3_MLX_HOME"] = scratch
        agent = subprocess.Popen([*CLI, "agent", "run", "-m", "tiny"], stderr=subprocess.PIPE)
        try:
            assert agent.stderr is not None
            agent.stderr.readline()
            texts = check(Path(scratch), args.inputs, args.kills)
            if args.compare:
                compare(Path(scratch), texts)
        finally:
            agent.terminate()
            agent.communicate()


def check(folder: Path, inputs: int, kills: int) -> list[str]:
    questions, out = folder / "in.txt", folder / "out.jsonl"
    questions.write_text("".join(f"What is {n} + 1?\n" for n in range(inputs)))
    draw, torn, killed_at = random.Random(1), 0, []
    for goal in [*sorted(draw.sample(range(1, inputs), kills)), None]:
        with questions.open("rb") as stdin:
            process = subprocess.Popen([*ASK, str(out)], stdin=stdin)
        while process.poll() is None and (goal is None or lines(out) < goal):
            time.sleep(0.001 if goal else 0.1)
        if process.poll() is None:
            process.kill()
            process.wait()
            killed_at.append(lines(out))
            if draw.random() < 0.5 and out.read_bytes().endswith(b"\n"):
                # A machine that fell over would tear the line being written.
                with out.open("ab") as file:
                    file.write(b'{"n": %d, "key": "to' % (lines(out) + 1))
                torn += 1
        if process.wait() not in (0, -signal.SIGKILL):
            raise SystemExit("a run failed")
    told = [json.loads(line) for line in out.read_text().splitlines()]
    in_order = [each["n"] for each in told] == [*range(1, inputs + 1)]
    whole = all(each.get("text") is not None for each in told)
    print(f"killed at lines {killed_at}, {torn} lines torn on top")
    print(f"{len(told)} lines for {inputs} inputs, in order: {in_order}, all answered: {whole}")
    if len(told) != inputs or not (in_order and whole):
        raise SystemExit(1)
    return [each["text"] for each in told]


def compare(folder: Path, texts: list[str]) -> None:
    """Answer the same questions undisturbed: each text must be the same."""
    out = folder / "undisturbed.jsonl"
    with (folder / "in.txt").open("rb") as stdin:
        subprocess.run([*ASK, str(out)], stdin=stdin, check=True)
    alone = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    differing = sum(one != two for one, two in zip(texts, alone, strict=True))
    print(f"{differing} texts differ from those of a run that nobody killed")
    if differing:
        raise SystemExit(1)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main()
