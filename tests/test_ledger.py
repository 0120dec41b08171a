"""The ledger of planned memory: claims of others count, and die with their process."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import qwen3_mlx
from qwen3_mlx import ledger, sharing, streaming
from qwen3_mlx.errors import MemoryPlanError
from qwen3_mlx.ledger import open_book, read_book
from qwen3_mlx.machines import Machine
from qwen3_mlx_app.cli import main
from tests.checkpoints import write_checkpoint

OTHER = """
import sys
from pathlib import Path
from qwen3_mlx.ledger import open_book
with open_book(Path(sys.argv[1])) as book:
    claim = book.claim(int(sys.argv[2]), "other")
print("ready", flush=True)
sys.stdin.read()
"""


def _other(folder: Path, nbytes: int) -> subprocess.Popen[str]:
    """A process that claims so much and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OTHER), str(folder), str(nbytes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def test_claims_add_up_and_are_given_back(tmp_path: Path) -> None:
    with open_book(tmp_path / "new") as book:
        assert book.claimed_bytes == 0
        first = book.claim(10, "chat")
    with open_book(tmp_path / "new") as book:
        assert [(e.pid, e.what, e.nbytes) for e in book.entries] == [(os.getpid(), "chat", 10)]
        second = book.claim(5, "server")
    assert sum(entry.nbytes for entry in read_book(tmp_path / "new")) == 15
    first.close()
    first.close()
    assert [entry.what for entry in read_book(tmp_path / "new")] == ["server"]
    del second
    assert read_book(tmp_path / "new") == ()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ledger.lock"]


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    other = _other(tmp_path, 7)
    assert [entry.pid for entry in read_book(tmp_path)] == [other.pid]
    _end(other)
    assert len(list(tmp_path.glob("*.claim"))) == 1  # nobody tidied up
    assert read_book(tmp_path) == ()
    with open_book(tmp_path) as book:
        assert book.claimed_bytes == 0
    assert list(tmp_path.glob("*.claim")) == []


def test_a_stale_claim_under_a_process_id_that_lives_again(tmp_path: Path) -> None:
    file = tmp_path / f"{os.getpid()}-99.claim"
    file.write_text(json.dumps({"pid": os.getpid(), "what": "old", "bytes": 10**12}))
    with open_book(tmp_path) as book:
        assert book.claimed_bytes == 0
    assert not file.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "what": "x", "bytes": -5}',
             '{"pid": 1, "what": "x", "bytes": "many"}', "\x00\xff" * 50, "9" * 70_000,
             '{"pid": 1, "what": "x", "bytes": 1e999}'],
)  # fmt: skip
def test_a_damaged_claim_stops_nobody(tmp_path: Path, text: str) -> None:
    other = _other(tmp_path, 7)
    next(tmp_path.glob("*.claim")).write_text(text)
    try:
        with open_book(tmp_path) as book:
            assert book.claimed_bytes == 0
            claim = book.claim(3, "mine")
        assert [entry.nbytes for entry in read_book(tmp_path)] == [3]
        claim.close()
    finally:
        _end(other)


@pytest.mark.parametrize("what", ["a file", "a full disk"])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    folder = tmp_path / "memory"
    if what == "a file":
        folder.write_text("in the way")
    else:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "mkdir", full)
    for _ in range(2):
        with open_book(folder) as book:
            assert book.claimed_bytes == 0
            book.claim(10, "chat").close()
    assert len(caplog.records) == 1
    assert "what other programs plan of the memory is not known" in caplog.text
    assert read_book(folder) == ()


def test_a_claim_that_cannot_be_written_down_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with open_book(tmp_path) as book, monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        book.claim(10, "chat")
    assert "No space left" in caplog.text
    assert list(tmp_path.glob("*.claim")) == []


def test_a_stopped_process_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger, "PATIENCE_SECONDS", 0.05)
    other = _other(tmp_path, 7)
    try:
        with open_book(tmp_path), open_book(tmp_path) as second:
            assert second.claimed_bytes == 7
        assert "held by a stopped process" in caplog.text
    finally:
        _end(other)


def test_many_at_once_never_plan_more_than_there_is(tmp_path: Path) -> None:
    """Five processes want three of ten; three get it."""
    code = """
    import sys, time
    from pathlib import Path
    from qwen3_mlx import ledger
    from qwen3_mlx.ledger import open_book
    ledger.PATIENCE_SECONDS = 300  # however slow this machine is
    with open_book(Path(sys.argv[1])) as book:
        left = 10 - book.claimed_bytes
        time.sleep(0.01)
        claim = book.claim(3, "x") if left >= 3 else None
    print(claim is not None, flush=True)
    sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    got = [process.stdout.readline() for process in processes if process.stdout]
    assert sum(entry.nbytes for entry in read_book(tmp_path)) == 9
    for process in processes:
        process.communicate("")
    assert sorted(got) == ["False\n"] * 2 + ["True\n"] * 3


# Loading a model.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with experts on a machine that could just hold it."""
    monkeypatch.setattr(sharing, "SMALL_BYTES", 0)
    monkeypatch.setattr(sharing, "OUTSIDE_BYTES", 0)
    return write_checkpoint(
        tmp_path / "moe", moe=True, dtype="F32", tokenizer=True,
        num_experts=64, moe_intermediate_size=128, num_hidden_layers=4,
    )  # fmt: skip


def _machine(monkeypatch: pytest.MonkeyPatch, usable: int) -> None:
    box = Machine("m", usable, usable, None, here=True)
    monkeypatch.setattr(streaming, "this_machine", lambda: box)
    monkeypatch.setattr(streaming, "working_set", lambda: None)  # on a Mac, Metal's own word


def test_a_model_that_fits_is_claimed_and_given_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, 10**9)
    memory = tmp_path / "home" / "memory"
    with qwen3_mlx.load(str(folder)) as model:
        assert model.plan is None
        (entry,) = read_book(memory)
        assert entry.what == "moe"
        assert entry.nbytes > 25_000_000
    assert read_book(memory) == ()


def test_what_metal_says_is_the_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, 10**9)
    monkeypatch.setattr(streaming, "working_set", lambda: 10**6)
    with pytest.raises(MemoryPlanError, match=r"of 1\.0 MB are left"):
        qwen3_mlx.load(str(folder))


def test_a_second_model_takes_what_is_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usable = 10**9
    _machine(monkeypatch, usable)
    memory = tmp_path / "home" / "memory"
    other = _other(memory, usable - 20_000_000)
    try:
        with qwen3_mlx.load(str(folder)) as model:
            assert model.plan is not None
            assert model.plan.total_bytes <= 20_000_000
            assert sum(entry.nbytes for entry in read_book(memory)) <= usable
            assert model.ask("hello", max_tokens=2, thinking=False).experts is not None
        assert "others are read from disk" in caplog.text
        assert f"other (process {other.pid}) 980 MB" in caplog.text
        assert main(["fit", str(folder)]) == 0
    finally:
        _end(other)


def test_no_room_is_refused_before_anything_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _machine(monkeypatch, 10**9)
    dense = write_checkpoint(tmp_path / "dense", dtype="F32", tokenizer=True)
    other = _other(tmp_path / "home" / "memory", 10**9 - 1000)
    try:
        for model in (folder, dense):
            with pytest.raises(MemoryPlanError, match=r"1 KB of 1.0 GB are left, since others"):
                qwen3_mlx.load(str(model))
        with pytest.raises(MemoryPlanError, match=r"close the other program") as refused:
            qwen3_mlx.load(str(dense))
        limit = str(refused.value).split("--memory-limit ")[1].split()[0]
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            qwen3_mlx.load(str(dense), memory_limit=limit).close()
        assert "expect swapping" in caplog.text
    finally:
        _end(other)


def test_small_models_leave_no_trace(tmp_path: Path) -> None:
    with qwen3_mlx.load("tiny"):
        assert not (tmp_path / "home" / "memory").exists()


def test_fit_counts_what_others_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mac = Machine("Apple M2", 16 << 30, 11 * 10**9, 1e11, here=True)
    monkeypatch.setattr("qwen3_mlx_app.fit_command.this_machine", lambda: mac)
    other = _other(tmp_path / "home" / "memory", 6 * 10**9)
    try:
        assert main(["fit", "8b"]) == 0
        out = capsys.readouterr().out
        assert "5.0 GB to use, since other programs plan 6.0 GB" in out
        assert "too big" in out
        assert main(["fit", "8b", "--on", "m2 16GB"]) == 0
        assert "other programs" not in capsys.readouterr().out
    finally:
        _end(other)


def test_a_child_that_was_forked_leaves_its_parent_s_claim(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from qwen3_mlx.ledger import open_book, read_book
with open_book(Path(sys.argv[1])) as book:
    claim = book.claim(10, "8b")
if not os.fork():
    sys.exit(0)
os.wait()
print(sum(entry.nbytes for entry in read_book(Path(sys.argv[1]))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "10\n"
    assert not list(tmp_path.glob("*.claim"))  # the parent has given it back at its end
