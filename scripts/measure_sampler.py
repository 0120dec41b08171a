"""Times one draw from Qwen3's vocabulary with Qwen's settings, beside mlx-lm's way.

    python scripts/measure_sampler.py [ROUNDS]

mlx-lm's sampler takes log-probabilities, so making them is part of its draw.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import mlx.core as mx
from gains import Gain
from mlx_lm.sample_utils import make_sampler

from qwen3_mlx.engine.sampling import Sampler
from qwen3_mlx.presets import THINKING

VOCAB = 151_936


def seconds(draw: Callable[[], mx.array], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        mx.eval(draw())
    return (time.perf_counter() - began) / times


def main(rounds: int) -> None:
    mx.random.seed(0)
    logits = mx.random.normal((1, VOCAB)) * 3
    mx.eval(logits)
    ours = Sampler([THINKING], VOCAB)
    theirs = make_sampler(THINKING.temperature, THINKING.top_p, top_k=THINKING.top_k)

    def draw_ours() -> mx.array:
        return ours.draw(logits, [0.5])

    def draw_theirs() -> mx.array:
        token: mx.array = theirs(logits - mx.logsumexp(logits, keepdims=True))
        return token

    seconds(draw_ours, 3), seconds(draw_theirs, 1)
    pairs = [(seconds(draw_ours, 10), seconds(draw_theirs, 1)) for _ in range(rounds)]
    gain = Gain.of("one draw, vocabulary 151,936", (other / mine for mine, other in pairs))
    mine, other = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(f"ours {mine * 1e3:.2f} ms, mlx-lm {other * 1e3:.2f} ms")
    print(gain)
    gain.keep()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 21)
