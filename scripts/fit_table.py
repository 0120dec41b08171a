"""The table of docs/models.md: which model fits which Mac, and how fast it would be.

    python scripts/fit_table.py

prints it as Markdown; a test compares it with the page.
"""

from __future__ import annotations

from qwen3_mlx.catalogue import entries, format_bytes
from qwen3_mlx.machines import named
from qwen3_mlx_app.fit_subjects import judge, planned

MACS = ("m1 8GB", "m2 16GB", "m4 pro 24GB", "m4 max 64GB", "m3 ultra 256GB")
FAMILIES = ("hybrid", "coder")


def table() -> str:
    """Models down, Macs across; a 4-bit model and a chat of 8,192 tokens."""
    macs = [named(mac) for mac in MACS]
    chips = (f"{mac.name.removeprefix('Apple ')}, {mac.memory}" for mac in macs)
    heads = ["model", "4 bits", *chips]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for entry in entries():
        if entry.family not in FAMILIES or entry.name == "tiny":
            continue
        subject = planned(entry.name, entry.config, 4)
        cells = [entry.name, format_bytes(subject.weight_bytes)]
        for mac in macs:
            judged = judge(subject, mac, None)
            speed = "" if judged.speed is None else f", {judged.speed.at_start:.3g} t/s"
            cells.append(judged.verdict + speed)
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
