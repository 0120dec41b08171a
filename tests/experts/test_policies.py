"""Policies, replays of traces, and the governor, all without a model."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from qwen3_mlx.errors import OptionError
from qwen3_mlx.experts.governor import WAYS, Governor, Way
from qwen3_mlx.experts.policy import POLICIES, Lfu, Lru, make_policy
from qwen3_mlx.experts.trace import Trace, belady, hit_rates, read_trace, replay


def skewed_steps(steps: int, experts: int, top_k: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Routing with favourites that change slowly."""
    draw = random.Random(seed)
    weights = [1 / (1 + rank) for rank in range(experts)]
    found = []
    for _ in range(steps):
        if draw.random() < 0.05:
            draw.shuffle(weights)
        wanted: dict[int, None] = {}
        while len(wanted) < top_k:
            wanted[draw.choices(range(experts), weights)[0]] = None
        found.append(tuple(wanted))
    return found


def test_lru_gives_up_the_oldest_use() -> None:
    policy = Lru()
    policy.use([1, 2, 3, 1])
    assert policy.victim({1, 2, 3}, ()) == 2
    assert policy.victim({1, 3}, {3}) == 1
    assert policy.victim({7, 3}, {3}) == 7  # held, and never used


def test_lfu_gives_up_the_rarest_and_forgets() -> None:
    policy = Lfu(half_life=2)
    for _ in range(5):
        policy.use([1])
    policy.use([2])
    assert policy.victim({1, 2}, ()) == 2
    for _ in range(20):
        policy.use([2])
    assert policy.victim({1, 2}, ()) == 1
    for _ in range(2000):  # the weights are brought down before they overflow
        policy.use([2])
    assert policy.victim({1, 2}, ()) == 1


def test_belady_is_the_optimum() -> None:
    """Against every possible choice of victims, on traces small enough to try them all."""
    for seed in range(12):
        steps = skewed_steps(9, 5, 2, seed)
        for slots in (2, 3, 4):
            assert belady(steps, slots)[0] == most_hits(steps, slots)


def most_hits(steps: list[tuple[int, ...]], slots: int) -> int:
    states: dict[frozenset[int], int] = {frozenset(): 0}
    for wanted in steps:
        following: dict[frozenset[int], int] = {}
        for held, hits in states.items():
            now = hits + sum(expert in held for expert in wanted)
            rest = [expert for expert in held if expert not in wanted]
            for count in range(min(len(rest), slots - len(wanted)) + 1):
                for kept in itertools.combinations(rest, count):
                    state = frozenset((*wanted, *kept))
                    following[state] = max(now, following.get(state, 0))
        states = following
    return max(states.values())


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_no_policy_beats_belady(policy: str) -> None:
    steps = skewed_steps(300, 16, 4)
    rates = []
    for slots in range(1, 17):
        hits, uses = replay(steps, slots, make_policy(policy))
        best, _ = belady(steps, slots)
        assert hits <= best <= uses == 1200
        rates.append(hits)
    assert rates == sorted(rates)
    assert rates[-1] == 1200 - len({expert for step in steps for expert in step})


def test_traces_come_back_from_their_file(tmp_path: Path) -> None:
    trace = Trace(16, 4)
    for layer in (0, 1):
        for step in skewed_steps(20, 16, 4, layer):
            trace.add(layer, step)
    trace.save(tmp_path / "t.trace")
    again = read_trace(tmp_path / "t.trace")
    assert again == trace
    assert list(hit_rates(again, [4])[4]) == [*POLICIES, "belady"]
    (tmp_path / "bad").write_text("hello\n")
    with pytest.raises(OptionError, match="is no trace"):
        read_trace(tmp_path / "bad")


#: Steps of heats and final of four ways, and the first of all, which nothing is known of.
RACE = 4 * 4 * 3 + 2 * 12 * 4 + 2


class World:
    """A clock that runs as the way that is chosen takes, with noise."""

    def __init__(self, seconds: dict[str, float], noise: float, miss: float = 0.0) -> None:
        self.seconds, self.noise, self.miss, self.now, self.misses = seconds, noise, miss, 1.0, 0
        self.random = random.Random(3)

    def clock(self) -> float:
        return self.now

    def run(self, governor: Governor, steps: int) -> list[str]:
        names = []
        for _ in range(steps):
            way = governor.step(self.misses)
            names.append(way.name)
            missed = self.random.randrange(20)
            self.misses += missed
            self.now += self.seconds[way.name] * (1 + self.noise * self.random.expovariate(1))
            self.now += self.miss * missed
        return names


@pytest.mark.parametrize("best", list(WAYS))
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_governor_finds_the_fastest_way(best: str, noise: float) -> None:
    world = World({name: 1.0 if name == best else 1.25 for name in WAYS}, noise)
    governor = Governor(list(WAYS.values()), clock=world.clock)
    assert governor.choice == "measuring"
    world.run(governor, RACE)
    assert governor.choice == best
    assert set(world.run(governor, 200)) == {best}


def test_the_governor_notices_that_the_disk_changed() -> None:
    world = World({"inline": 1.0, "threads": 1.3, "overlap": 1.2, "prefetch": 1.4}, 0.0)
    governor = Governor(list(WAYS.values()), hold=50, clock=world.clock)
    world.run(governor, RACE)
    assert governor.choice == "inline"
    world.seconds |= {"inline": 3.0}
    world.run(governor, 200)
    assert governor.choice == "overlap"


@pytest.mark.parametrize("best", list(WAYS))
def test_a_machine_that_gets_slower_meanwhile(best: str) -> None:
    """Each turn is compared with its own round, so a drift is nobody's fault."""
    world = World({name: 1.0 if name == best else 1.06 for name in WAYS}, 0.02)
    governor = Governor(list(WAYS.values()), clock=world.clock)
    for _ in range(RACE):
        world.run(governor, 1)
        world.seconds = {name: each * 1.01 for name, each in world.seconds.items()}
    assert governor.choice == best


@pytest.mark.parametrize("best", list(WAYS))
def test_tokens_that_miss_more_than_others(best: str) -> None:
    """Steps of 1 to 5 seconds, of which a way saves a twentieth of a second."""
    world = World({name: 1.0 if name == best else 1.05 for name in WAYS}, 0.02, miss=0.2)
    governor = Governor(list(WAYS.values()), clock=world.clock)
    world.run(governor, RACE)
    assert governor.choice == best


def test_pauses_do_not_count() -> None:
    """Between two answers minutes may pass; that is nobody's step."""
    world = World(dict.fromkeys(WAYS, 1.0) | {"overlap": 0.9}, 0.0)
    governor = Governor(list(WAYS.values()), clock=world.clock)
    for _ in range(RACE):
        world.run(governor, 3)
        governor.pause()
        world.now += 1000
    assert governor.choice == "overlap"


def test_a_single_way_is_never_tried_against_others() -> None:
    governor = Governor([Way("only", threads=1)])
    assert governor.choice == "only"
    assert {governor.step().name for _ in range(300)} == {"only"}
