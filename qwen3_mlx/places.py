"""Where this program keeps its files, how the hub's cache calls a model, and the last one used.

It imports nothing that takes time, since `ask` needs it before it knows whether an agent
answers.
"""

from __future__ import annotations

import json
import os
import sys

__all__ = ["cache_name", "home", "hub_id_of", "last_model", "remember_model"]


def home() -> str:
    """The folder of our files; QWEN3_MLX_HOME overrides the system's place."""
    stated = os.environ.get("QWEN3_MLX_HOME")
    if stated:
        return os.path.expanduser(stated)
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/qwen3-mlx")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "qwen3-mlx")


def cache_name(hub_id: str) -> str:
    """The folder of a model in the cache of the hub.

    >>> cache_name("Qwen/Qwen3-4B")
    'models--Qwen--Qwen3-4B'
    """
    return f"models--{hub_id.replace('/', '--')}"


def hub_id_of(cache_name: str) -> str:
    """The model that a folder of the cache is for.

    >>> hub_id_of("models--Qwen--Qwen3-4B")
    'Qwen/Qwen3-4B'
    """
    return cache_name.removeprefix("models--").replace("--", "/", 1)


def last_model() -> str | None:
    """The name or path of the model that was used last, if any is known."""
    try:
        with open(_state_file(), encoding="utf-8") as file:
            state = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    name = state.get("last_model") if isinstance(state, dict) else None
    return name if isinstance(name, str) and name else None


def remember_model(name: str) -> None:
    """Keep `name` for `last_model`; a folder is kept as an absolute path.

    A home that cannot be written costs the memory and nothing else, so it raises nothing.
    """
    path = os.path.expanduser(name)
    if name != "tiny" and os.path.exists(path):
        name = os.path.realpath(path)
    if name == last_model():
        return
    try:
        os.makedirs(home(), exist_ok=True)
        _replace(_state_file(), json.dumps({"last_model": name}) + "\n")
    except OSError:
        return


def _state_file() -> str:
    return os.path.join(home(), "state.json")


def _replace(file: str, text: str) -> None:
    """Write beside the file and rename, so that a reader sees the old or the new, whole."""
    import tempfile  # 5 ms, needed once per change of model and never before the answer

    folder, name = os.path.split(file)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
