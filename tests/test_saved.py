"""Prefixes on disk: used where they fit exactly, refused and removed where they do not."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint

import qwen3_mlx
from qwen3_mlx import OptionError, PromptError, Qwen3, Reply, Sampling, hub
from qwen3_mlx.loading import open_weights
from qwen3_mlx.saved import PrefixStore, SavedPrefixError, fingerprint

SYSTEM = "You answer briefly. " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("saved") / "model", dtype="F32", tokenizer=True)


def files() -> list[Path]:
    return sorted((hub.data_dir() / "prefixes").glob("*"), key=lambda path: path.stat().st_mtime)


def ask(folder: Path, **options: Any) -> Reply:
    """In a model of its own, as another process would."""
    with qwen3_mlx.load(str(folder), **options) as model:
        return one(model)


def one(model: Qwen3) -> Reply:
    greedy = Sampling(temperature=0)
    return model.ask("And?", system=SYSTEM, thinking=False, max_tokens=8, sampling=greedy)


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_a_saved_prefix_is_not_read_again(folder: Path, bits: int | None) -> None:
    plain = ask(folder, kv_bits=bits)
    assert plain.usage.cached_tokens == 0
    with qwen3_mlx.load(str(folder), kv_bits=bits) as model:
        saved = model.save_prefix(system=SYSTEM)
    assert len(files()) == 1
    again = ask(folder, kv_bits=bits)

    assert saved > len(SYSTEM)
    assert again.usage.cached_tokens == saved
    assert again.notices == ()
    assert again.text == plain.text
    # The cache of another kind, and no cache at all, have nothing to do with it.
    assert ask(folder, kv_bits=8 if bits is None else None).usage.cached_tokens == 0
    assert ask(folder, kv_bits=bits, context=16_384).usage.cached_tokens == 0
    assert ask(folder, kv_bits=bits, prefix_cache=0).usage.cached_tokens == 0


@pytest.mark.parametrize("bits", [None, 8])
def test_a_prefix_longer_than_the_memory_for_it_is_read_once(
    folder: Path, bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = PrefixStore.read
    monkeypatch.setattr(
        PrefixStore, "read", lambda self, ids: (reads.append(len(ids)), read(self, ids))[1]
    )
    with qwen3_mlx.load(str(folder), kv_bits=bits) as model:
        saved = model.save_prefix(system=SYSTEM)
    one_token = replace(open_weights(folder).config, kv_bits=bits).kv_bytes_per_token(4)
    for tokens, times in ((0.5, 0), (40.5, 1)):
        reads.clear()
        options = {"kv_bits": bits, "prefix_cache": int(tokens * one_token)}
        with qwen3_mlx.load(str(folder), **options) as model:
            cached = [one(model).usage.cached_tokens for _ in range(3)]
        assert reads == [saved] * times
        assert cached == [int(tokens)] * 3


def flip(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (flip(-40), "checksum"),
        (flip(-1), "checksum"),
        (flip(5000), "checksum"),
        (flip(3), "another format"),
        (flip(60), "another model or text"),
        (lambda data: data[:-7], "checksum"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: b"", "cut short"),
        (lambda data: data + b"x", "checksum"),
    ],
)
def test_a_damaged_file_is_refused_and_the_text_read_again(
    folder: Path, damage: Callable[[bytes], bytes], word: str
) -> None:
    plain = ask(folder)
    with qwen3_mlx.load(str(folder)) as model:
        model.save_prefix(system=SYSTEM)
    (file,) = files()
    file.write_bytes(damage(file.read_bytes()))
    reply = ask(folder)

    assert reply.text == plain.text
    assert reply.usage.cached_tokens == 0
    assert "could not be used and was removed" in reply.notices[0]
    assert word in reply.notices[0]
    assert files() == []


def test_a_file_that_cannot_be_read_now_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ask(folder)
    with qwen3_mlx.load(str(folder)) as model:
        model.save_prefix(system=SYSTEM)

    def too_many(*_: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(PrefixStore, "_parse", too_many)
        reply = ask(folder)

    assert reply.text == plain.text
    assert "could not be read (Too many open files); the text is read again" in reply.notices[0]
    assert len(files()) == 1
    assert ask(folder).usage.cached_tokens > 0


def test_a_foreign_file_under_our_name_is_refused(folder: Path, tmp_path: Path) -> None:
    """Another model's keys and values, renamed: the weights differ, all shapes agree."""
    other = write_checkpoint(tmp_path / "other", dtype="F32", tokenizer=True, seed=5)
    names = []
    for each in (folder, other):
        with qwen3_mlx.load(str(each)) as model:
            model.save_prefix(system=SYSTEM)
        names.append(next(file for file in files() if file not in names))
    os.replace(names[1], names[0])
    plain = ask(folder, prefix_cache=0)
    reply = ask(folder)

    assert (reply.text, reply.usage.cached_tokens) == (plain.text, 0)
    assert "belongs to another model or text" in reply.notices[0]


def test_models_are_told_apart_by_their_weights(folder: Path, tmp_path: Path) -> None:
    same = write_checkpoint(tmp_path / "same", dtype="F32", tokenizer=True)
    tuned = write_checkpoint(tmp_path / "tuned", dtype="F32", tokenizer=True)
    weights = tuned / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # one bit of the last tensor
    weights.write_bytes(data)
    marks = [fingerprint(open_weights(each)) for each in (folder, same, tuned)]
    assert marks[0] == marks[1] != marks[2]


def test_the_folder_is_bounded_and_the_oldest_go(folder: Path) -> None:
    with qwen3_mlx.load(str(folder)) as model:
        model.save_prefix(system="a" * 100)
        size = files()[0].stat().st_size
        for age, letter in enumerate("bc"):
            model.save_prefix(system=letter * 100, keep=2 * size)
            for file in files():  # told apart, however coarse the clock of the disk is
                os.utime(file, (age + 1, file.stat().st_mtime - 100))
        kept = files()
        assert len(kept) == 2
        assert sum(file.stat().st_size for file in kept) <= 2 * size
        with pytest.raises(OptionError, match=r"the prefix takes .* and 1 KB may be kept"):
            model.save_prefix(system="d" * 100, keep=1000)
        assert files() == kept
        with pytest.raises(PromptError, match="nothing to save"):
            model.save_prefix([])
    with (
        qwen3_mlx.load(str(folder), prefix_cache=20_000) as model,
        pytest.raises(OptionError, match="larger prefix_cache"),
    ):
        model.save_prefix(system="e" * 100)


def test_what_killed_processes_left_is_swept(folder: Path) -> None:
    place = hub.data_dir() / "prefixes"
    place.mkdir(parents=True)
    for name, age in (("old.partial", 7200), ("new.partial", 0)):
        (place / name).write_bytes(b"half")
        os.utime(place / name, (time.time() - age,) * 2)
    with qwen3_mlx.load(str(folder)) as model:
        model.save_prefix(system=SYSTEM)
    assert {path.suffix for path in files()} == {".prefix", ".partial"}
    assert (place / "new.partial").exists()
    assert not (place / "old.partial").exists()


def test_a_disk_that_takes_nothing_is_told(folder: Path) -> None:
    place = hub.data_dir() / "prefixes"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("not a folder")
    with (
        qwen3_mlx.load(str(folder)) as model,
        pytest.raises(SavedPrefixError, match=r"could not be saved in .*: check the disk"),
    ):
        model.save_prefix(system=SYSTEM)


def test_a_model_whose_files_are_gone_answers_without(folder: Path, tmp_path: Path) -> None:
    plain = ask(folder)
    moved = write_checkpoint(tmp_path / "moved", dtype="F32", tokenizer=True)
    with qwen3_mlx.load(str(moved)) as model:
        model.save_prefix(system=SYSTEM)
    with qwen3_mlx.load(str(moved)) as model:
        (moved / "model.safetensors").unlink()
        reply = one(model)
    assert reply.text == plain.text
    assert "left aside" in reply.notices[0]


def test_a_model_whose_files_were_replaced_saves_nothing_and_takes_nothing(tmp_path: Path) -> None:
    """The keys and values come from the weights in memory, the fingerprint from the disk."""
    changed = write_checkpoint(tmp_path / "changed", dtype="F32", tokenizer=True)
    other = write_checkpoint(tmp_path / "other", dtype="F32", tokenizer=True, seed=5)
    plain = ask(other)
    with qwen3_mlx.load(str(other)) as model:
        model.save_prefix(system=SYSTEM)
    with qwen3_mlx.load(str(changed)) as model:
        os.replace(other / "model.safetensors", changed / "model.safetensors")
        with pytest.raises(SavedPrefixError, match=r"was changed or replaced .*: load it again"):
            model.save_prefix(system="You are kind.")
        reply = one(model)
    assert len(files()) == 1
    assert reply.usage.cached_tokens == 0
    assert "left aside" in reply.notices[0]

    again = ask(changed)  # now it is the other model, and may take what that one saved
    assert again.usage.cached_tokens > 0
    assert again.text == plain.text


def test_a_conversation_may_begin_with_a_document(folder: Path) -> None:
    begin = [{"role": "user", "content": "A document. " * 9}, {"role": "assistant", "content": "I"}]
    with qwen3_mlx.load(str(folder)) as model:
        saved = model.save_prefix(begin)
    with qwen3_mlx.load(str(folder)) as model:
        asked = [*begin, {"role": "user", "content": "What does it say?"}]
        reply = model.ask(asked, max_tokens=2, thinking=False)
    assert reply.usage.cached_tokens == saved
