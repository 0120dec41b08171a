"""`pull` against a stand-in of the hub: drops, kills, pauses, wrong bytes, refusals."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from qwen3_mlx import hub, pulling, transfer
from qwen3_mlx.awake import keep_awake
from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import DownloadPaused, HubError, UnsupportedModelError
from qwen3_mlx.loading import open_weights
from qwen3_mlx.pulling import Download, FileState
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert, fetching
from tests.checkpoints import write_checkpoint
from tests.hub_stand_in import LARGE, Server, oid, stand_in

PULL = [sys.executable, "-m", "qwen3_mlx_app.cli", "pull", "org/model"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr(transfer, "DELAYS", (0.0,) * 4)
    return tmp_path


@pytest.fixture
def source(home: Path) -> Path:
    return write_checkpoint(home / "source", shards=2, tokenizer=True)


@pytest.fixture
def server(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with stand_in({"org/model": source}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def _same(folder: Path, source: Path) -> bool:
    names = sorted(path.name for path in folder.iterdir())
    whole = names == sorted(path.name for path in source.iterdir())
    return whole and all(
        (folder / name).read_bytes() == (source / name).read_bytes() for name in names
    )


def _parts() -> list[Path]:
    return sorted(hub.cache_dir().glob("models--*/blobs/*.part"))


def _large_parts() -> list[int]:
    """The bytes of the parts that hold more than a small file has."""
    sizes = []
    for part in _parts():
        with suppress(OSError):  # renamed in this moment
            sizes.append(part.stat().st_size)
    return [size for size in sizes if size >= LARGE]


# What breaks off goes on.


def test_ten_dropped_connections_cost_no_byte_twice(server: Server, source: Path) -> None:
    server.drops = 10
    assert _same(hub.resolve("org/model"), source)
    assert server.drops == 0
    assert sum(bool(each) for each in server.ranges) == 10
    assert server.sent_bytes <= sum(path.stat().st_size for path in source.iterdir()) * 1.01


def test_a_server_without_ranges_sends_all_again(server: Server, source: Path) -> None:
    server.drops, server.no_ranges = 3, True
    assert _same(hub.resolve("org/model"), source)


def test_a_connection_that_never_brings_a_byte_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refuse_next = [(503, {})] * 50
    with pytest.raises(HubError, match=r"answered 503; try again later, it goes on where"):
        hub.resolve("org/model")


def test_a_kill_in_the_middle_goes_on(
    server: Server, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.gate = threading.Event()
    first = subprocess.Popen(PULL, env=os.environ, stderr=subprocess.DEVNULL)
    while not _large_parts():
        assert first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    server.gate.set()
    (name, done, total) = next(hub.unfinished_downloads())
    assert name == "org/model"
    assert 0 < done < total
    assert main(["models"]) == 0
    assert "downloaded; `qwen3-mlx pull org/model` goes on" in capsys.readouterr().out
    kept = _large_parts()
    assert kept
    assert _same(hub.resolve("org/model"), source)
    assert {f"bytes={size}-" for size in kept} <= set(server.ranges)
    assert list(hub.unfinished_downloads()) == []
    assert _parts() == []


def test_an_interrupt_stops_what_is_under_way(
    server: Server, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, broken = threading.Event(), threading.Event()

    def interrupted(*_: object) -> None:
        assert reads.wait(60)
        raise KeyboardInterrupt  # ^C, while the main thread waits for the others

    def hear(state: Download) -> None:
        reads.set()
        assert broken.wait(60)

    with monkeypatch.context() as patch:
        patch.setattr(pulling, "Event", lambda: broken)
        patch.setattr(Future, "exception", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hub.resolve("org/model", progress=hear, stop=threading.Event())
    assert hub.find("org/model") is None
    assert _same(hub.resolve("org/model"), source)


def test_pause_and_go_on(server: Server, source: Path) -> None:
    stop = threading.Event()
    seen: list[Download] = []

    def hear(state: Download) -> None:
        seen.append(state)
        if any(file.doing == "there" for file in state.files):
            stop.set()

    with pytest.raises(DownloadPaused, match="org/model is paused"):
        hub.resolve("org/model", progress=hear, stop=stop)
    assert hub.find("org/model") is None
    assert not list(hub.cache_dir().glob("models--*/snapshots/*/*"))
    assert 0 < seen[-1].done < seen[-1].total
    assert _same(hub.resolve("org/model", progress=seen.append), source)
    last = seen[-1]
    assert {file.doing for file in last.files} == {"there"}
    assert last.done == last.total == sum(path.stat().st_size for path in source.iterdir())
    assert last.fetched < last.total  # the config of the first run was not fetched again
    done = [state.done for state in seen]
    assert done == sorted(done)


# What is refused.


def test_wrong_bytes_are_refused_and_not_kept(server: Server, source: Path) -> None:
    server.spoiled = {"model-00002-of-00002.safetensors"}
    with pytest.raises(HubError, match=r"bytes of model-00002-of-00002.safetensors are not those"):
        hub.resolve("org/model")
    assert hub.find("org/model") is None
    blobs = hub.cache_dir() / "models--org--model" / "blobs"
    assert not any("00002" in path.name for path in blobs.iterdir())
    server.spoiled = set()
    assert _same(hub.resolve("org/model"), source)


def test_a_small_file_is_compared_too(server: Server) -> None:
    server.spoiled = {"config.json"}
    with pytest.raises(HubError, match=r"bytes of config.json are not those"):
        hub.resolve("org/model")


def test_a_part_that_is_too_long_is_read_again(server: Server, source: Path) -> None:
    server.refuse_next = [(404, {})] * 9
    with pytest.raises(HubError):
        hub.resolve("org/model")
    server.refuse_next = []
    data = (source / "config.json").read_bytes()
    part = hub.cache_dir() / "models--org--model" / "blobs" / f"{oid(data)}.part"
    part.write_bytes(b"x" * (len(data) + 5))
    assert _same(hub.resolve("org/model"), source)


def test_rate_limits(server: Server, source: Path) -> None:
    server.refuse_next = [(429, {"Retry-After": "0"}), (429, {"RateLimit": '"resolvers";r=0;t=0'})]
    assert _same(hub.resolve("org/model"), source)
    server.headers = {"Retry-After": "3600"}
    with pytest.raises(HubError, match=r"429, too many requests; wait 60 minutes and run"):
        hub.resolve("limited/model")


def test_a_long_wait_is_not_waited(server: Server) -> None:
    server.refuse_next = [(429, {"Retry-After": "300"})] * 9
    with pytest.raises(HubError, match=r"429, too many requests; wait 5 minutes"):
        hub.resolve("org/model")


def test_a_full_disk_is_seen_before_the_first_byte(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HubError, match=r"needs \d+ KB and 1.0 MB are free on the disk of"):
        hub.resolve("org/model")
    assert not any("/resolve/" in path for path in server.requests)


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, r"disk of .* is full, what was downloaded is kept; free space"),
     (5, r"disk of .* went away \(.*\), what it holds is kept; connect it"),
     (30, r"cannot be written \(Read-only file system\); set HF_HOME")],
)  # fmt: skip
def test_a_disk_that_fails_on_the_way(
    server: Server, source: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fails(file: object, piece: bytes) -> int:
        raise transfer._as_write_error(OSError(number, os.strerror(number)), "/disk")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_write", fails)
        with pytest.raises(HubError, match=words):
            hub.resolve("org/model")
    assert _same(hub.resolve("org/model"), source)


def test_what_is_no_model_is_refused_before_its_weights(server: Server, source: Path) -> None:
    (source / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(UnsupportedModelError, match="not supported yet"):
        hub.resolve("org/model")
    assert not any("safetensors" in path for path in server.requests if "resolve" in path)
    for path in source.glob("*.safetensors*"):
        path.unlink()
    (source / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(HubError, match=r"no safetensors weights .* \(it has .gguf files\)"):
        hub.resolve("org/model")


def test_experts_in_files_of_their_own_are_not_half_fetched(server: Server, source: Path) -> None:
    (source / "experts.json").write_text("{}")
    with pytest.raises(HubError, match="not downloaded yet: fetch it with `hf download org/model"):
        hub.resolve("org/model")
    assert list(hub.unfinished_downloads()) == []


def test_an_error_of_any_other_kind(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(hub_id: str) -> None:
        raise RuntimeError("native transfer failed\nlong trace")

    monkeypatch.setattr(pulling, "_listed", fail)
    with pytest.raises(HubError, match=r"broke off \(native transfer failed\); check the network"):
        hub.resolve("org/model")


def test_names_that_leave_the_folder_are_not_fetched() -> None:
    for name in ("../config.json", "a/b.json", "a\\b.json", "x.py", "pytorch_model.bin", ""):
        assert not pulling._is_wanted(name)
    for name in ("config.json", "model-00001-of-00002.safetensors", "LICENSE", "merges.txt"):
        assert pulling._is_wanted(name)


# Once.


def test_two_pulls_at_once_do_the_work_once(server: Server, source: Path) -> None:
    pulls = [
        subprocess.Popen(PULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [pull.communicate(timeout=120)[0] for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0]
    assert answers[0] == answers[1]
    assert sum("/revision/" in request for request in server.requests) == 1
    assert sum("/resolve/" in request for request in server.requests) == len(list(source.iterdir()))


def test_threads_that_wait_can_be_paused_too(server: Server, source: Path) -> None:
    server.gate = threading.Event()
    notes: list[str] = []
    waits = threading.Event()
    stop = threading.Event()

    def second() -> None:
        def hear(state: Download) -> None:
            notes.append(state.note)
            waits.set()

        with pytest.raises(DownloadPaused):
            hub.resolve("org/model", progress=hear, stop=stop)

    first = threading.Thread(target=lambda: hub.resolve("org/model"))
    first.start()
    while not _parts():
        assert first.is_alive()
        time.sleep(0.005)
    other = threading.Thread(target=second)
    other.start()
    assert waits.wait(30)
    stop.set()
    other.join()
    server.gate.set()
    first.join()
    assert notes == ["another pull of it is at work; waiting for it"]
    found = hub.find("org/model")
    assert found is not None
    assert _same(found, source)


def test_no_network_where_everything_is_there(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hub.resolve("org/model")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", lambda *_, **__: pytest.fail("asked the network"))
        assert hub.resolve("org/model") == folder
        assert main(["pull", "org/model"]) == 0
    assert capsys.readouterr().out.startswith(str(folder))


def test_files_that_are_alike_are_fetched_once(server: Server, source: Path) -> None:
    for name in ("merges.txt", "vocab.json"):
        shutil.copyfile(source / "config.json", source / name)
    shutil.copyfile(source / "tokenizer.json", source / "added_tokens.json")
    seen: list[Download] = []
    assert _same(hub.resolve("org/model", progress=seen.append), source)
    assert seen[-1].done == seen[-1].total
    assert {file.doing for file in seen[-1].files} == {"there"}
    fetched = sum("/resolve/" in request for request in server.requests)
    assert fetched == len(list(source.iterdir())) - 3


def test_a_disk_without_links_gets_the_files(
    server: Server, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", no_links)
    folder = hub.resolve("org/model")
    assert _same(folder, source)
    assert not (folder / "config.json").is_symlink()


def test_other_programs_find_what_was_pulled(server: Server) -> None:
    from huggingface_hub import snapshot_download

    folder = hub.resolve("org/model")
    found = snapshot_download("org/model", cache_dir=hub.cache_dir(), local_files_only=True)
    assert Path(found).samefile(folder)


def test_what_a_listener_hears() -> None:
    state = Download("org/m", (FileState("a", 30, 100), FileState("b", 0, 20)), 30, 2.0)
    assert (state.done, state.total, state.bytes_per_second) == (30, 120, 15.0)
    assert state.seconds_left == 6.0
    assert Download("org/m", ()).seconds_left is None


# LM Studio, rm, caffeinate.


@pytest.mark.parametrize("where", ["default", "old", "pointer", "chosen"])
def test_lm_studio(home: Path, where: str) -> None:
    user = home / "user"
    models = {
        "default": user / ".lmstudio" / "models",
        "old": user / ".cache" / "lm-studio" / "models",
        "pointer": home / "moved" / "models",
        "chosen": home / "chosen",
    }[where]
    (user / ".lmstudio").mkdir(parents=True)
    if where == "pointer":
        (user / ".lmstudio-home-pointer").write_text(f"{home / 'moved'}\n")
    if where == "chosen":
        (user / ".lmstudio" / "settings.json").write_text(f'{{"downloadsFolder": "{models}"}}')
    folder = write_checkpoint(models / "lmstudio-community" / "Qwen3-4B-MLX-4bit")
    (models / "x" / "llama").mkdir(parents=True)
    (models / "x" / "llama" / "config.json").write_text('{"model_type": "llama"}')
    name = "lmstudio-community/Qwen3-4B-MLX-4bit"
    assert hub.resolve(name) == folder
    assert list(hub.local_models()) == [(name, folder)]
    assert main(["rm", name, "--yes"]) == 2
    assert folder.exists()


def test_a_closed_folder_of_lm_studio_hides_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(home / "user" / ".cache" / "lm-studio" / "models" / "org" / "model")
    glob = Path.glob

    def closed(path: Path, pattern: str) -> Iterator[Path]:
        if ".lmstudio" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return glob(path, pattern)

    monkeypatch.setattr(Path, "glob", closed)
    assert list(hub.local_models()) == [("org/model", folder)]
    monkeypatch.setattr(Path, "glob", lambda *_: closed(Path(".lmstudio"), ""))
    assert list(hub.local_models()) == list(hub.unfinished_downloads()) == []


def test_a_conversion_in_progress_is_no_model(home: Path) -> None:
    write_checkpoint(hub.models_dir() / ".Qwen3-4B-q4.partial")
    assert list(hub.local_models()) == []


def test_rm(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = write_checkpoint(hub.models_dir() / "other")
    ours = write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    assert main(["rm", "Qwen3-4B-q4"]) == 2
    assert "nothing was deleted" in capsys.readouterr().err
    assert main(["rm", "Qwen3-4B-q4", "--yes"]) == 0
    assert not ours.exists()
    assert kept.exists()
    for name in (str(kept), "", ".", "..", "4b", "tiny"):
        assert main(["rm", name, "--yes"]) == 2
    assert "tiny is a part of the program: there is nothing to delete" in capsys.readouterr().err
    assert kept.exists()


@pytest.mark.parametrize("name", ["4b", "Qwen/Qwen3-4B"])
def test_rm_names_the_conversion(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    assert main(["rm", name, "--yes"]) == 2
    assert "its conversion is, `qwen3-mlx rm Qwen3-4B-q4`" in capsys.readouterr().err


def test_rm_of_a_link_leaves_what_it_points_to(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = write_checkpoint(tmp_path / "disk" / "model")
    link = hub.models_dir() / "mine"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    assert main(["rm", "mine", "--yes"]) == 0
    assert "a link: what it points to stays" in capsys.readouterr().out
    assert not link.is_symlink()
    assert (elsewhere / "config.json").exists()


def test_rm_asks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for said in ("n\n", "", "y\n"):  # the second is Ctrl-D
        assert ours.exists()
        monkeypatch.setattr("sys.stdin", Terminal(said))
        assert main(["rm", "Qwen3-4B-q4"]) == (0 if said == "y\n" else 2)
    assert not ours.exists()


def test_rm_of_a_download_and_of_a_part(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub.resolve("org/model")
    assert main(["rm", "org/model", "--yes"]) == 0
    assert not folder.exists()
    server.drops = 1
    monkeypatch.setattr(transfer, "DELAYS", ())
    with pytest.raises(HubError):
        hub.resolve("org/model")
    assert _parts()
    assert main(["rm", "org/model", "--yes"]) == 0
    assert not list(hub.cache_dir().glob("models--*"))


def test_caffeinate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = home / "bin" / "caffeinate"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" > {home}/said\nexec sleep 60\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=os.pathsep)
    with keep_awake():
        assert not (home / "said").exists()  # not a Mac
    monkeypatch.setattr(sys, "platform", "darwin")
    with keep_awake():
        until = time.monotonic() + 60
        while not (home / "said").exists() or not (home / "said").read_text():
            assert time.monotonic() < until
            time.sleep(0.005)
    assert (home / "said").read_text() == f"-i -w {os.getpid()}\n"


def test_awake_while_downloading(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def awake() -> threading.Lock:
        asked.append(len(server.requests))
        return threading.Lock()

    monkeypatch.setattr(pulling, "keep_awake", awake)
    hub.resolve("org/model")
    assert asked == [0]


def test_what_pull_prints(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "org/model"]) == 0
    said = capsys.readouterr()
    assert "config.json is here\n" in said.err
    assert "Chat with it:  qwen3-mlx chat -m org/model\n" in said.out
    assert "qwen3-mlx convert org/model --q4" in said.out


def test_pull_counts_experts_in_records_too(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "hf", moe=True, dtype="F32")
    convert(source, tmp_path / "records", bits=4, layout="records")
    assert main(["pull", str(tmp_path / "records")]) == 0
    whole = open_weights(tmp_path / "records").weight_bytes
    assert f"{format_bytes(whole)} of weights" in capsys.readouterr().out


def test_lines_of_a_long_download(capsys: pytest.CaptureFixture[str]) -> None:
    lines = fetching._Lines()
    for seconds in (0.0, 1.0, 11.0, 12.0):
        lines(Download("org/m", (FileState("a", 30, 10**9),), 3 * 10**7, seconds))
    assert capsys.readouterr().err == "30 bytes of 1.0 GB, 2.7 MB/s, 6 min left\n"
    assert [fetching._time(seconds) for seconds in (40, 700, 12_600)] == ["40 s", "12 min", "3.5 h"]


def test_bars_on_a_terminal() -> None:
    from rich.progress import Progress

    with Progress(disable=True) as progress:
        bars = fetching._Bars(progress)
        for doing in ("queued", "reading", "waiting", "checking", "there"):
            bars(Download("org/m", (FileState("a", 5, 10, doing),)))
        everything, one = progress.tasks
        assert (everything.description, everything.completed, everything.total) == ("org/m", 5, 10)
        assert one.description == "  a (checking)"
        assert not one.visible
        bars(Download("org/m", (), note="waiting for another"))
        assert everything.description == "waiting for another"
