"""The memory plan: bytes in, verdict out. Nothing is read and MLX is not imported.

    trunk       all weights but the experts, in the type in which they are computed
    KV cache    for the whole context, rounded up to the cache's step
    prefixes    texts that were read before, for those that begin like them
    workspace   activations of one prefill chunk and of the logits
    scratch     a small bank of experts that all layers share
    slots       what is left of the limit, in experts

A plan is made before the first weight is read and refused if the limit is too small, with the
smallest limit that works. What is not in the plan is Python and its libraries, about 60 MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.checkpoint import short
from qwen3_mlx.errors import MemoryPlanError, OptionError
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.tiles import tile_length

__all__ = [
    "Plan", "Sizes", "chunk_at", "chunks", "make_plan", "parse_bytes", "round_up",
    "workspace_bytes",
]  # fmt: skip

#: Prefill chunks that a plan may choose, tokens.
_CHUNKS = (2048, 1024, 512, 256, 128, 64, 32, 16)
#: A chunk has so many pairs of a token and one that it looks back at, or is a shortest chunk:
#: long attention in one launch is what the GPU's watchdog ends.
_PAIRS = 1 << 23
#: Tokens by which the KV cache grows.
_KV_STEP = 256
#: At most so much of the limit goes to the workspace of a chunk longer than the shortest.
_WORKSPACE_SHARE = 0.1
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a model needs, known from its headers.

    Args:
        trunk_bytes: all weights but experts, in memory.
        largest_tensor_bytes: the largest of them, which loading may hold twice.
        slot_bytes: one expert in memory, by MoE layer.
        itemsize: bytes of one activation.
        fused_attention: whether scores are never stored (Metal, heads of 64, 80 or 128), or are.
        gathers_plain: whether plain experts are gathered row by row (CPU, not float32).
        embedding_bytes: of an embedding that is not the head as well: a token reads one row.
    """

    trunk_bytes: int
    largest_tensor_bytes: int
    slot_bytes: Mapping[int, int]
    itemsize: int
    fused_attention: bool = True
    gathers_plain: bool = False
    embedding_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the bytes go. `slots` and `slot_bytes` are by MoE layer."""

    limit: int
    context: int
    chunk: int
    trunk_bytes: int
    kv_bytes: int
    prefix_bytes: int
    workspace_bytes: int
    scratch: int
    scratch_bytes: int
    slots: Mapping[int, int]
    slot_bytes: Mapping[int, int]
    experts: int

    @property
    def slots_bytes(self) -> int:
        """Bytes of all slots together."""
        return sum(count * self.slot_bytes[layer] for layer, count in self.slots.items())

    @property
    def total_bytes(self) -> int:
        """What the model will hold at its peak."""
        return (
            self.trunk_bytes + self.kv_bytes + self.prefix_bytes + self.workspace_bytes
            + self.scratch_bytes + self.slots_bytes
        )  # fmt: skip

    @property
    def resident_fraction(self) -> float:
        """The share of the experts that has a slot."""
        every = self.experts * len(self.slots)
        return sum(self.slots.values()) / every if every else 1.0

    @property
    def whole_layers(self) -> int:
        """Layers whose experts are all in memory: they read nothing and wait for nothing."""
        return sum(count == self.experts for count in self.slots.values())


def make_plan(
    config: ModelConfig,
    sizes: Sizes,
    limit: int | None,
    context: int,
    *,
    slots: int | None = None,
    chunk: int | None = None,
    whole_layers: int = 0,
    prefix: int | None = 0,
) -> Plan:
    """Divide the limit.

    Args:
        config: the model.
        sizes: its bytes.
        limit: bytes to use at most; None for no limit: all experts, or `slots` of each layer.
        context: tokens that the KV cache must hold.
        slots: this many slots in every layer instead of what the limit allows.
        chunk: this prefill chunk instead of the plan's choice.
        whole_layers: this many of the first layers get slots for all their experts.
        prefix: bytes for texts that were read before; None for one context of them, at most an
            eighth of the limit, and at most what the rest leaves.

    Raises:
        MemoryPlanError: the limit is too small; the error names the smallest that works.
        OptionError: slots are below 0, or the model has no experts for them.
    """
    if slots is not None and (slots < 0 or not config.experts):
        what = "must be 0 or more" if config.experts else "this model has no experts"
        raise OptionError(f"slots is {slots}: {what}")
    chosen = chunk or _choose_chunk(config, sizes, limit, context)
    wanted = config.experts if slots is None and limit is None else slots
    fixed = _plan(config, sizes, limit or 0, context, chosen, {})
    if prefix is None:
        left = fixed.kv_bytes if limit is None else max(0, limit - fixed.total_bytes)
        prefix = min(fixed.kv_bytes, left, left if limit is None else limit // 8)
    fixed = replace(fixed, prefix_bytes=prefix)
    smallest = _smallest(config, sizes, context, chunk) + prefix
    if limit is None or slots is not None:
        counts = dict.fromkeys(sizes.slot_bytes, min(wanted or 0, config.experts))
        plan = _plan(config, sizes, limit or 0, context, chosen, counts, prefix)
        if limit is not None and plan.total_bytes > limit:
            raise _too_small(plan.total_bytes, limit, plan)
        return plan
    if fixed.total_bytes > limit:
        raise _too_small(smallest, limit, fixed)
    left = limit - fixed.total_bytes
    counts = _share(config.experts, sizes.slot_bytes, left, whole_layers)
    return _plan(config, sizes, limit, context, chosen, counts, prefix)


def workspace_bytes(config: ModelConfig, sizes: Sizes, context: int, chunk: int) -> int:
    """An upper bound of what one chunk needs beside weights and cache.

    Per token: the residual stream and its norms, q|k|v and the attention's output, the
    router's logits, and for each chosen expert its input, gate|up, product and output (twice:
    in the order of experts and of tokens). The logits of one position in float32 come on top,
    with what sampling makes of them. Layers are computed one after another.
    """
    item, D = sizes.itemsize, config.hidden_size
    heads = (config.heads + 2 * config.kv_heads) * config.head_dim
    row = 6 * D + 3 * heads + 3 * config.mlp_width * (not sizes.slot_bytes) + 2 * config.experts
    row += config.top_k * (4 * D + 4 * config.expert_width)
    total = chunk * row * item
    pairs = min(chunk * context, max(_PAIRS, _CHUNKS[-1] * context))
    if config.kv_bits is not None:  # scores of one tile or of one step, two tiles, mixed values
        tile = tile_length(chunk * config.heads)
        total += 24 * max(chunk * config.heads * tile, config.heads * context)
        total += (4 * tile * config.kv_heads + 4 * chunk * config.heads) * config.head_dim * 4
    elif not sizes.fused_attention:  # scores and their softmax, a boolean mask
        total += pairs * (2 * config.heads * item + 1)
        total += 2 * context * config.heads * config.head_dim * item
    if sizes.gathers_plain:
        total += chunk * config.top_k * max(sizes.slot_bytes.values(), default=0)
    return total + 6 * 4 * config.vocab_size + sizes.largest_tensor_bytes


def chunk_at(start: int, most: int) -> int:
    """Tokens of the next prefill chunk: at most `most`, fewer when `start` are read already.

    >>> chunk_at(0, 512), chunk_at(40_000, 512), chunk_at(1_000_000, 512)
    (512, 128, 16)
    """
    length = most
    while length > _CHUNKS[-1] and length * (start + length) > _PAIRS:
        length //= 2
    return length


def chunks(ids: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """A text in the pieces in which a prompt of its length is read.

    >>> [len(chunk) for chunk in chunks(range(1200), 512)]
    [512, 512, 176]
    """
    start = 0
    while start < len(ids):
        length = chunk_at(start, most)
        yield ids[start : start + length]
        start += length


def parse_bytes(text: str) -> int:
    """A size as people write it: "10GB", "512 MiB", "8e9"; 1 GB is 10**9 bytes.

    >>> parse_bytes("10GB"), parse_bytes("1.5 GiB"), parse_bytes("4096")
    (10000000000, 1610612736, 4096)

    Raises:
        OptionError: it is no size, or not above 0.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    unit = _UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise OptionError(f"{short(text)} is no size: write it like 10GB, 800MB or 9.5GiB")
    try:
        size = int(float(match[1]) * unit)
    except (ValueError, OverflowError) as error:  # "1.2.3", "1e999"
        raise OptionError(
            f"{short(text)} is no size: write it like 10GB, 800MB or 9.5GiB"
        ) from error
    if size <= 0:
        raise OptionError(f"a memory limit must be above 0, got {text!r}")
    return size


def _plan(
    config: ModelConfig, sizes: Sizes, limit: int, context: int, chunk: int,
    slots: Mapping[int, int], prefix: int = 0,
) -> Plan:  # fmt: skip
    streams = bool(sizes.slot_bytes) and (
        not slots or any(count < config.experts for count in slots.values())
    )
    scratch = 2 * max(1, min(16, config.top_k, config.experts) // 2) if streams else 0
    formats = set(sizes.slot_bytes.values())
    rounded = -(-context // _KV_STEP) * _KV_STEP
    return Plan(
        limit=limit,
        context=context,
        chunk=chunk,
        trunk_bytes=sizes.trunk_bytes,
        kv_bytes=rounded * config.kv_bytes_per_token(sizes.itemsize),
        prefix_bytes=prefix,
        workspace_bytes=workspace_bytes(config, sizes, context, chunk),
        scratch=scratch,
        scratch_bytes=scratch * sum(formats),
        slots=slots or dict.fromkeys(sizes.slot_bytes, 0),
        slot_bytes=sizes.slot_bytes,
        experts=config.experts,
    )


def _choose_chunk(config: ModelConfig, sizes: Sizes, limit: int | None, context: int) -> int:
    """The longest chunk whose workspace is a small part of the limit; 512 without one."""
    if limit is None:
        return 512
    for chunk in _CHUNKS[:-1]:
        workspace = workspace_bytes(config, sizes, context, chunk)
        fits = _plan(config, sizes, limit, context, chunk, {}).total_bytes <= limit
        if fits and workspace <= limit * _WORKSPACE_SHARE:
            return chunk
    return _CHUNKS[-1]


def _smallest(config: ModelConfig, sizes: Sizes, context: int, chunk: int | None) -> int:
    """The limit below which no plan can be made: no slots, the shortest chunk."""
    return _plan(config, sizes, 0, context, chunk or _CHUNKS[-1], {}).total_bytes


def _share(experts: int, slot_bytes: Mapping[int, int], left: int, whole: int) -> dict[int, int]:
    """Slots by layer: first the whole layers, the rest as evenly as it goes."""
    counts = dict.fromkeys(slot_bytes, 0)
    for layer in list(slot_bytes)[:whole]:
        if experts * slot_bytes[layer] <= left:
            counts[layer] = experts
            left -= experts * slot_bytes[layer]
    open_layers = [layer for layer in slot_bytes if not counts[layer]]
    each = left // max(1, sum(slot_bytes[layer] for layer in open_layers))
    for layer in open_layers:
        counts[layer] = min(experts, each)
        left -= counts[layer] * slot_bytes[layer]
    for layer in open_layers:
        if counts[layer] < experts and slot_bytes[layer] <= left:
            counts[layer] += 1
            left -= slot_bytes[layer]
    return counts


def _too_small(smallest: int, limit: int, plan: Plan) -> MemoryPlanError:
    work = plan.workspace_bytes + plan.scratch_bytes
    kept = f"texts read before {format_bytes(plan.prefix_bytes)}, " if plan.prefix_bytes else ""
    return MemoryPlanError(
        f"a limit of {format_bytes(limit)} is too small: the weights that are always in memory "
        f"take {format_bytes(plan.trunk_bytes)}, the KV cache {format_bytes(plan.kv_bytes)} for "
        f"{plan.context:,} tokens, {kept}work {format_bytes(work)}; pass --memory-limit "
        f"{round_up(smallest)} or more, or a shorter --context",
        smallest,
    )


def round_up(size: int) -> str:
    """A size to pass as a limit: three digits, never less."""
    unit, name = (10**9, "GB") if size >= 10**9 else (10**6, "MB")
    step = unit // 100 if size >= unit else unit // 10
    return f"{-(-size // step) * step / unit:g}{name}"
