"""Faults of disks and files: each a clear error, and never a wrong token."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from experts.moe_models import SHAPE, decode_logits, resident, streamed

import qwen3_mlx
from qwen3_mlx import EngineError, ExpertReadError, OptionError, Qwen3, Sampling
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.pool import ExpertPool
from qwen3_mlx.experts.store import Files, TensorSource, Throttle
from qwen3_mlx.loading import open_weights
from qwen3_mlx_convert import convert

PROMPT = [(7 * n) % 300 for n in range(20)]
WAYS = ("inline", "threads", "overlap", "prefetch")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("faults") / "hf", moe=True, dtype="F32", tokenizer=True, **SHAPE
    )


@pytest.fixture
def records(source: Path, tmp_path: Path) -> Path:
    convert(source, tmp_path / "records", bits=None, layout="records")
    return tmp_path / "records"


@pytest.fixture
def loaded(source: Path) -> Iterator[Callable[..., Qwen3]]:
    models: list[Qwen3] = []

    def load(folder: Path = source, slots: int = 9, **options: Any) -> Qwen3:
        models.append(qwen3_mlx.load(str(folder), slots=slots, context=512, experts=options))
        return models[-1]

    yield load
    for model in models:
        model.close()


def ask(model: Qwen3, **options: Any) -> str:
    greedy = Sampling(temperature=0)
    return model.ask("hello", sampling=greedy, max_tokens=6, thinking=False, **options).text


def repeat(times: int, action: Callable[[], Any]) -> None:
    for _ in range(times):
        action()


def failing(error: int, after: int = 0) -> Any:
    """A preadv that fails from some call on."""
    preadv, calls = os.preadv, 0

    def read(fd: int, buffers: Any, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(error, os.strerror(error))
        return preadv(fd, buffers, offset)

    return read


@pytest.mark.parametrize("way", WAYS)
def test_a_read_error_in_mid_decode(
    way: str, loaded: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer fails with a sentence; when the disk is back, the model goes on as before."""
    model = loaded(governor=way)
    want = ask(model)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing(errno.EIO, after=40))
        with pytest.raises(EngineError, match=r"Input/output error.*disk is connected"):
            repeat(50, lambda: ask(model))
        for _ in range(2):  # unplugged: reads fail from then on
            with pytest.raises(EngineError, match="Input/output error"):
                ask(model)
    assert ask(model) == want


def test_short_reads_are_finished(
    source: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv = os.preadv

    def short(fd: int, buffers: Any, offset: int) -> int:
        return preadv(fd, [buffers[0][: max(1, len(buffers[0]) * 2 // 3)]], offset)

    want = {each: decode_logits(resident(each), PROMPT, 8) for each in (source, records)}
    monkeypatch.setattr(os, "preadv", short)
    for folder in (source, records):
        with streamed(folder, 9) as (model, _):
            assert (decode_logits(model, PROMPT, 8) == want[folder]).all()


def test_a_file_that_ends_early(records: Path, loaded: Any) -> None:
    file = records / "experts" / "layer-001.bin"
    size = file.stat().st_size
    model = loaded(records)
    os.truncate(file, size // 2)
    with pytest.raises(EngineError, match=r"layer-001.bin (ended at byte|was changed)"):
        ask(model)
    with pytest.raises(CheckpointError, match="cut short"):
        loaded(records)


def test_a_manifest_of_another_make(records: Path, loaded: Any) -> None:
    path = records / "experts.json"
    whole = json.loads(path.read_text())
    for broken in ({"layers": []}, {"layers": {"0": 3}}, {"layers": {"0": {"parts": "no"}}}):
        path.write_text(json.dumps(whole | broken))
        with pytest.raises(CheckpointError, match=r"experts\.json is damaged .*again"):
            loaded(records)


def test_experts_of_one_layer_are_stored_alike(source: Path, tmp_path: Path) -> None:
    """What was read as numbers of another type would be no expert at all."""
    tensors = dict(mx.load(str(source / "model.safetensors")))
    name = "model.layers.1.mlp.experts.5.up_proj.weight"
    tensors[name] = tensors[name].astype(mx.bfloat16)
    shutil.copytree(source, tmp_path / "mixed")
    mx.save_safetensors(str(tmp_path / "mixed" / "model.safetensors"), tensors)
    with (
        pytest.raises(CheckpointError, match=r"experts\.5\.up_proj.* is stored as BF16.* as F32"),
        streamed(tmp_path / "mixed", 6),
    ):
        pass


def test_a_checksum_that_differs(records: Path, loaded: Any) -> None:
    file = records / "experts" / "layer-002.bin"
    data = bytearray(file.read_bytes())
    data[:: len(data) // 24] = bytes(byte ^ 1 for byte in data[:: len(data) // 24])
    file.write_bytes(data)
    with pytest.raises(EngineError, match="has the checksum"):
        ask(loaded(records))


def test_checksums_are_verified_once_or_always(records: Path) -> None:
    for verify in (False, True):
        with streamed(records, 2, governor="inline", verify=verify) as (model, pool):
            decode_logits(model, PROMPT, 8)
            checked: list[int] = []
            check = pool._source._check  # type: ignore[attr-defined]
            pool._source._check = lambda *a, c=check, n=checked: (n.append(1), c(*a))  # type: ignore[attr-defined]
            before = pool.counts.reads
            decode_logits(model, PROMPT, 8)
            assert pool.counts.reads > before
            assert (len(checked) == pool.counts.reads - before) is verify


@pytest.mark.parametrize("how", ["rename", "rewrite", "delete"])
def test_a_file_that_changes_while_it_is_open(how: str, records: Path, loaded: Any) -> None:
    model = loaded(records, slots=6)
    file = records / "experts" / "layer-000.bin"
    if how == "delete":
        file.unlink()
    elif how == "rename":
        other = file.with_suffix(".new")
        other.write_bytes(bytes(file.stat().st_size))
        other.rename(file)
    else:
        with file.open("r+b") as opened:
            opened.write(bytes(1000))
        os.utime(file, ns=(1, 1))
    with pytest.raises(EngineError, match=r"changed, replaced or removed|has the checksum"):
        ask(model)


@pytest.mark.parametrize("way", WAYS)
def test_reads_slower_than_the_deadline(way: str, loaded: Any) -> None:
    """The request ends in time, and the next one gets the right answer."""
    model = loaded(governor=way, throttle=(throttle := Throttle(1e9)))
    want = ask(model)
    source, seen = model._keeper.pool._source, []
    read = source.read
    source.read = lambda layer, expert, into: (seen.append(expert), read(layer, expert, into))[1]
    throttle.bytes_per_second = 2e5  # 250 ms for an expert
    reply = model.ask("hello", sampling=Sampling(temperature=0), timeout=0.4)
    assert reply.finish_reason == "timeout"
    assert len(seen) < 12  # what was under way, of the dozens that the prompt alone wants
    throttle.bytes_per_second = 1e9
    assert ask(model) == want


def test_a_guess_waits_for_abandoned_reads(source: Path) -> None:
    """A wave that was given up may still write into the half that the guess is read into."""
    with streamed(source, 6, governor="prefetch") as (model, pool):
        decode_logits(model, PROMPT, 4)
        shared = next(iter(pool._shared.values()))
        gate, read = threading.Event(), pool._source.read
        pool._source.read = lambda *asked: (gate.wait(30), read(*asked))[1]  # type: ignore[method-assign]
        shared.start(0, [7], [0], shared.halves[0])
        shared.abandon()
        shared.guesses[0], pool.common.patience.deadline = None, time.monotonic()
        with pytest.raises(TimeoutError):
            shared.guess(0, 2, [3])
        gate.set()
        pool.common.patience.deadline = None
        shared.guess(0, 2, [3])
        assert not shared._abandoned


@pytest.mark.parametrize("way", WAYS)
def test_a_reader_that_raises(way: str, source: Path) -> None:
    with streamed(source, 6, governor=way) as (model, pool):
        want = decode_logits(model, PROMPT, 6)
        read = pool._source.read

        def broken(layer: int, expert: int, into: Any) -> int:
            if expert % 5 == 0:
                raise MemoryError("no buffer")
            return read(layer, expert, into)

        pool._source.read = broken  # type: ignore[method-assign]
        with pytest.raises(ExpertReadError, match="MemoryError: no buffer"):
            repeat(20, lambda: decode_logits(model, PROMPT, 6))
        pool._source.read = read  # type: ignore[method-assign]
        assert (decode_logits(model, PROMPT, 6) == want).all()


def test_two_models_stream_in_one_process(source: Path, records: Path) -> None:
    want = [decode_logits(resident(folder), PROMPT, 8) for folder in (source, records)]
    with streamed(source, 6, poison=True) as (one, _), streamed(records, 9) as (two, _):
        for model, expected in ((one, want[0]), (two, want[1]), (one, want[0])):
            assert (decode_logits(model, PROMPT, 8) == expected).all()


def test_two_models_answer_at_once(source: Path, records: Path, loaded: Any) -> None:
    models = [loaded(source), loaded(records, slots=6)]
    want = [ask(model) for model in models]
    found: list[list[str]] = [[], []]

    def work(number: int) -> None:
        found[number] = [ask(models[number]) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[want[0]] * 3, [want[1]] * 3]


def layer_files() -> int:
    """Files of experts that this process holds open."""
    here = Path("/proc/self/fd")
    return sum("layer-" in os.readlink(each) for each in here.iterdir() if each.exists())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed by Linux")
def test_closing_gives_back_files_and_threads(records: Path) -> None:
    qwen3_mlx.load("tiny").close()  # the engine's thread stays for the next one
    files, threads = layer_files(), set(threading.enumerate())
    model = qwen3_mlx.load(str(records), slots=6, context=256, experts={"governor": "threads"})
    ask(model)
    assert layer_files() == files + 3
    model.close()
    model.close()
    assert layer_files() == files
    assert set(threading.enumerate()) <= threads


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed by Linux")
@pytest.mark.parametrize("hard", [4096, resource.RLIM_INFINITY])
def test_more_files_than_macos_grants_at_first(
    hard: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, asked = [8, hard], []

    def set_limit(what: int, wanted: tuple[int, int]) -> None:
        asked.append(wanted)
        limits[:] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    files = Files()
    for number in range(12):
        path = tmp_path / str(number)
        path.touch()
        files.descriptor(path)
        assert len(asked) == (number >= 4)  # when half of the first limit is used, and once
    files.close()

    assert asked == [(min(10_240, hard) if hard > 0 else 10_240, hard)]


def test_a_load_that_fails_gives_back_its_files(records: Path) -> None:
    files = layer_files()
    with pytest.raises(OptionError, match="governor is 'none'"):
        qwen3_mlx.load(str(records), slots=6, experts={"governor": "none"})
    assert layer_files() == files


def test_a_closed_pool_reads_no_more(records: Path, source: Path) -> None:
    for folder in (records, source):
        with streamed(folder, 6, governor="inline") as (model, _):
            decode_logits(model, PROMPT, 2)
        with pytest.raises(ExpertReadError):
            decode_logits(model, [299, 5, 77], 8)


def test_bytes_of_a_fault_never_reach_a_slot(source: Path) -> None:
    """A read that fails half way leaves its slot empty, not filled."""
    with streamed(source, 6, governor="inline") as (model, pool):
        layer = pool.layers[0]
        read = pool._source.read

        def half(layer: int, expert: int, into: Any) -> int:
            np.frombuffer(into.tensors[0], np.uint8)[:100] = 7
            raise OSError(errno.EIO, "half way")

        pool._source.read = half  # type: ignore[method-assign]
        with pytest.raises(ExpertReadError, match="half way"):
            layer(mx.ones((1, 64)), mx.array([[3]]), decoding=True)
        assert 3 not in layer.where
        assert len(layer._empty) == 6
        pool._source.read = read  # type: ignore[method-assign]
        assert (decode_logits(model, PROMPT, 4) == decode_logits(resident(source), PROMPT, 4)).all()


class Gated(TensorSource):
    """Experts whose reads wait until they are let go."""

    gates: dict[int, threading.Event]

    def read(self, layer: int, expert: int, into: Any) -> Any:
        if expert in self.gates:
            self.gates[expert].wait(20)
        return super().read(layer, expert, into)


def test_a_read_that_was_given_up_never_writes_into_a_slot_that_is_used_again() -> None:
    """Late, and beside an expert that was read ahead: that one needs no read of its own."""
    weights = open_weights(Path(qwen3_mlx.__file__).parent / "tiny")
    config = weights.config
    first, second = [layer for layer in range(config.layers) if config.is_moe(layer)][:2]
    source = Gated(weights.checkpoint, config)

    def one_layer() -> tuple[ExpertPool, Any]:
        slots = {first: 4, second: 4}
        pool = ExpertPool(config, source, slots, 4, PoolOptions(governor="prefetch"))
        return pool, pool.layer(second)

    x = mx.random.normal((1, config.hidden_size), key=mx.random.key(0)).astype(mx.bfloat16)
    only = mx.array([[5, 5, 5, 5]])
    source.gates = {}
    expected = one_layer()[1](x, only, decoding=True)
    mx.eval(expected)
    pool, layer = one_layer()

    source.gates = {expert: threading.Event() for expert in (5, 6, 7, 8)}
    layer.shared.guess(second % 2, second, [5])
    pool.common.patience.deadline = time.monotonic() + 0.2
    with pytest.raises(TimeoutError):
        layer(x, mx.array([[5, 6, 7, 8]]), decoding=True)
    pool.common.patience.deadline = None
    for expert in (5, 6, 7):
        source.gates[expert].set()
    threading.Timer(0.3, source.gates[8].set).start()  # in the middle of the next step
    for _ in range(2):
        assert mx.array_equal(layer(x, only, decoding=True), expected)
        source.gates[8].wait()
        time.sleep(0.1)
    pool.close()
