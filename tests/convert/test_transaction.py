"""Interrupted at any instant, a conversion goes on and ends in the same bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx.errors import OutputExistsError, Qwen3Error
from qwen3_mlx_convert import ConvertProgress, convert, durable, pipeline
from qwen3_mlx_convert.packing import pack_folder, unpack_folder
from qwen3_mlx_convert.verify import verify
from tests.checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def _save_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CHECKPOINT_SECONDS", 0.0)


def _kills(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.convert.kills", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _same(one: Path, other: Path) -> None:
    names = [sorted(path.relative_to(each) for path in each.rglob("*")) for each in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        if (one / name).is_file():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def _stop_half_way(state: ConvertProgress) -> None:
    if state.done_bytes > state.total_bytes // 2:
        raise KeyboardInterrupt


def test_killed_at_every_named_step(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, num_hidden_layers=1, num_experts=2)
    result = _kills(str(source), str(tmp_path / "work"), "--ends", "--checkpoint-seconds", "0")
    assert result["struck"] == result["kills"] >= 30


def test_records_killed_at_named_steps(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, num_hidden_layers=1, num_experts=2)
    result = _kills(str(source), str(tmp_path / "work"), "--ends", "--layout", "records")
    assert result["struck"] == result["kills"] >= 30


def test_killed_at_random_instants(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, shards=2)
    result = _kills(str(source), str(tmp_path / "work"), "--random", "6",
                    "--checkpoint-seconds", "0.01")  # fmt: skip
    assert result["kills"] == 6


def test_the_steps_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(durable, "on_step", seen.append)
    convert(write_checkpoint(tmp_path / "source"), tmp_path / "out", bits=4)
    for name in ("fsync model.safetensors", "fsync config.json", "fsync folder", "fsync parent",
                 "fsync journal", "journal", "rename"):  # fmt: skip
        assert f"{name} before" in seen, name
        assert f"{name} after" in seen, name
    # the last journal line and the folder are on the disk before the name is given
    assert seen.index("rename before") > max(
        place for place, name in enumerate(seen) if name == "fsync journal after"
    )


def test_an_interrupted_conversion_goes_on(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, shards=2)
    convert(source, tmp_path / "whole", bits=4)
    out = tmp_path / "deep" / "out"
    with pytest.raises(KeyboardInterrupt):
        convert(source, out, bits=4, progress=_stop_half_way)
    assert sorted(os.listdir(out.parent)) == [".out.journal", ".out.partial"]
    seen: list[ConvertProgress] = []
    convert(source, out, bits=4, progress=seen.append)
    assert seen[0].resumed_bytes > seen[0].total_bytes // 2
    assert os.listdir(out.parent) == ["out"]
    _same(tmp_path / "whole", out)


@pytest.mark.parametrize("change", ["bits", "weights", "config"])
def test_another_plan_starts_anew(tmp_path: Path, change: str) -> None:
    source = write_checkpoint(tmp_path / "source")
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", bits=4, progress=_stop_half_way)
    bits = 8 if change == "bits" else 4
    if change == "weights":
        write_checkpoint(tmp_path / "source", seed=1)
    if change == "config":
        write_checkpoint(tmp_path / "source", rope_theta=5e6)
    seen: list[ConvertProgress] = []
    convert(source, tmp_path / "out", bits=bits, progress=seen.append)
    assert seen[0].resumed_bytes == 0
    convert(source, tmp_path / "whole", bits=bits)
    _same(tmp_path / "whole", tmp_path / "out")


def test_another_plan_goes_on_too_when_it_is_interrupted(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, shards=2)
    for bits in (4, 8):
        with pytest.raises(KeyboardInterrupt):
            convert(source, tmp_path / "out", bits=bits, progress=_stop_half_way)
    seen: list[ConvertProgress] = []
    convert(source, tmp_path / "out", bits=8, progress=seen.append)
    assert seen[0].resumed_bytes > seen[0].total_bytes // 2
    convert(source, tmp_path / "whole", bits=8)
    _same(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / ".out.journal").write_bytes(b"\0\0\0"),
        lambda p: (p / ".out.journal").write_text('{"plan": "x"}\n[]\n{"do'),
        lambda p: (p / ".out.journal").write_bytes(
            (p / ".out.journal").read_bytes() + b'{"done": 9'
        ),
        lambda p: (p / ".out.partial" / "model.safetensors").unlink(),
        lambda p: os.truncate(p / ".out.partial" / "model.safetensors", 100),
        lambda p: (p / ".out.partial").rename(p / "elsewhere"),
    ],
)
def test_a_damaged_remainder_does_no_harm(tmp_path: Path, damage: Any) -> None:
    source = write_checkpoint(tmp_path / "source")
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", bits=4, progress=_stop_half_way)
    damage(tmp_path)
    convert(source, tmp_path / "out", bits=4)
    convert(source, tmp_path / "whole", bits=4)
    _same(tmp_path / "whole", tmp_path / "out")


def test_two_at_once(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    descriptor = os.open(tmp_path / ".out.journal", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Qwen3Error, match=r"another process is writing .*out at this moment"):
        convert(source, tmp_path / "out", bits=4)
    os.close(descriptor)  # as when that process is killed: nothing stale remains
    convert(source, tmp_path / "out", bits=4)
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


def test_a_target_that_appears_meanwhile_is_not_touched(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")

    def appear(_: ConvertProgress) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)

    for _ in range(2):
        with pytest.raises(OutputExistsError, match=r"was not touched.*what is done is kept"):
            convert(source, tmp_path / "out", bits=4, progress=appear)
        assert os.listdir(tmp_path / "out") == []
    (tmp_path / "out").rmdir()
    seen: list[ConvertProgress] = []
    convert(source, tmp_path / "out", bits=4, progress=seen.append)
    assert not seen  # there was nothing left to do but the name
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]
    convert(source, tmp_path / "whole", bits=4)
    _same(tmp_path / "whole", tmp_path / "out")


def test_a_target_that_appears_before_the_rename_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "source")

    def stop(*_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(durable, "rename", stop)  # the journal says "commit" by now
        with pytest.raises(KeyboardInterrupt):
            convert(source, tmp_path / "out", bits=4)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExistsError, match="was not touched"):
        convert(source, tmp_path / "out", bits=4)
    assert os.listdir(tmp_path / "out") == []


def test_a_source_that_goes_away_costs_nothing(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", shards=2)
    shard, away = source / "model-00002-of-00002.safetensors", tmp_path / "away"
    convert(source, tmp_path / "whole", bits=4)

    def unplug(_: ConvertProgress) -> None:
        if shard.exists():
            shard.rename(away)

    with pytest.raises(Qwen3Error, match=r"00002.safetensors cannot be read \(No such file"):
        convert(source, tmp_path / "out", bits=4, progress=unplug)
    away.rename(shard)
    seen: list[ConvertProgress] = []
    convert(source, tmp_path / "out", bits=4, progress=seen.append)
    assert seen[0].resumed_bytes > 0
    _same(tmp_path / "whole", tmp_path / "out")


# A full disk.


@pytest.mark.parametrize("call", range(0, 60, 7))
def test_no_space_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    source = write_checkpoint(tmp_path / "source")
    convert(source, tmp_path / "whole", bits=4)
    plain, left = durable.write_at, [call]

    def full(descriptor: int, data: Any, offset: int | None) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(descriptor, data, offset)

    monkeypatch.setattr(durable, "write_at", full)
    with pytest.raises(Qwen3Error, match=r"No space left on device\); what was done is kept"):
        convert(source, tmp_path / "out", bits=4)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    convert(source, tmp_path / "out", bits=4)
    _same(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize("name", ["sha256.json", "experts.json", "model.safetensors"])
def test_no_space_for_a_file_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, num_hidden_layers=1)
    stacked, whole, out, back = (tmp_path / each for each in ("stacked", "whole", "out", "back"))
    convert(source, whole, bits=4, layout="records")
    convert(source, stacked, bits=4)
    plain = durable.flush

    def full(descriptor: int, what: str) -> None:
        if what == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(descriptor, what)

    monkeypatch.setattr(durable, "flush", full)
    with pytest.raises(Qwen3Error, match=r"No space left on device\); what was done is kept"):
        convert(source, out, bits=4, layout="records")
    with pytest.raises(Qwen3Error, match=r"No space left on device\); what was begun is removed"):
        pack_folder(stacked, tmp_path / "packed", delete_source=True)
    if name != "experts.json":
        with pytest.raises(Qwen3Error, match="what was begun is removed"):
            unpack_folder(whole, back, delete_source=True)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == [
        ".out.journal", ".out.partial", "source", "stacked", "whole",
    ]  # fmt: skip
    convert(source, out, bits=4, layout="records")
    _same(whole, out)
    verify(out)
    verify(stacked)


def test_hashes_are_on_the_disk_before_the_name_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "source", moe=True, tokenizer=True)
    convert(source, tmp_path / "stacked", bits=4)
    seen: list[str] = []
    monkeypatch.setattr(durable, "on_step", seen.append)
    pack_folder(tmp_path / "stacked", tmp_path / "packed")
    for name in ("sha256.json", "experts.json", "tokenizer.json", "experts/layer-002.bin"):
        committed = len(seen) - seen[::-1].index("journal before")  # the last line of the journal
        assert seen.index(f"fsync {name} after") < committed < seen.index("rename before"), name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_real_full_disk(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "source", vocab_size=16_000, tokenizer=True)
    target = small_disk / "out"
    with pytest.raises(Qwen3Error, match=r"the result needs .* free; nothing was written"):
        convert(source, target, bits=4)
    assert os.listdir(small_disk) == []
    monkeypatch.setattr(pipeline, "_SIDE_BYTES", -(10**9))  # the check is passed, the disk is not
    with pytest.raises(Qwen3Error, match="No space left on device"):
        convert(source, target, bits=4)
    assert sorted(os.listdir(small_disk)) == [".out.journal", ".out.partial"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    convert(source, target, bits=4)
    convert(source, tmp_path / "whole", bits=4)
    _same(tmp_path / "whole", target)
