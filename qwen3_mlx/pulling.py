"""A whole model from the hub into the Hugging Face cache, once, however many ask for it.

    models--ORG--NAME/blobs/DIGEST        the bytes of a file, DIGEST.part while they come
                     /snapshots/COMMIT/   names, links to the blobs: made when all are there
                     /refs/main           the commit
                     /qwen3-mlx-pull.json what is still to come; gone when the model is whole

This is the cache's own layout, so what is pulled here is found by every other program, and the
other way round. A model has its name only when every file has been compared with its digest.
"""

from __future__ import annotations

import fcntl
import fnmatch
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import Literal, TypeAlias

from qwen3_mlx import transfer
from qwen3_mlx.awake import keep_awake
from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.checkpoint import read_json
from qwen3_mlx.errors import CheckpointError, DownloadPaused, HubError, Qwen3Error
from qwen3_mlx.hub_errors import endpoint, explain, offline
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.places import cache_name, hub_id_of
from qwen3_mlx.transfer import Remote

__all__ = ["Download", "FileState", "Listener", "pull_into", "unfinished"]

#: What is fetched: weights as safetensors, and text. Never pickles, never code.
ALLOWED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "LICENSE*")
#: Files at once: one connection seldom fills the line.
AT_ONCE = 4
#: What a download leaves free on the disk.
SPARE_BYTES = 500_000_000
_NOTE = "qwen3-mlx-pull.json"
_TELL_SECONDS = 0.1

#: What is done with a file; "waiting" is for the network.
Doing: TypeAlias = Literal["queued", "reading", "waiting", "checking", "there"]


@dataclass(frozen=True, slots=True)
class FileState:
    """How far one file is, in bytes."""

    name: str
    done: int
    total: int
    doing: Doing = "queued"


@dataclass(frozen=True, slots=True)
class Download:
    """How far a model is: what a progress bar, or a list of files, needs.

    `fetched` counts the bytes of this run, in `seconds`; `note` is a word for the person.

    >>> Download("org/m", (FileState("a", 30, 100), FileState("b", 0, 20)), 30, 2.0).done
    30
    """

    model: str
    files: tuple[FileState, ...]
    fetched: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return sum(file.done for file in self.files)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.total for file in self.files)

    @property
    def bytes_per_second(self) -> float:
        """The speed of this run."""
        return self.fetched / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the end at this speed; None while no speed is known."""
        speed = self.bytes_per_second
        return (self.total - self.done) / speed if speed else None


Listener = Callable[[Download], None]


def pull_into(
    cache: Path,
    hub_id: str,
    present: Callable[[], Path | None],
    tell: Listener | None = None,
    stop: Event | None = None,
) -> Path:
    """Download a model into the cache; its folder.

    Args:
        cache: the Hugging Face cache.
        hub_id: "Qwen/Qwen3-4B".
        present: the folder if the model is there by now; asked when it is our turn.
        tell: hears how far it is, a few times a second, from several threads but one at a time.
        stop: set it to pause; the next pull goes on from there.

    Raises:
        DownloadPaused: `stop` was set.
        HubError: it cannot be had, with the reason; what came is kept.
        UnsupportedModelError: the model is not a Qwen3 text model; no weights were fetched.
    """
    stop, tell = stop or Event(), tell or (lambda state: None)
    if offline():
        offline_now = HubError(
            "offline mode is on and it is not in the cache; unset HF_HUB_OFFLINE"
        )
        raise explain(hub_id, str(cache), offline_now)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when it is first imported
    try:
        with _alone(cache, hub_id, tell, stop), keep_awake():
            return present() or _Pull(cache, hub_id, tell, stop).run()
    except Exception as error:
        # Below are an HTTP client and a disk, each with exceptions of its own; whichever it is,
        # the person needs one sentence.
        if isinstance(error, Qwen3Error) and type(error) is not HubError:
            raise
        raise explain(hub_id, str(cache), error) from error


def unfinished(cache: Path) -> Iterator[tuple[str, int, int]]:
    """Downloads that stopped on the way: hub id, bytes that are here, bytes in all."""
    for note in sorted(cache.glob(f"models--*/{_NOTE}")):
        try:
            files = read_json(note)["files"]
            blobs = note.parent / "blobs"
            done = sum(_bytes_here(blobs / str(digest)) for digest in files)
            total = sum(int(size) for size in files.values())
        except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
            continue
        yield hub_id_of(note.parent.name), done, total


class _Pull:
    """One download."""

    def __init__(self, cache: Path, hub_id: str, tell: Listener, stop: Event) -> None:
        self._repo = cache / cache_name(hub_id)
        self._blobs = self._repo / "blobs"
        self._tell, self._stop = tell, stop
        self._began: float | None = None  # of the first byte
        self._told, self._lock = 0.0, Lock()
        self._state = Download(hub_id, ())
        self._here = 0  # bytes of earlier runs
        self._names: dict[str, list[str]] = {}  # by digest: files that are alike are one blob
        self._broken = Event()

    def run(self) -> Path:
        """List, check, fetch, name."""
        hub_id = self._state.model
        commit, remotes = _listed(hub_id)
        _check_kinds(hub_id, remotes)
        wanted = [remote for remote in remotes if _is_wanted(remote.name)]
        self._blobs.mkdir(parents=True, exist_ok=True)
        blobs: dict[str, Remote] = {}
        for remote in sorted(wanted, key=lambda remote: remote.name != "config.json"):
            self._names.setdefault(remote.digest, []).append(remote.name)
            blobs.setdefault(remote.digest, remote)
        missing = [remote for remote in blobs.values() if not self._blob(remote).exists()]
        self._check_disk(missing)
        self._state = Download(hub_id, tuple(self._file_state(each) for each in wanted))
        self._here = self._state.done
        self._write_note(wanted)
        missing.sort(key=lambda remote: remote.size)  # config.json before the weights
        first = [remote for remote in missing if remote.name == "config.json"]
        self._fetch_all(first)
        self._check_family(wanted)
        self._fetch_all([remote for remote in missing if remote not in first])
        return self._name(commit, wanted)

    def _blob(self, remote: Remote) -> Path:
        return self._blobs / remote.digest

    def _file_state(self, remote: Remote) -> FileState:
        there = self._blob(remote).exists()
        doing: Doing = "there" if there else "queued"
        return FileState(remote.name, self._done(remote), remote.size, doing)

    def _done(self, remote: Remote) -> int:
        return min(_bytes_here(self._blob(remote)), remote.size)

    def _check_disk(self, missing: list[Remote]) -> None:
        needed = sum(remote.size - self._done(remote) for remote in missing)
        free = shutil.disk_usage(self._blobs).free
        if missing and needed + SPARE_BYTES > free:
            raise HubError(
                f"it needs {format_bytes(needed)} and {format_bytes(free)} are free on the disk "
                f"of {self._blobs}; delete a model with `qwen3-mlx rm`, set HF_HOME to a folder "
                "on another disk"
            )

    def _check_family(self, wanted: list[Remote]) -> None:
        """Before the weights: a model that cannot be used costs one small file."""
        for remote in wanted:
            if remote.name == "config.json":
                config = read_json(self._blob(remote))
                config.pop("quantization_config", None)  # FP8, GPTQ: `convert` reads them
                ModelConfig.from_dict(config)

    def _fetch_all(self, remotes: list[Remote]) -> None:
        """Several at once; the first that fails stops the others."""
        with ThreadPoolExecutor(AT_ONCE, "qwen3-pull") as workers:
            try:
                works = [workers.submit(self._fetch, remote) for remote in remotes]
                errors = [error for work in works if (error := work.exception()) is not None]
            except BaseException:  # ^C: what is under way stops at its next piece
                self._broken.set()
                raise
        for error in sorted(errors, key=lambda error: isinstance(error, DownloadPaused)):
            raise error

    def _fetch(self, remote: Remote) -> None:
        if self._broken.is_set() or self._stop.is_set():
            raise DownloadPaused(remote.model)
        either = _Either(self._stop, self._broken)
        try:
            transfer.fetch(
                remote, self._blob(remote), lambda doing, done: self._hear(remote, doing, done),
                either,
            )  # fmt: skip
        except BaseException:
            self._broken.set()
            raise
        self._hear(remote, "there", remote.size)

    def _hear(self, remote: Remote, doing: Doing, done: int) -> None:
        """A file's news; passed on when something began or ended, else a few times a second."""
        with self._lock:
            names = self._names[remote.digest]
            files = tuple(
                replace(file, done=max(done, 0), doing=doing) if file.name in names else file
                for file in self._state.files
            )
            turn = any(a.doing != b.doing for a, b in zip(files, self._state.files, strict=True))
            now = time.monotonic()
            self._began = now if self._began is None else self._began
            state = replace(self._state, files=files, seconds=now - self._began)
            self._state = replace(state, fetched=max(0, state.done - self._here))
            if turn or now - self._told >= _TELL_SECONDS:
                self._told = now
                self._tell(self._state)

    def _write_note(self, wanted: list[Remote]) -> None:
        files = {remote.digest: remote.size for remote in wanted}
        (self._repo / _NOTE).write_text(json.dumps({"files": files}) + "\n")

    def _name(self, commit: str, wanted: list[Remote]) -> Path:
        """Everything is there: give it its names, and tidy up."""
        folder = self._repo / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        for remote in wanted:
            _link(self._blob(remote), folder / remote.name)
        refs = self._repo / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(commit)
        (self._repo / _NOTE).unlink(missing_ok=True)
        for part in self._blobs.glob("*.part"):  # of files that the model no longer has
            part.unlink()
        return folder


class _Either(Event):
    """Set when one of two events is."""

    def __init__(self, first: Event, second: Event) -> None:
        super().__init__()
        self._events = (first, second)

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._events)

    def wait(self, timeout: float | None = None) -> bool:
        until = time.monotonic() + (timeout or 0.0)
        while not self.is_set() and time.monotonic() < until:
            self._events[0].wait(min(0.05, max(0.0, until - time.monotonic())))
        return self.is_set()


def _listed(hub_id: str) -> tuple[str, list[Remote]]:
    """The newest commit and its files, from the hub."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=endpoint(), library_name="qwen3-mlx")
    commit = api.model_info(hub_id, revision="main").sha
    if not commit:
        raise HubError(f"{endpoint()} names no commit of it; check HF_ENDPOINT")
    files = [
        file
        for file in api.list_repo_tree(hub_id, recursive=True, revision=commit)
        if isinstance(file, RepoFile)
    ]
    remotes = []
    for file in files:
        size = file.size if file.lfs is None else file.lfs.size
        digest = file.blob_id if file.lfs is None else file.lfs.sha256
        remotes.append(Remote(hub_id, commit, file.path, size, digest))
    return commit, remotes


def _check_kinds(hub_id: str, remotes: list[Remote]) -> None:
    names = {remote.name for remote in remotes}
    if "experts.json" in names:
        raise HubError(
            f"{hub_id} keeps its experts in files of their own, which are not downloaded yet: "
            f"fetch it with `hf download {hub_id} --local-dir DIR`, then use -m DIR"
        )
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        return
    others = sorted({Path(name).suffix for name in names} & {".gguf", ".bin", ".pt", ".onnx"})
    has = f" (it has {', '.join(others)} files)" if others else ""
    raise HubError(
        f"the hub has no safetensors weights with a config.json in it{has}, and nothing else can "
        "be read; `qwen3-mlx models` lists names"
    )


def _is_wanted(name: str) -> bool:
    """A file of the model itself; folders below it hold other formats."""
    flat = "/" not in name and "\\" not in name and name not in ("", ".", "..")
    return flat and any(fnmatch.fnmatch(name, pattern) for pattern in ALLOWED)


def _bytes_here(blob: Path) -> int:
    for path in (blob, transfer.part_of(blob)):
        with suppress(OSError):  # another process may be renaming one to the other
            return path.stat().st_size
    return 0


def _link(blob: Path, name: Path) -> None:
    """A name for a blob; disks without links (exFAT) get the file itself."""
    if name.exists():
        return
    name.unlink(missing_ok=True)  # a link to nowhere
    try:
        os.symlink(os.path.relpath(blob, name.parent), name)
    except OSError:
        os.replace(blob, name)


@contextmanager
def _alone(cache: Path, hub_id: str, tell: Listener, stop: Event) -> Iterator[None]:
    """One process at a time for each model; the next one finds the work done."""
    locks = cache / ".locks" / cache_name(hub_id)
    locks.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(locks / "qwen3-mlx.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        told = False
        while not _locked(descriptor):
            if not told:
                tell(Download(hub_id, (), note="another pull of it is at work; waiting for it"))
                told = True
            if stop.wait(0.2):
                raise DownloadPaused(hub_id)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
