"""`qwen3-mlx bench experts`: what it costs to keep experts on disk, beside all in memory."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import OptionError
from qwen3_mlx.memory import parse_bytes
from qwen3_mlx_app import options, writing

if TYPE_CHECKING:
    import mlx.core as mx

    from qwen3_mlx.experts.counts import Counts
    from qwen3_mlx.experts.trace import Trace
    from qwen3_mlx.loading import Weights
    from qwen3_mlx.model.qwen3 import Qwen3Model
    from qwen3_mlx.streaming import Keeper

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "measure", "run"]

#: Flags that `bench` has too: before the word `experts` they count as well.
_SHARED = ("model", "context", "kv_bits", "rounds", "dtype", "json")

_EXAMPLES = """\
examples:
  qwen3-mlx bench experts -m ./Qwen3-30B-A3B-q4 --memory-limit 10GB
  qwen3-mlx bench experts -m tiny --slots 8 --trace-out tiny.trace --tokens 800
  qwen3-mlx bench experts --replay tiny.trace       hits of each policy and of Belady's optimum

Ids are fed, so no chat template is needed. Both sides decode the same ids, in turns.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `experts` to the subcommands of `bench`."""
    parser = subparsers.add_parser(
        "experts", help="what it costs to keep experts on disk",
        description="Decode with experts from disk and with all in memory, in turns.",
        epilog=_EXAMPLES, formatter_class=options.HelpFormatter,
    )  # fmt: skip
    parser.add_argument("-m", "--model", metavar="MODEL", help="as for `ask`")
    options.add_memory(parser)
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="for each round (64)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (5)")
    parser.add_argument("--prompt", type=int, default=32, metavar="N", help="ids before them (32)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="compute in it")
    parser.add_argument("--throttle", metavar="SPEED", help="a slower disk, such as 3GB/s")
    parser.add_argument(
        "--policy", choices=["lru", "lfu"], default="lru", help="which expert leaves (lru)"
    )
    parser.add_argument(
        "--governor", choices=["auto", "inline", "threads", "overlap", "prefetch"],
        default="auto", help="how reads are made; auto measures and chooses",
    )  # fmt: skip
    parser.add_argument("--no-resident", action="store_true", help="do not measure that side")
    parser.add_argument("--trace-out", metavar="F", type=Path, help="write what was routed where")
    parser.add_argument("--replay", metavar="F", type=Path, help="only replay a trace")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    for action in parser._actions:
        if action.dest in _SHARED:
            action.default = argparse.SUPPRESS
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure or replay, and tell; the exit status."""
    if args.replay:
        table = _replay(args.replay)
        print(json.dumps(table, indent=2) if args.json else _table(table))
        return 0
    if args.memory_limit is None and args.slots is None:
        raise OptionError("say how much memory: --memory-limit 10GB, or --slots 16")
    if min(args.tokens, args.rounds, args.prompt) < 1:
        raise OptionError("bench experts needs 1 token, 1 round and a prompt of 1 id at least")
    writing.check(args.trace_out)
    from qwen3_mlx.experts.trace import Trace
    from qwen3_mlx.loading import open_weights
    from qwen3_mlx_convert.fetching import fetch

    args.model = options.chosen_model(args)
    weights = open_weights(fetch(args.model))
    config = weights.config
    if not config.experts:
        raise OptionError(f"{weights.checkpoint.path} has no experts to stream")
    trace = Trace(config.experts, config.top_k) if args.trace_out else None
    result = measure(weights, args, trace)
    print(json.dumps(result, indent=2) if args.json else _text(result))
    if trace is not None:  # last: the measurement is told even if the disk is full
        trace.save(args.trace_out)
    return 0


def measure(
    weights: Weights, args: argparse.Namespace, trace: Trace | None = None
) -> dict[str, Any]:
    """Rounds of both sides in turns; the object that `--json` prints. `trace` is filled."""
    import mlx.core as mx

    from qwen3_mlx.streaming import Keeper

    memory = {"context": _context(weights, args), "kv_bits": args.kv_bits}
    keeper = Keeper(
        weights, args.dtype, memory_limit=args.memory_limit, slots=args.slots, **memory,
        experts={"policy": args.policy, "governor": args.governor, "throttle": _throttle(args)},
    )  # fmt: skip
    assert keeper.plan is not None
    mx.reset_peak_memory()
    streamed = _Side(args, keeper.read(lambda nbytes: None), keeper)
    pool = keeper.pool
    assert pool is not None
    pool.trace = trace
    streamed.round(args.tokens)  # alone, so that its peak is its own
    peak = mx.get_peak_memory()
    resident = None if args.no_resident else _resident(args, Keeper(weights, args.dtype, **memory))
    for number in range(args.rounds):
        if resident is not None:
            resident.round(args.tokens)
        if number + 1 < args.rounds:
            streamed.round(args.tokens)
    identical = None if resident is None else resident.digests == streamed.digests
    keeper.close()
    result = _result(args, keeper, resident, streamed, identical)
    result["streamed"]["peak_bytes"] = peak
    return result


def _context(weights: Weights, args: argparse.Namespace) -> int:
    """Tokens of the context to plan for; all that is read and said must fit."""
    needed = args.prompt + args.rounds * args.tokens
    context: int = args.context or min(weights.config.max_positions, needed)
    if needed > context:
        raise OptionError(
            f"{args.prompt} ids and {args.rounds} rounds of {args.tokens} tokens are {needed:,} "
            f"in all, and the context is {context:,}: pass fewer --tokens, or a longer --context"
        )
    return context


@dataclass
class _Side:
    """One of the two: a model, its cache and its clocks."""

    args: argparse.Namespace
    model: Qwen3Model
    keeper: Keeper | None
    digests: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    tokens: int = 0
    before: Counts | None = None  # what the pool had counted when the clocks began
    _step: Callable[[mx.array], mx.array] | None = None
    _drawn: int = 0

    def round(self, tokens: int) -> None:
        """Decode some tokens greedily; the first round reads the prompt before the clocks run."""
        import hashlib

        import mlx.core as mx
        import numpy as np

        if self._step is None:
            self._begin()
        assert self._step is not None
        digest = hashlib.sha256()
        for _ in range(tokens):
            cpu, wall = time.process_time(), time.perf_counter()
            logits = self._step(mx.array([[self._drawn]]))
            self._drawn = _best(logits)
            self.cpu_seconds += time.process_time() - cpu
            self.wall_seconds += time.perf_counter() - wall
            digest.update(np.array(logits.astype(mx.float32)).tobytes())
        self.tokens += tokens
        self.digests.append(digest.hexdigest())

    def _begin(self) -> None:
        import mlx.core as mx

        from qwen3_mlx.engine.kv import KVCache

        model, cache = self.model, KVCache(self.model.config)
        vocab = model.config.vocab_size
        prompt = [(37 * n + 11) % min(vocab, 4096) for n in range(self.args.prompt)]
        chunk = self.keeper.plan.chunk if self.keeper and self.keeper.plan else 512
        for start in range(0, len(prompt), chunk):
            hidden = model.hidden(mx.array([prompt[start : start + chunk]]), cache)
            mx.eval(cache.arrays())
        logits = model.logits(hidden[:, -1])
        self._drawn = _best(logits)
        self._step = lambda ids: model.logits(model.hidden(ids, cache)[:, -1])
        pool = self.keeper.pool if self.keeper else None
        self.before = pool.counts.copy() if pool else None


def _best(logits: mx.array) -> int:
    import mlx.core as mx

    ids: list[int] = mx.argmax(logits, axis=-1).tolist()  # type: ignore[assignment]
    return ids[0]


def _resident(args: argparse.Namespace, keeper: Keeper) -> _Side | None:
    """The other side, where the machine has memory for it."""
    if keeper.full_plan().total_bytes > _free_bytes():
        return None
    return _Side(args, keeper.read(lambda nbytes: None), None)


def _free_bytes() -> int:
    """Memory for one model more: what the system has free, and what may be planned at all."""
    import mlx.core as mx

    from qwen3_mlx.machines import this_machine
    from qwen3_mlx.streaming import working_set

    left = (working_set() or this_machine().usable_bytes) - mx.get_active_memory()
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:  # macOS, which says no such thing
        return left
    available = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    return min(left, available * 4 // 5)


def _result(
    args: argparse.Namespace, keeper: Keeper, resident: _Side | None, streamed: _Side,
    identical: bool | None,
) -> dict[str, Any]:  # fmt: skip
    assert keeper.plan is not None
    assert keeper.pool is not None
    stats = keeper.pool.stats(streamed.before)
    counts = keeper.pool.counts.minus(streamed.before) if streamed.before else keeper.pool.counts
    misses = (counts.uses - counts.hits) / max(1, counts.tokens)
    ours = 1e3 * streamed.cpu_seconds / streamed.tokens
    result: dict[str, Any] = {
        "model": args.model,
        "slots": sorted(set(stats.slots)),
        "tokens": streamed.tokens,
        "streamed": {
            "cpu_ms_per_token": ours,
            "wall_ms_per_token": 1e3 * streamed.wall_seconds / streamed.tokens,
            "hit_rate": stats.hit_rate,
            "misses_per_token": misses,
            "read_amplification": stats.read_amplification,
            "syncs_per_token": stats.syncs_per_token,
            "plan_bytes": keeper.plan.total_bytes,
        },
        "experts": asdict(stats),
        "identical": identical,
    }
    if resident is not None:
        theirs = 1e3 * resident.cpu_seconds / resident.tokens
        result["resident"] = {
            "cpu_ms_per_token": theirs,
            "wall_ms_per_token": 1e3 * resident.wall_seconds / resident.tokens,
        }
        result["cpu_ms_per_miss"] = (ours - theirs) / misses if misses else 0.0
    return result


def _throttle(args: argparse.Namespace) -> Any:
    from qwen3_mlx.experts.store import Throttle

    if args.throttle is None:
        return None
    return Throttle(parse_bytes(args.throttle.lower().removesuffix("/s")))


def _replay(path: Path) -> dict[int, dict[str, float]]:
    from qwen3_mlx.experts.trace import hit_rates, read_trace

    trace = read_trace(path)
    steps = sorted({1, 2, trace.top_k, *range(4, trace.experts + 1, max(1, trace.experts // 16))})
    return hit_rates(trace, [count for count in steps if count <= trace.experts])


def _table(table: dict[int, dict[str, float]]) -> str:
    names = list(next(iter(table.values())))
    lines = ["slots" + "".join(f"{name:>10}" for name in names)]
    for slots, row in table.items():
        lines.append(f"{slots:5}" + "".join(f"{row[name]:10.3f}" for name in names))
    return "\n".join(lines)


def _text(result: dict[str, Any]) -> str:
    ours = result["streamed"]
    lines = [
        f"{result['slots']} slots in a layer, plan {format_bytes(ours['plan_bytes'])}, "
        f"{result['tokens']} tokens",
        f"streamed   {ours['cpu_ms_per_token']:8.2f} ms CPU a token, hits "
        f"{100 * ours['hit_rate']:.1f} %, {ours['misses_per_token']:.1f} misses, "
        f"{ours['syncs_per_token']:.0f} waits for a router, "
        f"amplification {ours['read_amplification']:.2f}",
    ]
    if "resident" in result:
        lines.append(f"resident   {result['resident']['cpu_ms_per_token']:8.2f} ms CPU a token")
        lines.append(f"a miss costs {result['cpu_ms_per_miss']:.3f} ms CPU more than a hit")
        lines.append("logits identical" if result["identical"] else "LOGITS DIFFER")
    else:
        lines.append("resident   not measured: it does not fit, or --no-resident")
    chosen = result["experts"]["governor"]
    if chosen == "measuring":
        lines.append("the governor was still measuring: more --tokens let it choose")
    elif chosen:
        lines.append(f"the governor chose {chosen}")
    return "\n".join(lines)
