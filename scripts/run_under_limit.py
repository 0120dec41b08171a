#!/usr/bin/env python3
"""Decode some tokens of a model under a memory limit, and say what it really took.

    scripts/run_under_limit.py /tmp/m30 --memory-limit 4GB
    scripts/run_under_limit.py /tmp/m30 --memory-limit 4GB --ulimit     plan + 1 GB of addresses
    scripts/run_under_limit.py /tmp/m30 --memory-limit 6GB --expect DIGEST

Prints one JSON object: plan, peak resident memory (VmHWM of /proc/self/status), seconds for
each token, and a digest of the logits, which must not depend on the limit. No tokenizer is
needed: ids are fed. With --expect the exit status is 1 where the digest differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.loading import open_weights
from qwen3_mlx.streaming import Keeper


def peak_resident() -> int:
    """VmHWM in bytes, of this process alone."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system has no VmHWM")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Load, read the prompt, decode; the figures."""
    keeper = Keeper(
        open_weights(args.folder), args.dtype, memory_limit=args.memory_limit,
        context=args.context,
    )  # fmt: skip
    plan = keeper.plan
    assert plan is not None
    if args.ulimit:
        most = plan.total_bytes + 10**9
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    began = time.perf_counter()
    model = keeper.read(lambda nbytes: None)
    loaded = time.perf_counter()
    prompt = [(37 * n + 11) % min(4000, model.config.vocab_size) for n in range(args.prompt)]
    cache, digest, tokens, times = KVCache(model.config), hashlib.sha256(), [], []
    for start in range(0, len(prompt), plan.chunk):
        hidden = model.hidden(mx.array([prompt[start : start + plan.chunk]]), cache)
        mx.eval(cache.arrays())
    logits = model.logits(hidden[:, -1])
    for _ in range(args.tokens):
        tokens.append(int(mx.argmax(logits).item()))
        digest.update(np.array(logits.astype(mx.float32)).tobytes())
        then = time.perf_counter()
        logits = model.logits(model.hidden(mx.array([[tokens[-1]]]), cache)[:, -1])
        mx.eval(logits)
        times.append(time.perf_counter() - then)
    digest.update(np.array(logits.astype(mx.float32)).tobytes())
    stats = keeper.pool.stats() if keeper.pool is not None else None
    keeper.close()
    return {
        "limit": plan.limit,
        "plan_bytes": plan.total_bytes,
        "vm_hwm_bytes": peak_resident(),
        "mlx_peak_bytes": mx.get_peak_memory(),
        "address_space_limited_to": plan.total_bytes + 10**9 if args.ulimit else None,
        "slots": sorted(set(plan.slots.values())),
        "chunk": plan.chunk,
        "load_seconds": round(loaded - began, 2),
        "seconds_per_token": round(sum(times) / len(times), 3),
        "hit_rate": None if stats is None else round(stats.hit_rate, 4),
        "read_amplification": None if stats is None else stats.read_amplification,
        "tokens": tokens,
        "logits_sha256": digest.hexdigest(),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory-limit", required=True)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompt", type=int, default=4, help="tokens to read first")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--ulimit", action="store_true", help="limit addresses to plan + 1 GB")
    parser.add_argument("--expect", help="the digest of another run")
    args = parser.parse_args()
    try:
        figures = run(args)
    except Qwen3Error as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(figures, indent=2))
    return 0 if args.expect in (None, figures["logits_sha256"]) else 1


if __name__ == "__main__":
    sys.exit(main())
