"""Kills a conversion, runs it again and compares: a program for the tests and for long trials.

    python -m tests.convert.kills SOURCE WORK                 at every named step, each time
    python -m tests.convert.kills SOURCE WORK --ends          where each name comes first and last
    python -m tests.convert.kills SOURCE WORK --random 30     at random instants
    python -m tests.convert.kills SOURCE WORK --random 30 --seconds 10
                                                              of a run that is made to last 10 s

`--calibrate FILE` calibrates on a text, `--layout records` writes records. Each run is a child
forked before MLX has done anything, so a run costs no imports. Prints one JSON object: how many
kills, how many of them struck before the end, the seconds of a whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx_convert import convert, durable, pipeline
from qwen3_mlx_convert.verify import verify


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--ends", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint-seconds", type=float, default=pipeline.CHECKPOINT_SECONDS)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--calibrate")
    parser.add_argument("--layout", default="stacked")
    args = parser.parse_args()
    _Run.calibrate, _Run.layout = args.calibrate, args.layout
    pipeline.CHECKPOINT_SECONDS = args.checkpoint_seconds
    args.work.mkdir(exist_ok=True)
    whole, out = args.work / "whole", args.work / "out"
    if args.seconds:
        tensors = len(open_checkpoint(args.source).tensors)
        _Run.pause = args.seconds / tensors
    begun = time.monotonic()
    steps = _steps(args.source, whole, args.work / "steps")
    seconds = time.monotonic() - begun
    struck = 0
    if args.random:
        chance = random.Random(args.seed)
        kills = args.random
        for _ in range(kills):
            struck += _killed(_later(chance.uniform(0, seconds)), args.source, out)
            _rerun_and_compare(args.source, out, whole)
    else:
        places = _ends(steps) if args.ends else range(len(steps))
        kills = len(places)
        for step in places:
            struck += _killed(partial(_at_step, step), args.source, out)
            _rerun_and_compare(args.source, out, whole)
    print(json.dumps({"kills": kills, "struck": struck, "seconds": round(seconds, 1)}))


class _Run:
    """How every conversion is run."""

    pause = 0.0  # seconds after each tensor
    calibrate: str | None = None
    layout = "stacked"

    @classmethod
    def convert(cls, source: Path, target: Path) -> None:
        convert(source, target, bits=4, calibrate=cls.calibrate, layout=cls.layout,
                progress=lambda _: time.sleep(cls.pause))  # fmt: skip


def _child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def _ends(steps: list[str]) -> list[int]:
    """Where each name comes first and last."""
    last = {name: place for place, name in enumerate(steps)}
    first = {name: place for place, name in reversed(list(enumerate(steps)))}
    return sorted({*first.values(), *last.values()})


def _steps(source: Path, target: Path, tape: Path) -> list[str]:
    """The named steps of an undisturbed run."""

    def work() -> None:
        seen: list[str] = []
        durable.on_step = seen.append
        _Run.convert(source, target)
        tape.write_text("\n".join(seen))

    assert _child(work) == 0, "the undisturbed run failed"
    return tape.read_text().splitlines()


def _at_step(wanted: int) -> None:
    left = [wanted]

    def kill(_: str) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    durable.on_step = kill


def _later(seconds: float) -> Callable[[], None]:
    """A kill from outside, at a clock's time and not at a step."""

    def arm() -> None:
        victim = os.getpid()
        if os.fork() == 0:
            time.sleep(seconds)
            if os.getppid() == victim:  # not if the run has ended before
                os.kill(victim, signal.SIGKILL)
            os._exit(0)

    return arm


def _killed(arm: Callable[[], None], source: Path, out: Path) -> bool:
    def work() -> None:
        arm()
        _Run.convert(source, out)

    status = _child(work)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def _rerun_and_compare(source: Path, out: Path, whole: Path) -> None:
    left = {path.name for path in out.parent.iterdir()}
    if ".out.journal" in left or not out.exists():
        assert _child(lambda: _Run.convert(source, out)) == 0, f"rerun failed: {left}"
    left = {path.name for path in out.parent.iterdir()}
    assert left == {"whole", "out", "steps"}, left
    names = [sorted(path.relative_to(each) for path in each.rglob("*")) for each in (out, whole)]
    assert names[0] == names[1]
    for name in names[1]:
        if (whole / name).is_file():
            assert (whole / name).read_bytes() == (out / name).read_bytes(), name
    verify(out)
    shutil.rmtree(out)


if __name__ == "__main__":
    main()
