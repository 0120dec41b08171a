"""How a model is kept in memory: planned first, then read, with experts from disk if need be.

A `Keeper` stands between the front door and the loader. It makes the plan on the caller's
thread, before anything is read, and later owns the pool of experts. Where all of the model fits
and nobody set a limit, it only passes the weights on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from qwen3_mlx import hub
from qwen3_mlx.context import with_context, with_kv_bits
from qwen3_mlx.engine.prefix import default_bound, eighth_of_memory
from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Loading
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.ledger import Claim
from qwen3_mlx.loading import Weights, open_pool, read_weights, sizes_of
from qwen3_mlx.machines import this_machine
from qwen3_mlx.memory import Plan, make_plan, parse_bytes
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.sharing import Room
from qwen3_mlx.statistics import ExpertStats

if TYPE_CHECKING:
    from qwen3_mlx.experts.pool import ExpertPool

__all__ = ["Keeper", "Progress", "working_set"]

#: Tokens of context that a plan provides for where nobody says how many.
_DEFAULT_CONTEXT = 8192


class Keeper:
    """The memory of one model.

    Args:
        parts: the model, not yet read.
        dtype: the type to run in, None for the stored one.
        memory_limit: bytes, or a size such as "10GB"; None keeps everything in memory.
        context: tokens that a conversation may have; None is the model's own context, or
            8,192 under a limit. Beyond the native length it turns on YaRN; `notices` says so.
        slots: this many experts of each layer in memory, instead of what the limit allows.
        experts: options of `PoolOptions`, for measurements.
        share: the name under which to claim the memory (`sharing.py`), and without a limit to
            use no more than what this machine has left; None leaves others out of it.
        kv_bits: pack the KV cache to 8 or 4 bits.
        speculate: guess what a text repeats; of a dense model.
        prefix_cache: bytes, or a size, for texts that were read before; None chooses.

    Raises:
        MemoryPlanError: the limit is too small, and it names the smallest that works; or the
            model has no room on this machine.
        OptionError: an argument has an impossible value.
    """

    def __init__(
        self,
        parts: Weights,
        dtype: str | None = None,
        *,
        memory_limit: int | str | None = None,
        context: int | None = None,
        slots: int | None = None,
        experts: Mapping[str, Any] | None = None,
        share: str | None = None,
        kv_bits: int | None = None,
        prefix_cache: int | str | None = 0,
        speculate: bool = False,
    ) -> None:
        if speculate and parts.config.experts:
            raise OptionError(
                "speculation is for dense models: each token that a mixture of experts guesses "
                "needs experts of its own, which takes the time that it would save"
            )
        self._speculate = speculate
        config = with_kv_bits(parts.config, kv_bits)
        notice = ""
        if context is not None:
            config, notice = with_context(config, context)
        self.config, self.notices = config, [notice] if notice else []
        self._parts, self._dtype = replace(parts, config=config), dtype
        self.plan: Plan | None = None
        self.pool: ExpertPool | None = None
        self._options = PoolOptions(**(experts or {}))
        most = config.max_positions
        planned = memory_limit is not None or slots is not None
        self.context = context or (min(most, _DEFAULT_CONTEXT) if planned else most)
        prefix = None if prefix_cache is None else _bytes(prefix_cache)
        if planned:
            self.plan = self._make_plan(memory_limit, slots, prefix)
        self._claim = None if share is None else self._take(share, context is None, prefix)
        if self.plan is not None:
            prefix = self.plan.prefix_bytes
        elif prefix is None:
            prefix = default_bound(config.kv_bytes_per_token(), self.context)
        self._prefix_bytes = prefix

    def full_plan(self) -> Plan:
        """What everything in memory would take, for a text of the whole context."""
        return self._make_plan(None, None, 0)

    @property
    def engine_options(self) -> dict[str, Any]:
        """What the engine may keep and guess, and with a plan, to do one text after the other.

        Without a plan texts that run together may take what one of the whole context takes, and
        an eighth of the machine's memory if that is more.
        """
        options = {"prefix_bytes": self._prefix_bytes, "speculate": self._speculate}
        if self.plan is not None:
            return options | {"prefill_chunk": self.plan.chunk, "max_rows": 1}
        return options | {"kv_bytes": max(self.full_plan().kv_bytes, eighth_of_memory())}

    def read(self, loaded: Callable[[int], None]) -> Qwen3Model:
        """Bring the weights into memory; on the engine thread."""
        plan = self.plan
        _bound_freed(plan, self.full_plan)
        if plan is None and self._parts.records is not None:
            plan = self.full_plan()
        if plan is None or not plan.slots:
            return read_weights(self._parts, self._dtype, loaded)
        self.pool = open_pool(self._parts, plan, self._options, self._dtype, loaded)
        try:
            return read_weights(self._parts, self._dtype, loaded, self.pool)
        except BaseException:
            self.pool.close()
            raise

    def watch(self) -> Callable[[], ExpertStats | None]:
        """A function that tells what streaming did from now on; None where nothing streams."""
        pool = self.pool
        if pool is None or self.plan is None:
            return lambda: None
        before = pool.counts.copy()
        return lambda: pool.stats(before)

    def close(self) -> None:
        """Let go of files and reader threads. May be called twice."""
        if self.pool is not None:
            self.pool.close()
        if self._claim is not None:
            self._claim.close()

    def _take(self, what: str, free_context: bool, prefix: int | None) -> Claim:
        """Claim the plan's bytes; without a limit, plan for what the machine has left."""
        room = Room(hub.data_dir() / "memory", lambda: working_set() or this_machine().usable_bytes)
        if self.plan is not None:
            return room.take(self.plan, what)
        whole = self.context
        if free_context:
            self.context = min(whole, _DEFAULT_CONTEXT)
        limited = partial(self._make_plan, slots=None, prefix=prefix)
        self.plan, claim = room.fit(
            self.full_plan(), limited if self._parts.config.experts else None, what
        )
        if self.plan is None:  # all of it is in memory, and the cache grows as it must
            self.context = whole
        return claim

    def _make_plan(
        self, memory_limit: int | str | None, slots: int | None, prefix: int | None
    ) -> Plan:
        limit = parse_bytes(memory_limit) if isinstance(memory_limit, str) else memory_limit
        config = self._parts.config
        options = self._options
        return make_plan(
            config, sizes_of(self._parts, self._dtype), limit, self.context,
            slots=slots, chunk=options.chunk, whole_layers=options.whole_layers, prefix=prefix,
        )  # fmt: skip


class Progress:
    """Adds up the bytes that were read and passes them on."""

    def __init__(self, total: int, tell: Callable[[Loading], None] | None) -> None:
        self._state, self._tell = Loading(0, total), tell

    def __call__(self, nbytes: int) -> None:
        done = min(self._state.done + nbytes, self._state.total)
        self._state = replace(self._state, done=done)
        if self._tell is not None:
            self._tell(self._state)


def working_set() -> int | None:
    """What Metal says that it can keep on this Mac, in bytes; None where there is no Metal."""
    if not mx.metal.is_available():
        return None
    said = mx.device_info().get("max_recommended_working_set_size")
    return said if isinstance(said, int) and said > 0 else None


def _bound_freed(plan: Plan | None, full: Callable[[], Plan]) -> None:
    """Bound what MLX keeps of freed memory, which on Metal has no bound of its own to speak of.

    A KV cache that grows leaves a buffer of each former size behind, and none is asked for
    again. Without a plan the work of one chunk of a prompt may stay, so that it is found there.
    """
    mx.set_cache_limit(full().workspace_bytes if plan is None else plan.workspace_bytes // 2)


def _bytes(size: int | str) -> int:
    """A size that may be 0."""
    return 0 if size in (0, "0") else parse_bytes(str(size))
