"""Does a model fit a machine, and how fast will it be? Arithmetic on sizes; nothing is read.

    seconds a token = bytes read / (0.75 x bandwidth) + layers x overhead + misses / disk

Every weight that a token passes through, and every key and value so far, is read once a token,
and on a Mac that is what takes the time. 0.75 of the published bandwidth is what a dense 4-bit
model reaches (Gemma 3 27B, 15.4 GB, at 13.2 tokens/s on an M4 Pro's 273 GB/s); the overhead of a
layer with experts is what Qwen3-30B-A3B at 70.6 tokens/s on the same Mac leaves over
(github.com/AlexsJones/llmfit, pull request 812). A layer whose experts come from disk waits for
its router, too; with 0.4 ms, 30B-A3B on Macs of 16 GB lands among the 14 to 23 tokens/s that
other streaming programs report. They are predictions, to within a third or so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal, TypeAlias

from qwen3_mlx.errors import MemoryPlanError
from qwen3_mlx.machines import Machine
from qwen3_mlx.memory import Plan, Sizes, make_plan
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import mlx_shapes

__all__ = [
    "EFFICIENCY",
    "OUTSIDE_BYTES",
    "Fit",
    "Speed",
    "Verdict",
    "fit",
    "hit_rate",
    "sizes_from_config",
    "verdict",
]

Verdict: TypeAlias = Literal["fits", "tight", "streams experts", "too big"]

#: Python, its libraries and Metal's own, which no plan holds.
OUTSIDE_BYTES = 200_000_000
#: Up to this share of what may be used, other programs have room too.
EASY = 0.85
EFFICIENCY = 0.75
DENSE_LAYER_SECONDS = 40e-6
EXPERT_LAYER_SECONDS = 110e-6
STREAMED_LAYER_SECONDS = 400e-6
#: Share of the experts in memory, and how often a wanted one is among them: Qwen3-235B with
#: the least recently used leaving, as another project traced it (docs/models.md).
_HITS = ((0.0, 0.0), (0.12, 0.58), (0.2, 0.74), (0.3, 0.84), (0.45, 0.93), (0.64, 0.97), (1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Speed:
    """Predicted decoding.

    Args:
        read_bytes: from memory for a token, without keys and values.
        layer_seconds: overhead of all layers, a token.
        disk_bytes: experts that are read from disk for a token.
        at_start: tokens a second with an empty context.
        at_end: tokens a second with a full one.
    """

    read_bytes: int
    layer_seconds: float
    disk_bytes: int
    at_start: float
    at_end: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The verdict and what it comes from.

    `needed_bytes` is for everything in memory; `plan` is what would be done, with experts on
    disk where that is the verdict. `other_bytes` is planned by other programs of this machine.
    """

    verdict: Verdict
    needed_bytes: int
    usable_bytes: int
    other_bytes: int
    plan: Plan
    speed: Speed | None


def fit(
    config: ModelConfig,
    sizes: Sizes,
    machine: Machine,
    context: int,
    *,
    other_bytes: int = 0,
    disk: float | None = None,
) -> Fit:
    """Hold a model against a machine.

    Args:
        config: the model.
        sizes: its bytes.
        machine: where it would run.
        context: tokens that the KV cache must hold.
        other_bytes: what other programs have planned there.
        disk: bytes a second from its disk, if that was measured.
    """
    whole = make_plan(config, sizes, None, context)
    needed = whole.total_bytes + OUTSIDE_BYTES
    usable = machine.usable_bytes - other_bytes
    judged, plan = verdict(needed, usable), whole
    if judged == "too big" and sizes.slot_bytes:
        try:
            limit = max(usable - OUTSIDE_BYTES, 1)
            plan = make_plan(config, sizes, limit, context, prefix=None)  # as `load` makes it
            judged = "streams experts"
        except MemoryPlanError:
            pass
    speed = None
    if judged != "too big" and machine.bandwidth is not None:
        speed = _speed(config, sizes, plan, machine.bandwidth, disk or machine.disk)
    return Fit(judged, needed, usable, other_bytes, plan, speed)


def sizes_from_config(config: ModelConfig) -> Sizes:
    """What an MLX folder of this config takes in memory on a Mac; floats are of 2 bytes."""
    shapes = mlx_shapes(config)
    sizes = {}
    for name, shape in shapes.items():
        packed = f"{name.removesuffix('.weight')}.scales" in shapes and name.endswith(".weight")
        sizes[name] = prod(shape) * (4 if packed else 2)
    experts = {name: size for name, size in sizes.items() if ".switch_mlp." in name}
    slots: dict[int, int] = {}
    for name, size in experts.items():
        layer = int(name.split(".")[2])
        slots[layer] = slots.get(layer, 0) + size // config.experts
    trunk = {name: size for name, size in sizes.items() if name not in experts}
    embedding = sum(size for name, size in trunk.items() if name.startswith("model.embed_tokens."))
    return Sizes(
        trunk_bytes=sum(trunk.values()),
        largest_tensor_bytes=max(trunk.values()),
        slot_bytes=slots,
        itemsize=2,
        embedding_bytes=0 if config.tied else embedding,
    )


def verdict(needed: int, usable: int) -> Verdict:
    """One of "fits", "tight" and "too big", for a model that is wholly in memory.

    >>> [verdict(size, 100) for size in (85, 100, 101)]
    ['fits', 'tight', 'too big']
    """
    if needed <= EASY * usable:
        return "fits"
    return "tight" if needed <= usable else "too big"


def hit_rate(resident: float) -> float:
    """How often a wanted expert is in memory, if this share of all of them is.

    >>> hit_rate(0.2), round(hit_rate(0.25), 2), hit_rate(1.0)
    (0.74, 0.79, 1.0)
    """
    for (share, rate), (more, higher) in pairwise(_HITS):
        if resident < more:
            return rate + (higher - rate) * (resident - share) / (more - share)
    return _HITS[-1][1]


def _speed(
    config: ModelConfig, sizes: Sizes, plan: Plan, bandwidth: float, disk: float
) -> Speed:  # fmt: skip
    experts = sum(size * config.top_k for size in sizes.slot_bytes.values())
    read = sizes.trunk_bytes - sizes.embedding_bytes + experts
    whole, sparse = plan.whole_layers, len(sizes.slot_bytes)
    layers = (config.layers - sparse) * DENSE_LAYER_SECONDS + whole * EXPERT_LAYER_SECONDS
    layers += (sparse - whole) * STREAMED_LAYER_SECONDS
    missed = round(experts * (1 - hit_rate(plan.resident_fraction)))

    def rate(tokens: int) -> float:
        moved = read + tokens * config.kv_bytes_per_token(sizes.itemsize)
        return 1 / (moved / (EFFICIENCY * bandwidth) + layers + missed / disk)

    return Speed(read, layers, missed, rate(0), rate(plan.context))
