"""Which matrices get more bits than the rest, for a few per cent more bytes.

Uniform 4 bits lose most where few weights serve every token: in the attention, which is small
and, in a mixture of experts, decides what the router sees; then in the table of tokens, which
is read twice where it is tied; least in experts, of which a token uses few. How much a weight
of each kind matters was measured on trained models as the KL divergence that its packing alone
causes, per weight (docs/convert.md has the table). From there it is a knapsack: the upgrade that
saves most divergence per byte comes first, until the bytes are spent. Bytes are those of the model
and those that a token reads, which decide the speed: in a mixture of experts a little more on the
disk could be a third more for each token, so both are bounded by the same share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from qwen3_mlx.model.config import ModelConfig

__all__ = ["SPEND", "allocate", "extra_bytes"]

#: The share of bytes, on disk and for each token, that `convert --q4` spends beyond uniform 4 bits.
SPEND = 0.08

#: Divergence per weight that every token uses, relative to a gate or up projection.
_MATTERS = {"qkv": 12.0, "o_proj": 10.0, "tied": 3.0, "lm_head": 3.0, "embed_tokens": 1.0,
            "down_proj": 2.0, "gate_up": 1.0}  # fmt: skip

#: What one more bit leaves of it.
_LEFT = 0.42

_LADDER = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, slots=True)
class _Unit:
    """Matrices that are used together and keep one format, so that they can be joined."""

    paths: tuple[str, ...]
    kind: str
    weights: int
    share: float  # of the tokens that use each weight
    depth: int  # layers between it and the nearer end of the model

    @property
    def read(self) -> float:
        """Weights that a token reads: of a table that is no head, a row."""
        return 0.0 if self.kind == "embed_tokens" else self.weights * self.share


def allocate(
    config: ModelConfig, bits: int, group_size: int, spend: float, item_bytes: int = 2
) -> dict[str, int]:
    """The paths that get more than `bits`, and how many.

    Args:
        config: of the plain model.
        bits: what every matrix gets.
        group_size: weights that share a scale and a bias of `item_bytes` each.
        spend: the share of the bytes of all matrices, and of those that a token reads, that may
            be added: 0.08 for 8 %.

    >>> from qwen3_mlx.catalogue import find
    >>> extra = allocate(find("4b").config, 4, 64, 0.08)
    >>> extra["model.layers.0.self_attn.q_proj"]
    6
    >>> extra.get("model.layers.7.mlp.up_proj")
    """
    units = list(_units(config, group_size))
    weights, read = sum(unit.weights for unit in units), sum(unit.read for unit in units)
    left = left_to_read = spend * (bits + 16 * item_bytes / group_size)
    held = [bits] * len(units)

    def cost(unit: _Unit) -> float:
        """What a bit more takes of what is left, the scarcer of the two."""
        return max(unit.weights / weights, unit.read / read)

    heap = [(_rank(unit, bits, cost(unit)), number) for number, unit in enumerate(units)]
    heapify(heap)
    while heap:
        _, number = heappop(heap)
        unit, after = units[number], _next(held[number])
        more = after - held[number]
        stored, loaded = more * unit.weights / weights, more * unit.read / read
        if not more or stored > left or loaded > left_to_read:
            continue
        left, left_to_read = left - stored, left_to_read - loaded
        held[number] = after
        heappush(heap, (_rank(unit, after, cost(unit)), number))
    return {
        path: now
        for unit, now in zip(units, held, strict=True)
        if now > bits
        for path in unit.paths
    }


def extra_bytes(config: ModelConfig, bits: int, group_size: int, spend: float) -> int:
    """What `allocate` adds to the bytes of a model, for scales of 2 bytes."""
    extra = allocate(config, bits, group_size, spend)
    return sum(
        (extra[unit.paths[0]] - bits) * unit.weights // 8
        for unit in _units(config, group_size)
        if unit.paths[0] in extra
    )


def _next(bits: int) -> int:
    """The next step of the ladder; the same bits at its end."""
    place = _LADDER.index(bits)
    return _LADDER[min(place + 1, len(_LADDER) - 1)]


def _rank(unit: _Unit, bits: int, cost: float) -> tuple[float, int]:
    """Smallest first: what the next step of a unit saves for its cost, then the model's ends."""
    after = _next(bits)
    saved = _MATTERS[unit.kind] * unit.share * unit.weights * (_LEFT**bits - _LEFT**after)
    return -saved / max(1, after - bits) / cost, unit.depth


def _units(config: ModelConfig, group_size: int) -> Iterator[_Unit]:
    """Everything that is packed, but the routers."""
    hidden, channels = config.hidden_size, config.head_dim
    table = config.vocab_size * hidden
    if hidden % group_size == 0:
        ends = ("tied",) if config.tied else ("embed_tokens", "lm_head")
        for kind in ends:
            path = "lm_head" if kind == "lm_head" else "model.embed_tokens"
            yield _Unit((path,), kind, table, 1.0, 0)
    for layer in range(config.layers):
        depth = min(layer, config.layers - 1 - layer)
        path = f"model.layers.{layer}.self_attn"
        queries = config.heads * channels
        if hidden % group_size == 0:
            names = tuple(f"{path}.{part}_proj" for part in "qkv")
            width = queries + 2 * config.kv_heads * channels
            yield _Unit(names, "qkv", width * hidden, 1.0, depth)
        if queries % group_size == 0:
            yield _Unit((f"{path}.o_proj",), "o_proj", hidden * queries, 1.0, depth)
        sparse = config.is_moe(layer)
        path = f"model.layers.{layer}.mlp" + (".switch_mlp" if sparse else "")
        width = config.expert_width if sparse else config.mlp_width
        count = config.experts if sparse else 1
        share = config.top_k / config.experts if sparse else 1.0
        if hidden % group_size == 0:
            names = (f"{path}.gate_proj", f"{path}.up_proj")
            yield _Unit(names, "gate_up", 2 * count * width * hidden, share, depth)
        if width % group_size == 0:
            yield _Unit((f"{path}.down_proj",), "down_proj", count * width * hidden, share, depth)
