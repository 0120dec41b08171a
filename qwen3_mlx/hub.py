"""From a name to a folder: the embedded model, a path, our folder, the cache, LM Studio, the hub.

Whatever is here already is used without a network. huggingface_hub is imported only when the
hub itself must be asked (`pulling.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from qwen3_mlx import catalogue, places
from qwen3_mlx.checkpoint import open_checkpoint, read_json
from qwen3_mlx.errors import CheckpointError, ModelNotFoundError, Qwen3Error

if TYPE_CHECKING:
    from qwen3_mlx.pulling import Listener

__all__ = [
    "cache_dir",
    "data_dir",
    "find",
    "lm_studio_dirs",
    "local_models",
    "models_dir",
    "resolve",
    "unfinished_downloads",
]

TINY = Path(__file__).parent / "tiny"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")


def resolve(
    name: str,
    *,
    source: bool = False,
    progress: Listener | None = None,
    stop: Event | None = None,
) -> Path:
    """The folder that a name means, downloaded if need be.

    Tried in this order: "tiny"; an existing path; then, for a catalogue name or a hub id,
    a conversion in `models_dir()`, the Hugging Face cache, LM Studio's folder, the hub.

    Args:
        name: what to find.
        source: skip the conversions, for a caller that wants the original weights.
        progress: hears how far a download is, file by file, from other threads.
        stop: set it to pause a download.

    >>> resolve("tiny").name
    'tiny'

    Raises:
        ModelNotFoundError: nothing has this name.
        HubError: it is not on this machine, and the hub does not give it.
        DownloadPaused: `stop` was set; what came is kept.
    """
    if name == "tiny":
        return TINY
    path = os.path.expanduser(name)
    if os.path.exists(path):
        return Path(path)
    hub_id = _hub_id(name)
    folder = _here(hub_id, source)
    if folder is None:
        from qwen3_mlx.pulling import pull_into  # not needed for what is here

        folder = pull_into(cache_dir(), hub_id, lambda: _here(hub_id, source), progress, stop)
    return folder


def data_dir() -> Path:
    """Where this program keeps its files; QWEN3_MLX_HOME overrides the system's place."""
    return Path(places.home())


def find(name: str, *, source: bool = False) -> Path | None:
    """Like `resolve`, but never asks the hub: None for a model that must be downloaded first.

    >>> find("tiny").name
    'tiny'
    """
    path = os.path.expanduser(name)
    if name == "tiny" or os.path.exists(path):
        return resolve(name)
    return _here(_hub_id(name), source)


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


def lm_studio_dirs() -> Iterator[Path]:
    """LM Studio's folders of models, ORG/NAME below each; the one that was set there first."""
    user = Path.home()
    home = user / ".lmstudio"
    with suppress(OSError):
        home = Path((user / ".lmstudio-home-pointer").read_text().strip() or home)
    with suppress(CheckpointError):
        chosen = read_json(home / "settings.json").get("downloadsFolder")
        if isinstance(chosen, str) and chosen:
            yield Path(chosen).expanduser()
    yield home / "models"
    yield user / ".cache" / "lm-studio" / "models"


def local_models() -> Iterator[tuple[str, Path]]:
    """Names and folders of the Qwen3 models here: in our folder, the cache, LM Studio's folder."""
    for source in (_all_converted(), _all_cached(), _all_in_lm_studio()):
        with suppress(OSError):  # a place that may not be searched has no models for us
            yield from source


def unfinished_downloads() -> Iterator[tuple[str, int, int]]:
    """Downloads that stopped on the way: hub id, bytes that are here, bytes in all."""
    from qwen3_mlx.pulling import unfinished

    with suppress(OSError):
        yield from unfinished(cache_dir())


def _all_converted() -> Iterator[tuple[str, Path]]:
    for config in sorted(models_dir().glob("*/config.json")):
        if not config.parent.name.startswith("."):  # that is one being made
            yield config.parent.name, config.parent


def _all_cached() -> Iterator[tuple[str, Path]]:
    for repo in sorted(cache_dir().glob("models--*")):
        snapshots = sorted(
            repo.glob("snapshots/*/config.json"), key=lambda file: file.parent.stat().st_mtime
        )
        if snapshots and _is_qwen3(snapshots[-1]):
            yield places.hub_id_of(repo.name), snapshots[-1].parent


def _all_in_lm_studio() -> Iterator[tuple[str, Path]]:
    seen = set()
    for models in lm_studio_dirs():
        configs: list[Path] = []
        with suppress(OSError):
            configs = sorted(models.glob("*/*/config.json"))
        for config in configs:
            if os.path.realpath(config) not in seen and _is_qwen3(config):
                seen.add(os.path.realpath(config))
                yield f"{config.parents[1].name}/{config.parent.name}", config.parent


def _is_qwen3(config: Path) -> bool:
    try:
        return read_json(config).get("model_type") in ("qwen3", "qwen3_moe")
    except CheckpointError:
        return False


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


def _here(hub_id: str, source: bool) -> Path | None:
    """Where a hub id is on this machine."""
    found = None if source else _converted(hub_id)
    return found or _cached(hub_id) or _in_lm_studio(hub_id)


def _converted(hub_id: str) -> Path | None:
    """A conversion in our folder: "Qwen3-4B-q4" for Qwen's own, "org--name-q4" for others."""
    base = hub_id.removeprefix("Qwen/").replace("/", "--")
    for suffix in ("-q4", "-q8", "-bf16", ""):
        folder = models_dir() / f"{base}{suffix}"
        if (folder / "config.json").exists():
            return folder
    return None


def _cached(hub_id: str) -> Path | None:
    """The snapshot in the hub's cache, if it is whole; a part only is downloaded further."""
    repo = cache_dir() / places.cache_name(hub_id)
    try:
        commit = (repo / "refs" / "main").read_text().strip()
        folder = repo / "snapshots" / commit
        if not (folder / "tokenizer.json").exists() and any(repo.glob("blobs/*.incomplete")):
            return None  # another program was stopped on the way
        return open_checkpoint(folder).path
    except (Qwen3Error, OSError, ValueError):
        return None


def _in_lm_studio(hub_id: str) -> Path | None:
    """The folder that LM Studio downloaded, if it is whole."""
    for models in lm_studio_dirs():
        try:
            return open_checkpoint(models / hub_id).path
        except (Qwen3Error, OSError, ValueError):
            continue
    return None
