"""What the doctor looks at. Everything that asks the system is here, in small functions."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from qwen3_mlx import hub
from qwen3_mlx.ledger import Entry, read_book
from qwen3_mlx.machines import Machine, sysctl, this_machine
from qwen3_mlx.version import __version__

__all__ = ["Facts", "Metal", "Model", "Place", "gather"]

PACKAGES = ("mlx", "mlx-lm", "numpy", "tokenizers", "jinja2", "huggingface_hub", "textual")
#: Settings of the environment that change what happens.
SETTINGS = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE", "QWEN3_MLX_HOME", "QWEN3_MLX_AGENT", "MLX_MAX_OPS_PER_BUFFER",
    "MLX_MAX_MB_PER_BUFFER",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metal:
    """What MLX says of the GPU: `error` if mlx cannot be imported at all."""

    available: bool
    error: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    in_place: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that is written to: bytes free on its disk, and whether it can be written."""

    name: str
    path: str
    free_bytes: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Model:
    """A model on this machine; `error` says why it cannot be used."""

    name: str
    path: str
    nbytes: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the findings are made from."""

    system: str
    macos: str
    architecture: str
    rosetta: bool
    python: str
    executable: str
    machine: Machine
    swap_bytes: int
    low_power: bool
    caffeinate: bool
    metal: Metal
    versions: dict[str, str]
    places: tuple[Place, ...]
    settings: dict[str, str]
    models: tuple[Model, ...]
    unfinished: tuple[tuple[str, int, int], ...]
    claims: tuple[Entry, ...]
    trial: str  # what went wrong when tiny was asked; "" if it answered


def gather(trial: Callable[[], str] | None = None) -> Facts:
    """Ask the system. `trial` asks tiny and returns what went wrong."""
    translated = sysctl("sysctl.proc_translated") if sys.platform == "darwin" else ""
    return Facts(
        system=platform.system(),
        macos=platform.mac_ver()[0],
        architecture=platform.machine(),
        rosetta=translated == "1",
        python=platform.python_version(),
        executable=sys.executable,
        machine=_machine(),
        swap_bytes=swap_used(sysctl("vm.swapusage") if sys.platform == "darwin" else ""),
        low_power=sys.platform == "darwin" and low_power(_said("pmset", "-g")),
        caffeinate=shutil.which("caffeinate") is not None,
        metal=_metal(),
        versions=_versions(),
        places=(
            _place("models of Hugging Face", hub.cache_dir()),
            _place("own files", hub.data_dir()),
        ),
        settings={name: os.environ[name] for name in SETTINGS if os.environ.get(name)},
        models=_models(),
        unfinished=tuple(hub.unfinished_downloads()),
        claims=_claims(),
        trial=(trial or ask_tiny)(),
    )


def swap_used(text: str) -> int:
    """Bytes of swap in use, from macOS's `vm.swapusage`.

    >>> swap_used("total = 2048.00M  used = 1024.50M  free = 1023.50M  (encrypted)")
    1074266112
    """
    words = text.replace("=", " ").replace(",", ".").split()  # a decimal comma, in some languages
    if "used" not in words:
        return 0
    try:
        size = words[words.index("used") + 1]
        unit = {"K": 10, "M": 20, "G": 30, "T": 40}[size[-1]]
        return int(float(size[:-1]) * 2**unit)
    except (IndexError, KeyError, ValueError):
        return 0


def low_power(text: str) -> bool:
    """Whether `pmset -g` says that macOS saves power.

    >>> low_power(" standby 1\\n lowpowermode         1\\n")
    True
    >>> low_power(" powermode            1\\n")  # where there are Energy Modes; 2 is high
    True
    """
    words = (line.split() for line in text.splitlines())
    return any(each in (["lowpowermode", "1"], ["powermode", "1"]) for each in words)


def ask_tiny() -> str:
    """Load the embedded model here, whatever an agent holds, and let it answer; what went wrong."""
    try:
        import qwen3_mlx

        with qwen3_mlx.load("tiny", agent=False) as model:
            greedy = qwen3_mlx.Sampling(temperature=0)
            reply = model.ask("hello", sampling=greedy, max_tokens=8, thinking=False)
    except Exception as error:  # whatever is broken here is what the doctor is asked about
        return f"{type(error).__name__}: {error}"
    return "" if reply.text.strip() else "tiny said nothing"


def _said(*command: str) -> str:
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _machine() -> Machine:
    """This machine; what may be used of it by Metal's own word, where that can be had."""
    here = this_machine()
    try:
        from qwen3_mlx.streaming import working_set

        return replace(here, usable_bytes=working_set() or here.usable_bytes)
    except Exception:  # an mlx that is broken, which `_metal` tells
        return here


def _claims() -> tuple[Entry, ...]:
    try:
        return read_book(hub.data_dir() / "memory")
    except OSError:  # a folder that may not be searched, which `_place` tells
        return ()


def _metal() -> Metal:
    try:
        import mlx.core as mx

        from qwen3_mlx.experts.slots import writes_in_place

        limits = {
            name: value
            for name, value in mx.device_info().items()
            if isinstance(value, int | str)
        }  # fmt: skip
        return Metal(mx.metal.is_available(), "", limits, writes_in_place())
    except Exception as error:  # an mlx that cannot be imported, or that finds no device
        return Metal(False, f"{type(error).__name__}: {error}")


def _versions() -> dict[str, str]:
    found = {"qwen3-mlx": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _place(name: str, path: Path) -> Place:
    """The folder, or the nearest one above it that exists and can be seen."""
    near = path
    while not os.path.exists(near) and near != near.parent:  # Path.exists may raise
        near = near.parent
    try:
        free = shutil.disk_usage(near).free
    except OSError:
        free = 0
    writable = os.path.isdir(near) and os.access(near, os.W_OK | os.X_OK)
    return Place(name, str(path), free, writable)


def _models() -> tuple[Model, ...]:
    from qwen3_mlx_app.models_command import local

    try:
        return tuple(
            Model(each["name"], each["path"], each.get("weight_bytes", 0), each.get("error", ""))
            for each in local()
        )
    except ImportError:  # mlx cannot be used, which `_metal` tells: no model can be looked at
        return tuple(Model(name, str(path)) for name, path in hub.local_models())
