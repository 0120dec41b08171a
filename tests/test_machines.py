"""Macs in numbers: by their names, and this one by what the system says."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from qwen3_mlx import machines
from qwen3_mlx.errors import OptionError
from qwen3_mlx.machines import Machine, named


@pytest.mark.parametrize(
    ("text", "chip", "memory", "usable"),
    [
        ("m4 max 64GB", "Apple M4 Max", "64 GB", 48),
        ("macbook air m2 16GB", "Apple M2", "16 GB", 32 / 3),
        ("Mac Studio (M3 Ultra) 512 gb", "Apple M3 Ultra", "512 GB", 384),
        ("m3-pro 36", "Apple M3 Pro", "36 GB", 27),
        ("m4 pro 24GB 2024", "Apple M4 Pro", "24 GB", 16),
        ("m2 1TB, 16 GB", "Apple M2", "16 GB", 32 / 3),
        ("M1 8G", "Apple M1", "8 GB", 16 / 3),
    ],
)
def test_macs_by_name(text: str, chip: str, memory: str, usable: float) -> None:
    mac = named(text)
    assert (mac.name, mac.memory) == (chip, memory)
    assert mac.usable_bytes / 2**30 == pytest.approx(usable)
    assert not mac.here


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no Mac that is known"), ("m9 64GB", "chips are M1, M1 Pro"),
     ("xeon 64GB", "no Mac"), ("m4 max", "lacks its memory: write it like 'm4 max 16GB'"),
     ("m4 max 0GB", "no memory of a computer"), ("m4 max 99999GB", "no memory"),
     ("m2 16GB 512GB", "has 2 sizes for its memory: write it like 'm2 16GB'"),
     ("m4 24 2024", "has 2 sizes")],
)  # fmt: skip
def test_what_is_no_mac(text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        named(text)


def _mac(monkeypatch: pytest.MonkeyPatch, **values: str) -> Machine:
    """This machine as it would be with these answers of sysctl."""
    known = {key.replace("__", "."): value for key, value in values.items()}
    monkeypatch.setattr(machines.sys, "platform", "darwin")
    monkeypatch.setattr(machines, "sysctl", lambda name: known.get(name, ""))
    return machines.this_machine.__wrapped__()


def test_this_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = _mac(
        monkeypatch, hw__memsize=str(64 << 30), machdep__cpu__brand_string="Apple M4 Max",
        iogpu__wired_limit_mb="0",
    )  # fmt: skip
    assert (mac.name, mac.bandwidth, mac.here) == ("Apple M4 Max", 546e9, True)
    assert mac.usable_bytes == 48 << 30
    mac = _mac(monkeypatch, hw__memsize=str(64 << 30), iogpu__wired_limit_mb="57344")
    assert mac.usable_bytes == 56 << 30


def test_this_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines.sys, "platform", "linux")
    monkeypatch.setattr(machines, "_cgroup_limit", lambda: 10**9)
    box = machines.this_machine.__wrapped__()
    assert (box.memory_bytes, box.usable_bytes, box.bandwidth) == (10**9, 8 * 10**8, None)


def test_sysctl_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH without /usr/sbin, as cron and some editors have it."""

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command == ["/usr/sbin/sysctl", "-n", "hw.memsize"]
        return subprocess.CompletedProcess(command, 0, "1024\n", "")

    monkeypatch.setattr(subprocess, "run", answer)
    assert machines.sysctl("hw.memsize") == "1024"
