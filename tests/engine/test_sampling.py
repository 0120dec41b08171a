"""The sampler against written-out definitions in numpy."""

from __future__ import annotations

import random

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx.engine.request import DrawRule
from qwen3_mlx.engine.sampling import Penalties, Sampler, top_k

RULES = [
    DrawRule(temperature=0.6, top_k=20, top_p=0.95),
    DrawRule(temperature=0.7, top_k=20, top_p=0.8),
    DrawRule(temperature=1.5, top_k=7),
    DrawRule(temperature=1.0, top_p=0.6),
    DrawRule(temperature=0.9, min_p=0.1),
    DrawRule(temperature=1.0, top_k=12, top_p=0.9, min_p=0.05),
    DrawRule(temperature=1.0),
]


def distribution(logits: np.ndarray, rule: DrawRule) -> np.ndarray:
    """What Transformers' warpers give: temperature, top-k, top-p, min-p, in float64."""
    scaled = logits.astype(np.float64) / rule.temperature
    if rule.top_k:
        scaled[scaled < np.sort(scaled)[-rule.top_k]] = -np.inf
    p = softmax(scaled)
    if rule.top_p < 1:
        order = np.argsort(p)
        kept = np.cumsum(p[order]) > 1 - rule.top_p
        kept[-1] = True
        scaled[order[~kept]] = -np.inf
        p = softmax(scaled)
    if rule.min_p:
        scaled[p < rule.min_p * p.max()] = -np.inf
    return softmax(scaled)


def softmax(values: np.ndarray) -> np.ndarray:
    e = np.exp(values - values.max())
    return e / e.sum()


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("vocab", [50, 5000])
def test_distribution_equals_the_warpers(rule: DrawRule, vocab: int) -> None:
    """Exact support, and chi-square over 100,000 draws (4,000 of the larger vocabulary)."""
    logits = np.random.default_rng(3).normal(0, 2.5, vocab).astype(np.float32)
    expected = distribution(logits, rule)
    draws = random.Random(5)
    counts = np.zeros(vocab)
    rows, times = (2000, 50) if vocab == 50 else (200, 20)
    sampler = Sampler([rule] * rows, vocab)
    batch = mx.broadcast_to(mx.array(logits), (rows, vocab))
    for _ in range(times):
        uniforms = [draws.getrandbits(24) / (1 << 24) for _ in range(rows)]
        np.add.at(counts, np.array(sampler.draw(batch, uniforms)), 1)

    assert not counts[expected == 0].any()
    likely = expected * rows * times >= 5
    rest = expected[~likely].sum() * rows * times
    chi = (
        (counts[likely] - expected[likely] * rows * times) ** 2 / (expected[likely] * rows * times)
    ).sum()
    if rest > 5:
        chi += (counts[~likely].sum() - rest) ** 2 / rest
    degrees = likely.sum() - (rest <= 5)
    # Mean `degrees`, deviation sqrt(2 degrees): five deviations is one false alarm in 10^6.
    assert chi < degrees + 5 * np.sqrt(2 * max(degrees, 1)) + 10


@given(st.integers(1, 30), st.integers(1, 9000), st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=60)
def test_top_k_is_exact(k: int, vocab: int, rows: int, seed: int) -> None:
    k = min(k, vocab)
    logits = np.random.default_rng(seed).normal(size=(rows, vocab)).astype(np.float32)
    if seed == 0:
        logits = np.round(logits)  # many ties
    ids, values = (np.array(a) for a in top_k(mx.array(logits), k))

    assert (values == -np.sort(-logits, axis=-1)[:, :k]).all()
    assert (np.take_along_axis(logits, ids.astype(np.int64), axis=-1) == values).all()
    assert all(len(set(row)) == k for row in ids.tolist())


def test_rows_with_rules_of_their_own_draw_as_if_alone() -> None:
    rules = [*RULES, DrawRule()]
    logits = mx.array(np.random.default_rng(1).normal(0, 3, (len(rules), 4000)).astype(np.float32))
    uniforms = [0.1 * n for n in range(len(rules))]
    together = Sampler(rules, 4000).draw(logits, uniforms).tolist()
    alone = [
        Sampler([rule], 4000).draw(logits[n : n + 1], uniforms[n : n + 1]).item()
        for n, rule in enumerate(rules)
    ]

    assert together == alone


def test_the_largest_uniform_stays_within_the_support() -> None:
    rule = DrawRule(temperature=1.0, top_k=3, top_p=0.9)
    logits = mx.array([[5.0, 4.0, 3.0, 2.0, 1.0] + [-9.0] * 995])

    assert Sampler([rule], 1000).draw(logits, [1 - 2**-24]).item() in (0, 1)
    assert Sampler([rule], 1000).draw(logits, [0.0]).item() == 0


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.lists(st.integers(0, 5)))
def test_penalties_along_a_guess_are_those_of_each_token(guess: list[int], said: list[int]) -> None:
    rule = DrawRule(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25)
    penalties = Penalties([rule], [[1, 1, 4]], 6)
    for token in [*said, guess[0]]:
        penalties.count(mx.array([token]))
    logits = mx.random.normal((len(guess), 6), key=mx.random.key(len(said)))
    together = penalties.along(guess).apply(logits)

    for row, token in enumerate(guess):
        if row:
            penalties.count(mx.array([token]))
        assert mx.array_equal(together[row], penalties.apply(logits[row : row + 1])[0])


def test_penalties_as_written_out() -> None:
    rule = DrawRule(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25)
    penalties = Penalties([rule], [[1, 1, 4]], 6)
    for token in (2, 2, 3):
        penalties.count(mx.array([token]))
    logits = np.array([1.0, 2.0, 3.0, -1.0, -2.0, 0.5], np.float32)
    expected = logits.copy()
    for seen in (1, 2, 3, 4):  # of the prompt or the answer
        expected[seen] = logits[seen] / 1.3 if logits[seen] > 0 else logits[seen] * 1.3
    expected[2] -= 0.5 + 2 * 0.25
    expected[3] -= 0.5 + 0.25

    assert np.allclose(np.array(penalties.apply(mx.array([logits.tolist()])))[0], expected)
