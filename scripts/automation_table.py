"""What each recipe of docs/automation.md costs with tiny: time and memory, cold and warm.

    python scripts/automation_table.py            # a Markdown table

Time is the whole process's, the median of a few runs; memory is the largest resident set of the
process that was started (warm, the model is in the agent's).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = [sys.executable, "-m", "qwen3_mlx_app.cli"]
EXAMPLES = Path(__file__).parents[1] / "examples"
MAIL = "From: a@b.example\nSubject: Invoice 7\nContent-Type: text/plain\n\nPlease pay.\n"


def recipes(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Name, command and standard input of each recipe; `folder` holds what they read."""
    (folder / "notes").mkdir()
    for name in ("one.txt", "two.txt"):
        (folder / "notes" / name).write_text("hello")
    (folder / "mail.eml").write_text(MAIL)
    ask = [*CLI, "ask", "-m", "tiny", "--no-think", "--seed", "1"]
    example = [sys.executable, "-c", "import runpy, sys; sys.argv = sys.argv[1:]; "
               "runpy.run_path(sys.argv[0], run_name='__main__')"]  # fmt: skip
    return {
        "`ask`, one question": ([*ask, "What is 12 + 30?"], ""),
        "`ask --jsonl`, 20 lines": (
            [*ask, "--jsonl", "-q"],
            "".join(f"What is {n} + 1?\n" for n in range(20)),
        ),
        "`summarise_folder.py`, 2 files": (
            [*example, str(EXAMPLES / "summarise_folder.py"), str(folder / "notes")], "",
        ),
        "`triage_mail.py`, 1 mail": (
            [*example, str(EXAMPLES / "triage_mail.py"), str(folder / "mail.eml")], "",
        ),
        "`reminders_notes.py`, dry run": (
            [*example, str(EXAMPLES / "reminders_notes.py"), "reminder"], "Call Anna",
        ),
    }  # fmt: skip


def run(command: list[str], stdin: str) -> tuple[float, float]:
    """Seconds, and megabytes of memory."""
    with tempfile.TemporaryFile() as source:
        source.write(stdin.encode())
        source.seek(0)
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes there, KiB here
    return time.perf_counter() - began, usage.ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["QWEN3_MLX_HOME"] = scratch
        agent = subprocess.Popen([*CLI, "agent", "run", "-m", "tiny"], stderr=subprocess.PIPE)
        try:
            assert agent.stderr is not None
            agent.stderr.readline()
            table(recipes(Path(scratch)), args.rounds)
        finally:
            agent.terminate()
            agent.communicate()


def table(commands: dict[str, tuple[list[str], str]], rounds: int) -> None:
    print("| recipe | cold | memory | warm | memory |\n| --- | --- | --- | --- | --- |")
    for name, (command, stdin) in commands.items():
        cells = []
        for switch in ("0", "1"):
            os.environ["QWEN3_MLX_AGENT"] = switch
            taken = [run(command, stdin) for _ in range(rounds + 1)][1:]
            cells.append(f"{statistics.median(each[0] for each in taken):.2f} s")
            cells.append(f"{max(each[1] for each in taken):.0f} MB")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
