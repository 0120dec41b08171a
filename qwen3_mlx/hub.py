"""From a name to a folder: the embedded model, a path, our own folder, the hub's cache, the hub.

Whatever is here already is used without a network. huggingface_hub is imported only when its
cache or the hub itself must be asked.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from qwen3_mlx import catalogue
from qwen3_mlx.checkpoint import open_checkpoint, read_json
from qwen3_mlx.errors import CheckpointError, HubError, ModelNotFoundError, Qwen3Error

__all__ = [
    "cache_dir",
    "data_dir",
    "last_model",
    "local_models",
    "models_dir",
    "remember_model",
    "resolve",
]

TINY = Path(__file__).parent / "tiny"

#: What is fetched: weights as safetensors, and text. Never pickles, never code.
ALLOWED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "LICENSE*"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")


def resolve(name: str, *, source: bool = False) -> Path:
    """The folder that a name means, downloaded if need be.

    Tried in this order: "tiny"; an existing path; then, for a catalogue name or a hub id,
    a conversion in `models_dir()`, the Hugging Face cache, the hub. `source=True` skips the
    conversions, for a caller that wants the original weights.

    >>> resolve("tiny").name
    'tiny'

    Raises:
        ModelNotFoundError: nothing has this name.
        HubError: it is not on this machine, and the hub does not give it.
    """
    if name == "tiny":
        return TINY
    path = os.path.expanduser(name)
    if os.path.exists(path):
        return Path(path)
    hub_id = _hub_id(name)
    found = None if source else _converted(hub_id)
    return found or _cached(hub_id) or _download(hub_id)


def data_dir() -> Path:
    """Where this program keeps its files; QWEN3_MLX_HOME overrides the system's place."""
    home = os.environ.get("QWEN3_MLX_HOME")
    if home:
        return Path(home).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "qwen3-mlx"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "qwen3-mlx"


def models_dir() -> Path:
    """Where converted models are looked for by name. It need not exist."""
    return data_dir() / "models"


def cache_dir() -> Path:
    """The Hugging Face cache, by the environment variables that huggingface_hub honours."""
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if cache:
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "huggingface" / "hub"


def last_model() -> str | None:
    """The name or path of the model that was used last, if any is known."""
    try:
        name = read_json(_state_file()).get("last_model")
    except CheckpointError:
        return None
    return name if isinstance(name, str) and name else None


def remember_model(name: str) -> None:
    """Keep `name` for `last_model`; a folder is kept as an absolute path.

    A home that cannot be written costs the memory and nothing else, so it raises nothing.
    """
    path = os.path.expanduser(name)
    if name != "tiny" and os.path.exists(path):
        name = os.path.realpath(path)
    file = _state_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, json.dumps({"last_model": name}) + "\n")
    except OSError:
        return


def local_models() -> Iterator[tuple[str, Path]]:
    """Names and folders of the Qwen3 models on this machine, in our folder and in the cache."""
    for config in sorted(models_dir().glob("*/config.json")):
        yield config.parent.name, config.parent
    for repo in sorted(cache_dir().glob("models--*")):
        hub_id = repo.name.removeprefix("models--").replace("--", "/", 1)
        snapshots = sorted(
            repo.glob("snapshots/*/config.json"), key=lambda file: file.stat().st_mtime
        )
        if snapshots and _is_qwen3(snapshots[-1]):
            yield hub_id, snapshots[-1].parent


def _when(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0


def _is_qwen3(config: Path) -> bool:
    try:
        return read_json(config).get("model_type") in ("qwen3", "qwen3_moe")
    except CheckpointError:
        return False


def _state_file() -> Path:
    return data_dir() / "state.json"


def _replace(file: Path, text: str) -> None:
    """Write beside the file and rename, so that a reader sees the old or the new, whole."""
    import tempfile  # 5 ms, needed once per run and never before the answer

    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _hub_id(name: str) -> str:
    entry = catalogue.find(name)
    if entry is not None and entry.hub_id:
        return entry.hub_id
    if _HUB_ID.fullmatch(name):
        return name
    if "/" in name or name.startswith(("~", ".")):
        raise ModelNotFoundError(
            f"no folder {name}: check the path, or run `qwen3-mlx models` for names; "
            "`-m tiny` works at once"
        )
    raise catalogue.unknown_name(name)


def _converted(hub_id: str) -> Path | None:
    """A conversion in our folder: "Qwen3-4B-q4" for Qwen's own, "org--name-q4" for others."""
    base = hub_id.removeprefix("Qwen/").replace("/", "--")
    for suffix in ("-q4", "-q8", "-bf16", ""):
        folder = models_dir() / f"{base}{suffix}"
        if (folder / "config.json").exists():
            return folder
    return None


def _cached(hub_id: str) -> Path | None:
    """The snapshot in the hub's cache, if every file that its index names is whole."""
    if not (cache_dir() / f"models--{hub_id.replace('/', '--')}").exists():
        return None
    snapshot_download = _snapshot_download()
    from huggingface_hub.errors import HFValidationError

    try:
        path = snapshot_download(
            hub_id, cache_dir=cache_dir(), local_files_only=True, allow_patterns=ALLOWED
        )
        return open_checkpoint(path).path
    except (Qwen3Error, OSError, HFValidationError):
        return None  # nothing there, or a part only: the download goes on from what is there


def _download(hub_id: str) -> Path:
    snapshot_download = _snapshot_download()
    try:
        return Path(snapshot_download(hub_id, cache_dir=cache_dir(), allow_patterns=ALLOWED))
    except Exception as error:
        # Below this call are an HTTP client, a disk cache and a native transfer library, each
        # with exceptions of its own; whichever it is, the person needs one sentence.
        raise HubError(_sentence(hub_id, error)) from error


def _snapshot_download() -> Callable[..., str]:
    """The hub's own downloader, with its progress bars and without its telemetry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when it is first imported
    from huggingface_hub import snapshot_download

    return cast("Callable[..., str]", snapshot_download)


def _sentence(hub_id: str, error: BaseException) -> str:
    reason, advice = _reason(hub_id, error)
    return f"{hub_id} was not downloaded: {reason}; {advice}, or use `-m tiny`, which is built in"


def _reason(hub_id: str, error: BaseException) -> tuple[str, str]:
    """What happened and what to do, from the most telling exception of the chain."""
    from huggingface_hub import constants, errors

    chain = list(_chain(error))
    for known in chain:
        if isinstance(known, errors.GatedRepoError):
            return (
                "the hub asks for consent first",
                f"accept its terms at {constants.ENDPOINT}/{hub_id} and run `hf auth login`",
            )
        if isinstance(known, errors.RepositoryNotFoundError | errors.HFValidationError):
            return (
                "the hub has no such public model, and there is no folder of this name",
                "check the spelling (`qwen3-mlx models` lists names)",
            )
        if isinstance(known, errors.HfHubHTTPError):
            return _http_reason(known)
        if isinstance(known, OSError) and known.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk of {cache_dir()} is full, what was downloaded is kept",
                "free space or set HF_HOME to a folder on another disk and run it again",
            )
    if constants.HF_HUB_OFFLINE:
        return "offline mode is on and it is not in the cache", "unset HF_HUB_OFFLINE"
    last = chain[-1]
    detail = str(last).strip().split("\n")[0] or type(last).__name__
    return (
        f"{constants.ENDPOINT} cannot be reached or broke off ({detail})",
        "check the network and run the same command again, it goes on where it stopped",
    )


def _http_reason(error: Any) -> tuple[str, str]:
    status = getattr(getattr(error, "response", None), "status_code", "an error")
    if status == 429:
        return "the hub answered 429, too many requests", "wait some minutes and run it again"
    if status in (401, 403, 404):
        return (
            f"the hub answered {status}, it shows no such model to you",
            "check the spelling, or run `hf auth login` if it is private",
        )
    return f"the hub answered {status}", "try again later"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
