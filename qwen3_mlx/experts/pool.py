"""The expert pool of a model: disk, banks, readers and counts, shared by its layers.

A pool gives the model its experts layer by layer (`layer`, called while the model is built).
Layers with a slot for every expert are filled once and then run like any resident layer,
without asking the host anything; the others become `StreamedExperts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import mlx.core as mx

from qwen3_mlx.errors import OptionError
from qwen3_mlx.experts.ahead import Oracle
from qwen3_mlx.experts.counts import Counts
from qwen3_mlx.experts.governor import WAYS, Governor, Way
from qwen3_mlx.experts.layout import ExpertFormat
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.policy import make_policy
from qwen3_mlx.experts.readers import Read, Readers
from qwen3_mlx.experts.slots import Bank, writes_in_place
from qwen3_mlx.experts.store import Source
from qwen3_mlx.experts.streamed import Common, Shared, StreamedExperts
from qwen3_mlx.experts.trace import Trace
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.moe import MoE, ResidentExperts
from qwen3_mlx.model.qwen3 import Block, Qwen3Model
from qwen3_mlx.statistics import ExpertStats

__all__ = ["ExpertPool"]


class ExpertPool:
    """The experts of one model. Made and used on the engine thread.

    Args:
        config: the model.
        source: its experts on disk; the pool closes it.
        slots: by MoE layer, how many experts are kept in memory.
        scratch: experts that the shared scratch bank holds; at least 2.
        options: how they are read.
        dtype: the type of the floats; None keeps the stored one.
        loaded: called with the bytes of each layer that is done.
    """

    def __init__(
        self,
        config: ModelConfig,
        source: Source,
        slots: Mapping[int, int],
        scratch: int,
        options: PoolOptions,
        dtype: mx.Dtype | None = None,
        loaded: Callable[[int], None] = lambda nbytes: None,
    ) -> None:
        self.options, self._config, self._source = options, config, source
        self.slots, self._scratch = slots, scratch
        self._dtype, self._loaded = dtype, loaded
        self._in_place = writes_in_place() if options.in_place is None else options.in_place
        self._readers = Readers(source)
        self._shared: dict[ExpertFormat, Shared] = {}
        self.common = Common(Governor(_ways(options, self._in_place), hold=options.hold))
        self.layers: dict[int, StreamedExperts] = {}

    def layer(self, layer: int) -> ResidentExperts | StreamedExperts:
        """The experts of a MoE layer."""
        count = self._config.experts
        slots = min(self.slots[layer], count)
        if slots == count:
            return self._whole(layer)
        format = self._source.format(layer)
        made = StreamedExperts(
            layer, count, self._bank(format, slots), self._share(format),
            make_policy(self.options.policy),
        )  # fmt: skip
        if not self.layers:
            self.common.first_layer = layer
        self._loaded(count * format.nbytes)  # as far as it will be before the first token
        self.layers[layer] = made
        return made

    def stats(self, since: Counts | None = None) -> ExpertStats:
        """The figures, of the whole life or since an earlier `counts.copy()`."""
        counts = self.counts if since is None else self.counts.minus(since)
        slots = tuple(self.slots[layer] for layer in sorted(self.slots))
        return counts.stats(slots, self._config.experts, self.common.governor.choice)

    @property
    def counts(self) -> Counts:
        """The running totals."""
        return self.common.counts

    @property
    def trace(self) -> Trace | None:
        """Where decode steps are recorded; None, as at first, for not at all."""
        return self.common.trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self.common.trace = trace

    def link(self, model: Qwen3Model) -> None:
        """Heed the model's patience, and let each layer guess what the next one wants."""
        self.common.patience = model.patience
        pairs = zip(model.blocks, model.blocks[1:], strict=False)
        for block, following in pairs:
            here, there = _experts_of(block), _experts_of(following)
            if here is not None and there is not None and here.shared is there.shared:
                here.look_ahead(Oracle(block, following, there))

    def close(self) -> None:
        """End the readers, close the files, let the slots go. May be called twice."""
        self._readers.close()
        self._source.close()
        self.layers.clear()
        self._shared.clear()

    def _whole(self, layer: int) -> ResidentExperts:
        """All experts of a layer, slot for slot; read once, then never again."""
        format, count = self._source.format(layer), self._config.experts
        bank = self._bank(format, count)
        for expert in range(count):
            self._readers.read([Read(layer, expert, bank.destination(expert))])
            bank.commit([expert])
        self._loaded(count * format.nbytes)
        return bank.experts

    def _bank(self, format: ExpertFormat, capacity: int) -> Bank:
        return Bank(format, capacity, self._dtype, in_place=self._in_place)

    def _share(self, format: ExpertFormat) -> Shared:
        """What layers of one format have in common."""
        if format not in self._shared:
            half = max(1, self._scratch // 2)
            halves = self._bank(format, half), self._bank(format, half)
            self._shared[format] = Shared(self.options, self._readers, self.common, halves)
        return self._shared[format]


def _experts_of(block: Block) -> StreamedExperts | None:
    experts = block.mlp.experts if isinstance(block.mlp, MoE) else None
    return experts if isinstance(experts, StreamedExperts) else None


def _ways(options: PoolOptions, in_place: bool) -> list[Way]:
    """What the governor may choose from. Reading ahead needs slots that are written in place."""
    if options.governor == "auto":
        return [way for way in WAYS.values() if in_place or not way.prefetch]
    if options.governor not in WAYS:
        raise OptionError(
            f"governor is {options.governor!r}, and must be auto or one of {', '.join(WAYS)}"
        )
    way = WAYS[options.governor]
    if options.threads is not None:
        way = replace(way, threads=options.threads)
    return [way if in_place else replace(way, prefetch=False)]
