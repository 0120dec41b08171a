"""Loads and closes a model many times: threads and memory at the beginning and at the end.

python scripts/measure_cycles.py [CYCLES]
"""

from __future__ import annotations

import gc
import resource
import sys
import threading
import time
from pathlib import Path

import qwen3_mlx


def main() -> int:
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    warm = max(1, cycles // 10)
    threads, began, peak = 0, time.perf_counter(), 0
    for number in range(cycles):
        with qwen3_mlx.load("tiny") as model:
            model.ask("hi", max_tokens=1, thinking=False)
        if number + 1 == warm:
            del model
            gc.collect()
            threads, peak = _threads(), _peak_bytes()
    gc.collect()
    grown = _peak_bytes() - peak
    print(
        f"{cycles} cycles in {time.perf_counter() - began:.0f} s; threads {threads} after {warm}, "
        f"{_threads()} now; peak memory +{grown / 1e6:.1f} MB since"
    )
    return 1 if _threads() > threads else 0


def _threads() -> int:
    """Threads of the process; where they are not listed (macOS), those of Python."""
    listed = Path("/proc/self/task")
    return len(list(listed.iterdir())) if listed.exists() else threading.active_count()


def _peak_bytes() -> int:
    """Peak resident memory; macOS says bytes, Linux kilobytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
