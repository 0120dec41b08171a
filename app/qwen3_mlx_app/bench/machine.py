"""The machine a measurement was made on, and what its memory can deliver at most."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import mlx.core as mx

from qwen3_mlx.machines import sysctl
from qwen3_mlx.model.moe import MoE
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.version import __version__

__all__ = ["bytes_per_token", "describe"]


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
        return sysctl("machdep.cpu.brand_string")
    return str(mx.device_info().get("device_name", platform.machine()))
