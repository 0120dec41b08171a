"""Which names mean the model that an agent holds, and whether its files are still the same."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from qwen3_mlx import hub
from qwen3_mlx.errors import ModelNotFoundError, Qwen3Error

__all__ = ["Identity"]

_FILES = (".safetensors", ".json", ".jinja")


class Identity:
    """One model of this machine, as it was named and loaded. Nothing is downloaded for it.

    Args:
        name: as for `qwen3_mlx.load`.
        load: the arguments of `load` that were stated.

    Raises:
        ModelNotFoundError: nothing has this name, or it is not here.
    """

    def __init__(self, name: str, load: Mapping[str, Any]) -> None:
        self.name = name
        self.load = {key: value for key, value in load.items() if value is not None}
        folder = hub.find(name)
        if folder is None:
            raise ModelNotFoundError(f"{name} is not here: `qwen3-mlx pull {name}` gets it")
        self.folder = folder.resolve()
        # Looking into the hub's cache takes longer than a short answer.
        self._folder_of = lru_cache(maxsize=64)(_local_folder)

    def means(self, key: str) -> bool:
        """Whether a client's key for a model is this model, without any download.

        A name can mean another folder than before: a conversion has been made since.
        """
        return self._folder_of(key, _mtime(hub.models_dir())) == self.folder

    def refusal(self, request: Mapping[str, Any]) -> str:
        """Why this model cannot answer a request; "" if it can."""
        key, load = request.get("model"), request.get("load")
        if not isinstance(key, str) or not isinstance(load, dict):
            return "the request does not name a model"
        if not self.means(key):
            return f"it holds {self.name}, not {key}"
        if load and load != self.load:
            return f"it was started with {_flags(self.load)}, and {_flags(load)} was asked for"
        return ""

    def signature(self) -> Hashable:
        """Names, sizes and times of the files that the model is made of."""
        return _signature(self.folder)


def _signature(folder: Path) -> Hashable:
    with os.scandir(folder) as found:
        files = [each for each in found if each.name.endswith(_FILES)]
        about = [(each.name, each.stat()) for each in files]
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in about))


def _local_folder(key: str, _models_changed: int) -> Path | None:
    try:
        found = hub.find(key)
    except Qwen3Error:
        return None
    return None if found is None else found.resolve()


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _flags(load: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in load.items()) or "no memory options"
