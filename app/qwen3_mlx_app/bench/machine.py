"""The machine a measurement was made on, and what its memory can deliver at most."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

import mlx.core as mx

from qwen3_mlx.model.moe import MoE
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.version import __version__

__all__ = ["bandwidth", "bytes_per_token", "describe"]

# Memory bandwidth in GB/s as Apple publishes it. Of chips that are sold in two versions
# under one name the faster is listed, so that the roofline stays an upper bound.
_BANDWIDTHS = {
    "Apple M1": 68.25, "Apple M1 Pro": 200, "Apple M1 Max": 400, "Apple M1 Ultra": 800,
    "Apple M2": 100, "Apple M2 Pro": 200, "Apple M2 Max": 400, "Apple M2 Ultra": 800,
    "Apple M3": 100, "Apple M3 Pro": 150, "Apple M3 Max": 400, "Apple M3 Ultra": 819,
    "Apple M4": 120, "Apple M4 Pro": 273, "Apple M4 Max": 546,
    "Apple M5": 153,
}  # fmt: skip


def describe() -> dict[str, Any]:
    """Chip, memory, system and versions."""
    return {
        "chip": _chip(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.mac_ver()[0] or platform.release()}",
        "backend": "Metal" if mx.metal.is_available() else "CPU",
        "python": platform.python_version(),
        "mlx": metadata.version("mlx"),
        "mlx-lm": metadata.version("mlx-lm"),
        "qwen3-mlx": __version__,
    }


def bandwidth(chip: str) -> float | None:
    """Published memory bandwidth in bytes a second; None where it is not known.

    >>> bandwidth("Apple M4 Pro")
    273000000000.0
    """
    known = _BANDWIDTHS.get(chip)
    return None if known is None else known * 1e9


def bytes_per_token(model: Qwen3Model, context: int) -> int:
    """Bytes that one decode step must read: weights in use, and keys and values so far.

    Of the embedding one row is read, which is nothing, unless it is the head as well. Of an
    MoE layer the chosen experts are read.
    """
    read = sum(array.nbytes for array in model.head.arrays()) + model.final_norm.nbytes
    for block in model.blocks:
        read += sum(array.nbytes for array in block.arrays())
        if isinstance(block.mlp, MoE):
            experts = sum(array.nbytes for array in block.mlp.experts.arrays())
            read -= experts - experts * block.mlp.top_k // model.config.experts
    return read + model.config.kv_bytes_per_token(model.dtype.size) * context


def _chip() -> str:
    if sys.platform == "darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return str(mx.device_info().get("device_name", platform.machine()))
