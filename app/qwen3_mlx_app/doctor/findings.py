"""From facts to findings: what is well, what is not, and one suggestion for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.machines import describe
from qwen3_mlx_app.doctor.facts import Facts, Model, Place

__all__ = ["Finding", "Level", "findings"]

#: "problem": something cannot work; "warning": it works worse than it could; "note": good to
#: know; "ok": well.
Level: TypeAlias = Literal["ok", "note", "warning", "problem"]

#: Less room than this on a disk is soon none.
LOW_DISK_BYTES = 5_000_000_000
#: Swap in use from which on a model had better be smaller.
MUCH_SWAP_BYTES = 4_000_000_000
_OLDEST_MACOS = (14, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `topic` is stable, for scripts."""

    topic: str
    level: Level
    text: str
    suggestion: str = ""


def findings(facts: Facts) -> list[Finding]:
    """All of them, in the order in which a person should read them."""
    return [
        *_machine(facts),
        *_metal(facts),
        *_versions(facts),
        *_memory(facts),
        *_places(facts),
        *_network(facts),
        *_models(facts),
        *_trial(facts),
    ]


def _machine(facts: Facts) -> Iterator[Finding]:
    where = f"macOS {facts.macos}" if facts.macos else facts.system
    on = f"{describe(facts.machine)}; {where}, Python {facts.python}"
    if facts.rosetta:
        yield Finding(
            "rosetta", "problem", f"{facts.executable} is an Intel Python under Rosetta: no GPU",
            "install an arm64 Python (python.org or Homebrew in /opt/homebrew) and install again",
        )  # fmt: skip
    elif facts.system == "Darwin" and facts.architecture != "arm64":
        yield Finding(
            "machine", "problem", f"an Intel Mac ({facts.architecture}), MLX needs an M chip",
            "use a Mac with an M chip",
        )  # fmt: skip
    elif facts.macos and _numbers(facts.macos) < _OLDEST_MACOS:
        yield Finding(
            "macos", "problem", f"macOS {facts.macos} is older than MLX needs (14.0)",
            "update macOS in System Settings, General, Software Update",
        )  # fmt: skip
    else:
        yield Finding("machine", "ok", on)
    if facts.low_power:
        yield Finding(
            "power", "warning", "Low Power Mode is on: the GPU runs slower",
            "turn it off in System Settings, Battery, while a model works",
        )  # fmt: skip
    if facts.system == "Darwin" and not facts.caffeinate:
        yield Finding(
            "awake", "warning", "caffeinate is not found: the Mac may fall asleep in a download",
            "add /usr/bin to PATH",
        )  # fmt: skip


def _metal(facts: Facts) -> Iterator[Finding]:
    metal = facts.metal
    if metal.error:
        yield Finding(
            "mlx", "problem", f"mlx cannot be used ({metal.error})",
            "install it again: pip install --force-reinstall mlx",
        )  # fmt: skip
        return
    if metal.available:
        limits = ", ".join(
            f"{words} {format_bytes(metal.limits[key])}"
            for key, words in (
                ("max_recommended_working_set_size", "working set"),
                ("max_buffer_length", "largest buffer"),
            )
            if isinstance(metal.limits.get(key), int)
        )
        yield Finding("metal", "ok", "Metal is available" + (f": {limits}" if limits else ""))
    elif facts.system == "Darwin":
        yield Finding(
            "metal", "problem", "Metal is not available: models would run on the CPU",
            "log in at the Mac itself or leave the virtual machine; then run doctor again",
        )  # fmt: skip
    else:
        yield Finding(
            "metal", "note", "fallback in use: the CPU, since there is no Metal here",
            "use a Mac for speed",
        )  # fmt: skip
    if not metal.in_place:
        yield Finding(
            "experts", "warning", "experts from disk cannot be read in place with this mlx",
            "do without --memory-limit, or install the mlx that this version asks for",
        )  # fmt: skip


def _versions(facts: Facts) -> Iterator[Finding]:
    missing = [name for name, version in facts.versions.items() if not version]
    text = ", ".join(f"{name} {version}" for name, version in facts.versions.items() if version)
    yield Finding("versions", "ok", text)
    if missing:
        yield Finding(
            "versions", "problem", f"not installed: {', '.join(missing)}",
            "install qwen3-mlx again: pip install --force-reinstall qwen3-mlx",
        )  # fmt: skip


def _memory(facts: Facts) -> Iterator[Finding]:
    claimed = sum(entry.nbytes for entry in facts.claims)
    for entry in facts.claims:
        yield Finding(
            "plans", "note", f"process {entry.pid} plans {format_bytes(entry.nbytes)}: {entry.what}"
        )
    if claimed > facts.machine.usable_bytes:
        yield Finding(
            "plans", "warning", f"{format_bytes(claimed)} are planned in all, more than the "
            f"{format_bytes(facts.machine.usable_bytes)} that programs may use",
            "close one of these programs, or start it with a lower --memory-limit",
        )  # fmt: skip
    if facts.swap_bytes > MUCH_SWAP_BYTES:
        yield Finding(
            "swap", "warning", f"{format_bytes(facts.swap_bytes)} of memory are swapped to disk",
            "close other programs, or choose a smaller model (`qwen3-mlx fit`)",
        )  # fmt: skip


def _places(facts: Facts) -> Iterator[Finding]:
    for place in facts.places:
        yield _place(place, facts.settings)


def _place(place: Place, settings: Mapping[str, str]) -> Finding:
    text = f"{place.name} in {place.path}, {format_bytes(place.free_bytes)} free"
    variable = "QWEN3_MLX_HOME"
    if "Hugging" in place.name:  # the first of these that is set is the one that counts
        names = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
        variable = next((name for name in names if name in settings), "HF_HOME")
    elsewhere = f"set {variable} to a folder"
    if not place.writable:
        return Finding("disk", "problem", f"{text}, but not writable", f"{elsewhere} of yours")
    if place.free_bytes < LOW_DISK_BYTES:
        return Finding("disk", "warning", text, f"`qwen3-mlx rm` a model, or {elsewhere} elsewhere")
    return Finding("disk", "ok", text)


def _network(facts: Facts) -> Iterator[Finding]:
    for name, value in facts.settings.items():
        yield Finding("settings", "note", f"{name}={value} is set")


def _models(facts: Facts) -> Iterator[Finding]:
    for model in facts.models:
        yield _model(model, looked=not facts.metal.error)
    if not facts.models:
        yield Finding(
            "models", "note", "no model is here but tiny, which is built in",
            "`qwen3-mlx fit` shows which ones suit this machine, `qwen3-mlx pull 4b` gets one",
        )  # fmt: skip
    for name, done, total in facts.unfinished:
        yield Finding(
            "models", "warning",
            f"{name}: {format_bytes(done)} of {format_bytes(total)} are downloaded",
            f"`qwen3-mlx pull {name}` goes on, `qwen3-mlx rm {name}` frees the space",
        )  # fmt: skip


def _model(model: Model, *, looked: bool) -> Finding:
    if not looked:
        return Finding("models", "note", f"{model.name} is here, not looked at for want of mlx")
    if not model.error:
        return Finding("models", "ok", f"{model.name}, {format_bytes(model.nbytes)}")
    return Finding(
        "models", "warning", f"{model.name} cannot be used: {model.error}",
        f"`qwen3-mlx pull {model.name}` if it is from the hub, else convert or copy it again"
        if "/" in model.name
        else f"convert it again, or `qwen3-mlx rm {model.name}`",
    )  # fmt: skip


def _trial(facts: Facts) -> Iterator[Finding]:
    if facts.trial:
        yield Finding(
            "trial", "problem", f"tiny does not answer ({facts.trial})",
            "install qwen3-mlx again; if it stays, report this with `qwen3-mlx doctor --json`",
        )  # fmt: skip
    else:
        yield Finding("trial", "ok", "tiny was loaded and answered")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
