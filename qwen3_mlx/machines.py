"""Macs in numbers: memory, what a program may use of it, and how fast it is read.

Bandwidths are Apple's published ones. Of chips that are sold in two versions under one name
the faster is listed, so that what is computed from it is an upper bound.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.errors import OptionError

__all__ = [
    "Machine",
    "bandwidth",
    "describe",
    "memory_size",
    "memory_text",
    "named",
    "sysctl",
    "this_machine",
    "with_memory",
]

_GIB = 2**30
#: GB/s of unified memory.
_BANDWIDTHS = {
    "M1": 68.25, "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800,
    "M2": 100, "M2 Pro": 200, "M2 Max": 400, "M2 Ultra": 800,
    "M3": 100, "M3 Pro": 150, "M3 Max": 400, "M3 Ultra": 819,
    "M4": 120, "M4 Pro": 273, "M4 Max": 546,
    "M5": 153.6, "M5 Pro": 307, "M5 Max": 614,
}  # fmt: skip
#: Bytes a second of the internal disk, by the kind of chip: assumed, since it varies with size.
_DISK = {"": 2.5e9, "Pro": 5.0e9, "Max": 5.5e9, "Ultra": 5.5e9}
#: Where nothing better is known.
_OTHER_DISK = 2.0e9
#: The share of memory that a program may plan where no Metal says so.
_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Machine:
    """A computer.

    Args:
        name: for people.
        memory_bytes: what is built in.
        usable_bytes: what one program may plan, so that the rest of the system can work.
        bandwidth: bytes a second from memory; None if it is not known.
        disk: bytes a second from the disk, assumed until it is measured.
        here: whether it is this one.
    """

    name: str
    memory_bytes: int
    usable_bytes: int
    bandwidth: float | None
    disk: float = _OTHER_DISK
    here: bool = False

    @property
    def memory(self) -> str:
        """The memory as it is sold: 64 GB are 64 x 2**30 bytes."""
        return memory_text(self.memory_bytes)


def memory_text(size: int) -> str:
    """Memory as it is sold.

    >>> memory_text(2**36), memory_text(25 * 2**28)
    ('64 GB', '6.2 GB')
    """
    sold = size / _GIB
    return f"{sold:.0f} GB" if abs(sold - round(sold)) < 0.05 else f"{sold:.1f} GB"


def bandwidth(chip: str) -> float | None:
    """Published memory bandwidth in bytes a second; None where it is not known.

    >>> bandwidth("Apple M4 Pro"), bandwidth("Xeon")
    (273000000000.0, None)
    """
    known = _BANDWIDTHS.get(chip.removeprefix("Apple "))
    return None if known is None else known * 1e9


def named(text: str, memory_bytes: int | None = None) -> Machine:
    """A Mac as people call it: "m4 max 64GB", "macbook air m2 16GB".

    `memory_bytes` goes before the memory that the text says.

    >>> mac = named("macbook air m2 16GB")
    >>> mac.name, mac.memory, round(mac.usable_bytes / 2**30, 1)
    ('Apple M2', '16 GB', 10.7)

    Raises:
        OptionError: there is no such chip, or its memory is not said, or said twice.
    """
    chip = re.search(r"\bm(\d)\s*-?(pro|max|ultra)?\b", text.lower())
    kind = (chip[2] or "").capitalize() if chip else ""
    name = f"M{chip[1]} {kind}".rstrip() if chip else ""
    if name not in _BANDWIDTHS:
        raise OptionError(
            f"{text!r} is no Mac that is known here: write a chip and its memory, like "
            f"'m4 max 64GB'; chips are {', '.join(_BANDWIDTHS)}"
        )
    if memory_bytes is None:
        memory_bytes = _said_memory(text, name, text.lower()[chip.end() :] if chip else "")
    made = Machine(f"Apple {name}", 0, 0, bandwidth(name), _DISK[kind])
    return with_memory(made, memory_bytes)


def _said_memory(text: str, name: str, rest: str) -> int:
    """The one size that stands behind the chip; with a unit, if any number there has one."""
    number = r"(?<![\w.])(\d+(?:\.\d+)?)"
    sizes = re.findall(rf"{number}\s*(?:g|gb|gib)\b", rest) or re.findall(rf"{number}\b", rest)
    if len(sizes) != 1:
        what = "lacks its memory" if not sizes else f"has {len(sizes)} sizes for its memory"
        raise OptionError(f"{text!r} {what}: write it like '{name.lower()} 16GB'")
    return memory_size(f"{sizes[0]}GB")


def memory_size(text: str) -> int:
    """The memory of a machine as it is sold, where a GB is 2**30 bytes.

    >>> memory_size("16GB"), memory_size("16")
    (17179869184, 17179869184)

    Raises:
        OptionError: it is no size, or not from 1 to 4,096 GB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:g|gb|gib)?\s*", text.lower())
    size = float(match[1]) if match else 0.0
    if not 1 <= size <= 4096:
        raise OptionError(f"{text!r} is no memory of a computer: write it like 16GB")
    return int(size * _GIB)


def with_memory(machine: Machine, memory_bytes: int) -> Machine:
    """The same machine with other memory, of which a Mac would let the GPU have the most."""
    usable = _working_set(memory_bytes)
    return replace(machine, memory_bytes=memory_bytes, usable_bytes=usable)


@cache
def this_machine() -> Machine:
    """The computer that this runs on."""
    if sys.platform == "darwin":
        return _this_mac()
    memory = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _cgroup_limit())
    name = platform.processor() or platform.machine()
    return Machine(name, memory, int(memory * _SHARE), None, here=True)


def sysctl(name: str) -> str:
    """A value of macOS's `sysctl`; "" where there is none."""
    import subprocess  # 5 ms, and only large models ask

    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False
        )  # by its path: not every PATH has /usr/sbin
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _this_mac() -> Machine:
    memory = int(sysctl("hw.memsize") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    chip = sysctl("machdep.cpu.brand_string") or platform.machine()
    kind = chip.split()[-1]
    disk = _DISK.get(kind if kind in _DISK else "", _OTHER_DISK)
    # 0 is "the system's choice"; a person may have set another limit with `sudo sysctl`.
    chosen = int(sysctl("iogpu.wired_limit_mb") or 0) * 2**20
    usable = min(chosen, memory) or _working_set(memory)
    return Machine(chip, memory, usable, bandwidth(chip), disk, here=True)


def _working_set(memory: int) -> int:
    """What macOS lets the GPU keep: two thirds, or three quarters from 36 GB on.

    It was Metal's recommendedMaxWorkingSetSize: 10.7 GiB of 16, 16 of 24, 27 of 36, 48 of 64.
    Newer systems give more, which only Metal itself can tell (`streaming.working_set`).
    """
    return memory * 3 // 4 if memory > 34 * _GIB else memory * 2 // 3


def _cgroup_limit() -> int:
    """The limit of a Linux container, or more than any machine has."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return 2**62


def describe(machine: Machine) -> str:
    """For people: "Apple M4 Max, 64 GB, of which a program may use 51.5 GB"."""
    usable = format_bytes(machine.usable_bytes)
    return f"{machine.name}, {machine.memory}, of which a program may use {usable}"
