#!/usr/bin/env python3
"""The measurements of docs/experts.md, each as one JSON object on standard output.

    scripts/measure_experts.py hits --svg docs/experts-hits.svg    routing of tiny, replayed
    scripts/measure_experts.py miss --work /tmp/m                  CPU of a miss over resident
    scripts/measure_experts.py governor --work /tmp/m              ways to read, disk slowed down
    scripts/measure_experts.py layouts --work /tmp/m               records beside stacked

Models that are needed are made in the --work folder and kept there. Sides are measured token
by token in turns, so that a busy machine disturbs both alike; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import make_synthetic_moe as synthetic

import qwen3_mlx
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.experts.governor import WAYS, Governor
from qwen3_mlx.experts.slots import Bank
from qwen3_mlx.experts.store import Throttle
from qwen3_mlx.experts.trace import Trace, hit_rates
from qwen3_mlx.loading import open_weights
from qwen3_mlx.streaming import Keeper

PROMPTS = (
    "What is {a} + {b}?", "Hello! How are you?", "Tell me about yourself.", "What is {b} - {a}?",
    "Name three rivers.", "Who are you?", "Write a short poem.", "What is {a} + {b} + 1?",
    "Good evening.", "Explain what a model is.", "Can you count to ten?", "Thank you!",
)  # fmt: skip
#: Small enough for many tokens: 0.25 MB for each expert.
GOVERNED = {
    "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "vocab_size": 2048,
    "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 256,
}  # fmt: skip


_BUFFER = memoryview(bytearray(64 << 20))


class Side:
    """A model and its cache, fed with the same random ids whatever it predicts.

    A random model that hears its own predictions soon repeats itself, and its routing with it.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.keeper, self.model = keeper, keeper.read(lambda nbytes: None)
        self.cache = KVCache(self.model.config)
        self.ids = np.random.default_rng(5)

    def token(self) -> np.ndarray[Any, Any]:
        """The next token's logits."""
        token = self.ids.integers(0, self.model.config.vocab_size)
        hidden = self.model.hidden(mx.array([[int(token)]]), self.cache)
        logits = self.model.logits(hidden[:, -1])
        return np.array(logits.astype(mx.float32))


def timed(clock: Callable[[], float], side: Side) -> tuple[float, np.ndarray[Any, Any]]:
    """Milliseconds of one token by this clock, and its logits."""
    began = clock()
    logits = side.token()
    return 1e3 * (clock() - began), logits


def synthetic_model(work: Path, name: str, shape: dict[str, Any], **options: Any) -> Path:
    """A model of the work folder, made if it is not there."""
    if not (work / name).exists():
        work.mkdir(parents=True, exist_ok=True)
        synthetic.make(work / name, shape, **options)
    return work / name


def hits(args: argparse.Namespace) -> dict[str, Any]:
    """Decode with tiny as in conversations, and replay its routing."""
    with qwen3_mlx.load("tiny", slots=8, experts={"governor": "inline"}) as model:
        pool = model._keeper.pool
        assert pool is not None
        config = model._parts.config
        pool.trace = trace = Trace(config.experts, config.top_k)
        number = 0
        while pool.counts.tokens < args.tokens:
            text = PROMPTS[number % len(PROMPTS)].format(a=number + 2, b=3 * number + 5)
            model.ask(text, seed=number, max_tokens=120, thinking=number % 2 == 0)
            number += 1
        tokens = pool.counts.tokens
    if args.trace_out:
        trace.save(args.trace_out)
    table = hit_rates(trace, range(1, trace.experts + 1))
    if args.svg:
        args.svg.write_text(plot(table, trace.experts), encoding="utf-8")
    return {"tokens": tokens, "prompts": number, "top_k": trace.top_k, "hit_rates": table}


def miss(args: argparse.Namespace) -> dict[str, Any]:
    """CPU of a miss, experts of 0.98 MB, 16 of 64 in memory, page cache warm."""
    folder = synthetic_model(args.work, "1mb-uniform", synthetic.ONE_MB, scales="F32", skew=0.0)
    found = {}
    for way in args.ways:
        streamed = Side(Keeper(open_weights(folder), slots=16, experts={"governor": way}))
        resident = Side(Keeper(open_weights(folder)))
        pool = streamed.keeper.pool
        assert pool is not None
        for layer in pool.layers.values():  # warm: each record is checked once
            for expert in range(64):
                slots = layer.place([expert], ())
                layer.end(layer.begin([expert], slots), [expert], slots)
        for side in (streamed, resident):
            side.token()
        before, pairs, same, floors = pool.counts.copy(), [], True, []
        for _ in range(args.tokens):
            for layer in pool.layers.values():  # so that every expert of the token is a miss
                layer._empty += layer.where.values()
                layer.where.clear()
            floors.append(_bare_read(folder))
            ours, logits = timed(time.process_time, streamed)
            theirs, expected = timed(time.process_time, resident)
            same = same and bool((logits == expected).all())
            pairs.append((ours, theirs))
        counts = pool.counts.minus(before)
        misses = counts.misses / counts.tokens
        difference = statistics.median(ours - theirs for ours, theirs in pairs)
        found[way] = {
            "resident_cpu_ms_per_token": statistics.median(theirs for _, theirs in pairs),
            "streamed_cpu_ms_per_token": statistics.median(ours for ours, _ in pairs),
            "misses_per_token": misses,
            "hit_rate": counts.hits / counts.uses,
            "read_amplification": counts.read_bytes / counts.useful_bytes,
            "cpu_ms_per_miss": difference / misses,
            "cpu_ms_of_a_bare_preadv": statistics.median(floors),
            "identical": same,
        }
        streamed.keeper.close()
    return found


def _bare_read(folder: Path) -> float:
    """CPU milliseconds of a bare read of an expert's bytes, to memory that is not in a cache."""
    nbytes = 983_040
    fd = os.open(folder / "experts" / "layer-000.bin", os.O_RDONLY)
    began = time.process_time()
    for expert in range(8):
        os.preadv(fd, [_BUFFER[7 * expert * nbytes :][:nbytes]], expert * nbytes)
    spent = 1e3 * (time.process_time() - began) / 8
    os.close(fd)
    return spent


def governor(args: argparse.Namespace) -> dict[str, Any]:
    """Each fixed way and the governor, with the disk slowed to some multiples of computing."""
    folder = synthetic_model(args.work, "governed", GOVERNED, scales="F32", skew=1.0, calm=0.03)
    resident = Side(Keeper(open_weights(folder)))
    compute = statistics.median(timed(time.perf_counter, resident)[0] for _ in range(20))
    found: dict[str, Any] = {"compute_ms_per_token": compute}
    for ratio in args.ratios:
        found[str(ratio)] = _governed(args, folder, ratio, resident)
    return found


def _governed(args: argparse.Namespace, folder: Path, ratio: float, resident: Side) -> Any:
    throttle = Throttle(1e12)
    options = {"governor": "auto", "throttle": throttle, "hold": 10**9}
    side = Side(Keeper(open_weights(folder), slots=32, experts=options | {"governor": "inline"}))
    pool = side.keeper.pool
    assert pool is not None
    for _ in range(12):
        side.token()
    before = pool.counts.copy()
    for _ in range(40):
        side.token()
    per_token = pool.counts.minus(before).useful_bytes / 40
    compute = statistics.median(timed(time.perf_counter, resident)[0] for _ in range(10))
    throttle.bytes_per_second = per_token / (ratio * compute / 1e3)
    pool.common.governor = Governor(list(WAYS.values()), hold=10**9)
    while pool.common.governor.choice == "measuring":
        side.token()
    choice = pool.common.governor.choice
    fixed: dict[str, list[float]] = {name: [] for name in WAYS}
    asked: list[float] = []
    ahead = pool.counts.copy()
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            pool.common.governor = Governor([way])
            side.token()
            before = pool.counts.copy()
            fixed[name] += [timed(time.perf_counter, side)[0] for _ in range(4)]
            counts = pool.counts.minus(before)
            asked.append(1e3 * counts.useful_bytes / throttle.bytes_per_second / 4)
    ahead = pool.counts.minus(ahead)
    side.keeper.close()
    medians = {name: statistics.median(times) for name, times in fixed.items()}
    reading = statistics.mean(asked)
    hidden = {name: (medians["inline"] - value) / reading for name, value in medians.items()}
    return {
        "compute_ms": compute,
        "read_ms_per_token": reading,
        "ms_per_token": medians,
        "read_time_hidden": hidden,
        "governor": choice,
        "governor_over_best": medians[choice] / min(medians.values()) - 1,
        "prefetch": {"launched": ahead.launched, "used": ahead.used},
    }


def layouts(args: argparse.Namespace) -> dict[str, Any]:
    """One expert from records and from a stacked folder: cold (dropped from the page cache)."""
    shape = synthetic.shape_of("30b-a3b", 1)
    found: dict[str, Any] = {}
    for layout in ("records", "stacked"):
        folder = synthetic_model(args.work, f"one-layer-{layout}", shape, layout=layout)
        keeper = Keeper(open_weights(folder), slots=16)
        pool_source = _source(keeper)
        bank = Bank(keeper._parts.expert_format(0), 16)
        found[layout] = {
            "cold_ms": _reading(pool_source, bank, folder, cold=True),
            "warm_ms": _reading(pool_source, bank, folder, cold=False),
        }
        pool_source.close()
    return found


def _source(keeper: Keeper) -> Any:
    from qwen3_mlx.experts.records import RecordSource
    from qwen3_mlx.experts.store import TensorSource

    parts = keeper._parts
    if parts.records is not None:
        source = RecordSource(parts.records)
        source._unchecked.clear()  # the checksum of a first read is measured elsewhere
        return source
    return TensorSource(parts.checkpoint, parts.config)


def _reading(source: Any, bank: Bank, folder: Path, *, cold: bool) -> float:
    times = []
    for expert in np.random.default_rng(1).permutation(128)[:64].tolist():
        if cold:
            for path in folder.rglob("*"):
                if path.suffix in (".bin", ".safetensors"):
                    fd = os.open(path, os.O_RDONLY)
                    os.fsync(fd)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(fd)
        else:
            source.read(0, expert, bank.destination(expert % 16))
        began = time.perf_counter()
        source.read(0, expert, bank.destination(expert % 16))
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def plot(table: dict[int, dict[str, float]], experts: int) -> str:
    """Hit rate over slots as an SVG that reads on light and on dark pages."""
    wide, high, left, top = 640, 380, 60, 30
    colours = {"lru": "#3b7dd8", "lfu": "#d8833b", "belady": "#3ba55d"}
    x = lambda slots: left + (wide - left - 90) * slots / experts  # noqa: E731
    y = lambda rate: top + (high - top - 50) * (1 - rate)  # noqa: E731
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
        f'<text x="{left}" y="18">Hit rate over slots for each layer, tiny, decoded text</text>',
    ]
    for rate in (0, 0.25, 0.5, 0.75, 1):
        lines.append(f'<line x1="{left}" x2="{x(experts)}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" '
                     'stroke="#dddddd"/>')  # fmt: skip
        lines.append(f'<text x="{left - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">'
                     f'{100 * rate:.0f} %</text>')  # fmt: skip
    for slots in range(0, experts + 1, 2):
        lines.append(
            f'<text x="{x(slots):.1f}" y="{high - 28}" text-anchor="middle">{slots}</text>'
        )
    lines.append(f'<text x="{x(experts / 2):.1f}" y="{high - 8}" text-anchor="middle">slots of '
                 f'{experts} experts</text>')  # fmt: skip
    for number, name in enumerate(("belady", "lfu", "lru")):
        points = " ".join(f"{x(s):.1f},{y(row[name]):.1f}" for s, row in table.items())
        colour = colours[name]
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" '
                     'stroke-width="2.5"/>')  # fmt: skip
        lines.append(f'<text x="{x(experts) + 10:.1f}" y="{y(1) + 16 * number + 4:.1f}" '
                     f'fill="{colour}">{name}</text>')  # fmt: skip
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["hits", "miss", "governor", "layouts"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/qwen3-mlx-measure"))
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 1, 3])
    parser.add_argument("--ways", nargs="+", default=["inline"], choices=list(WAYS))
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--trace-out", type=Path)
    args = parser.parse_args()
    args.tokens = args.tokens or {"hits": 2000, "miss": 24}.get(args.what, 0)
    work = {"hits": hits, "miss": miss, "governor": governor, "layouts": layouts}[args.what]
    print(json.dumps(work(args), indent=2))


if __name__ == "__main__":
    main()
