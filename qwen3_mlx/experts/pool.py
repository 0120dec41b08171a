"""The expert pool of a model: disk, banks, readers and counts, shared by its layers.

A pool gives the model its experts layer by layer (`layer`, called while the model is built).
Layers with a slot for every expert are filled once and then run like any resident layer,
without asking the host anything; the others become `StreamedExperts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mlx.core as mx

from qwen3_mlx.experts.counts import Counts
from qwen3_mlx.experts.layout import ExpertFormat
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.policy import make_policy
from qwen3_mlx.experts.readers import Read, Readers
from qwen3_mlx.experts.slots import Bank, writes_in_place
from qwen3_mlx.experts.store import Source
from qwen3_mlx.experts.streamed import Shared, StreamedExperts
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.moe import ResidentExperts
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
        self.counts = Counts()
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
            made.shared.first_layer = layer
        self._loaded(count * format.nbytes)  # as far as it will be before the first token
        self.layers[layer] = made
        return made

    def stats(self, since: Counts | None = None) -> ExpertStats:
        """The figures, of the whole life or since an earlier `counts.copy()`."""
        counts = self.counts if since is None else self.counts.minus(since)
        slots = tuple(self.slots[layer] for layer in sorted(self.slots))
        return counts.stats(slots, self._config.experts, "")

    def close(self) -> None:
        """End the readers and close the files. May be called twice."""
        self._readers.close()
        self._source.close()

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
            self._shared[format] = Shared(self.options, self._readers, self.counts, halves)
        return self._shared[format]
