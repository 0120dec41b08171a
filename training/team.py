"""Sums over the processes of one training run, started by torchrun; alone, nothing is added.

Two processes with a thread each beat one process with two threads on a busy CPU: they do not spin
at every matrix product while they wait for each other.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


def join() -> None:
    """Meet the other processes when torchrun has started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")


def size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; number 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def add_up(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange."""
    if size() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
