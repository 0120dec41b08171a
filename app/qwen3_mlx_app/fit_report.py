"""What `fit` says: the plan, the verdict and the arithmetic, as text and as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qwen3_mlx.catalogue import active_params, format_bytes, total_params
from qwen3_mlx.fit import EFFICIENCY, OUTSIDE_BYTES, Fit, hit_rate
from qwen3_mlx.machines import Machine, describe
from qwen3_mlx.memory import Plan

if TYPE_CHECKING:
    from qwen3_mlx_app.fit_subjects import Subject

__all__ = ["limited", "one", "one_json", "plan_json", "plan_lines", "table", "table_json"]

Rows = Sequence[tuple["Subject", Fit]]


def plan_lines(plan: Plan) -> list[str]:
    """The plan as a table for people."""
    return _aligned([*_parts(plan), ("together", plan.total_bytes, _limit(plan))])


def limited(subject: Subject, plan: Plan) -> str:
    """The plan under a limit."""
    return "\n".join([_title(subject), *plan_lines(plan)])


def one(subject: Subject, machine: Machine, judged: Fit, disk: float | None) -> str:
    """A model on a machine."""
    config, plan = subject.config, judged.plan
    total, active = total_params(config), active_params(config)
    weights = f"{total:,}" + (f", of which {active:,} for a token" if active < total else "")
    rows = [
        *_parts(plan),
        ("Python, Metal", OUTSIDE_BYTES, ""),
        ("together", plan.total_bytes + OUTSIDE_BYTES, _limit(plan, OUTSIDE_BYTES)),
    ]
    lines = [
        f"{_title(subject)}, on {describe(machine)}",
        f"  {'parameters':<26}{weights}",
        f"  {'weights':<26}{subject.weight_bytes:,} bytes",
        f"  {'KV cache':<26}{config.kv_bytes_per_token():,} bytes a token",
        "",
        *_aligned(rows),
        "",
        f"  {judged.verdict}: {_because(judged)}",
    ]
    lines += _speed_lines(judged, machine, disk)
    lines += _advice(subject, judged)
    return "\n".join(lines)


def one_json(
    subject: Subject, machine: Machine, judged: Fit, disk: float | None
) -> dict[str, Any]:  # fmt: skip
    """The same as values; sizes in bytes, speeds in tokens and bytes a second."""
    return {"machine": asdict(machine), "measured_disk": disk} | _row_json(subject, judged)


def table(rows: Rows, machine: Machine) -> str:
    """All models on a machine."""
    stored = rows[0][0].stored
    context = max(judged.plan.context for _, judged in rows)
    heads = ("NAME", "PARAMETERS", stored.upper(), "KV/TOKEN", "TOGETHER", "VERDICT", "TOKENS/S")
    cells = [heads, *(_cells(subject, judged) for subject, judged in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    text = [_line(row, widths) for row in cells]
    speed = (
        "Tokens a second are predicted from the memory's bandwidth; "
        if machine.bandwidth
        else "No tokens a second: the bandwidth of this processor is not known. "
    )
    return "\n".join([
        f"On {describe(machine)}; {stored} weights, a context of {context:,} tokens:",
        "",
        *text,
        "",
        f"{speed}`qwen3-mlx fit NAME` shows",
        'the arithmetic, `--on "m4 max 64GB"` another Mac, `--context 32k` longer texts.',
    ])  # fmt: skip


def table_json(rows: Rows, machine: Machine) -> dict[str, Any]:
    """The table as values."""
    return {"machine": asdict(machine), "models": [_row_json(*row) for row in rows]}


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as values."""
    return asdict(plan) | {"total_bytes": plan.total_bytes}


def _title(subject: Subject) -> str:
    return f"{subject.name}, {subject.stored}"


def _parts(plan: Plan) -> list[tuple[str, int, str]]:
    rows = [
        ("weights always in memory", plan.trunk_bytes, ""),
        ("KV cache", plan.kv_bytes, f"{plan.context:,} tokens"),
        ("work", plan.workspace_bytes, f"prompts read {plan.chunk:,} tokens at a time"),
    ]
    if plan.prefix_bytes:
        rows.insert(2, ("texts read before", plan.prefix_bytes, "a conversation goes on at once"))
    if plan.slots:
        rows.append(("experts in memory", plan.slots_bytes, _slots(plan)))
    if plan.scratch:
        rows.append(("experts in passing", plan.scratch_bytes, f"{plan.scratch} for all layers"))
    return rows


def _aligned(rows: Iterable[tuple[str, int, str]]) -> list[str]:
    return [f"  {what:<26}{format_bytes(size):>10}  {text}".rstrip() for what, size, text in rows]


def _limit(plan: Plan, outside: int = 0) -> str:
    return f"limit {format_bytes(plan.limit + outside)}" if plan.limit else ""


def _slots(plan: Plan) -> str:
    few, many = min(plan.slots.values()), max(plan.slots.values())
    each = str(few) if few == many else f"{few}-{many}"
    share = 100 * plan.resident_fraction
    return f"{each} of {plan.experts} in each of {len(plan.slots)} layers, {share:.0f} %"


def _because(judged: Fit) -> str:
    usable = max(0, judged.usable_bytes)  # others may have planned more than there is
    sums = f"{format_bytes(judged.needed_bytes)} wanted, {format_bytes(usable)} to use"
    if judged.other_bytes:
        sums += f", since other programs plan {format_bytes(judged.other_bytes)}"
    if judged.verdict == "streams experts":
        sums += "; experts that find no room are read from disk"
    return sums


def _speed_lines(judged: Fit, machine: Machine, disk: float | None) -> list[str]:
    speed = judged.speed
    if speed is None or machine.bandwidth is None:
        unknown = f"no speed is predicted: the bandwidth of {machine.name} is not known here"
        return [] if judged.verdict == "too big" else [f"  {unknown}"]
    rated = EFFICIENCY * machine.bandwidth
    sums = [
        f"{format_bytes(speed.read_bytes)} a token / ({EFFICIENCY} x "
        f"{machine.bandwidth / 1e9:.0f} GB/s) = {speed.read_bytes / rated * 1e3:.1f} ms",
        f"layers {speed.layer_seconds * 1e3:.1f} ms",
    ]
    if speed.disk_bytes:
        rate = disk or machine.disk
        how = "measured" if disk else "assumed"
        hits = 100 * hit_rate(judged.plan.resident_fraction)
        sums.append(
            f"{format_bytes(speed.disk_bytes)} of experts / {rate / 1e9:.1f} GB/s of disk ({how}, "
            f"{hits:.0f} % found in memory) = {speed.disk_bytes / rate * 1e3:.0f} ms"
        )
    context = judged.plan.context
    return [
        f"  about {_rate(speed.at_start)} tokens/s at first, {_rate(speed.at_end)} with "
        f"{context:,} tokens in the cache",
        *(f"    {text}" for text in sums),
    ]


def _advice(subject: Subject, judged: Fit) -> list[str]:
    if judged.verdict == "too big":
        step = "choose a smaller model (`qwen3-mlx fit` lists them) or a shorter --context"
        if subject.stored == "bf16":
            step = f"convert it: `qwen3-mlx convert {subject.name} --q4`, or {step}"
        return ["", f"  {step}"]
    return []


def _cells(subject: Subject, judged: Fit) -> tuple[str, ...]:
    config, speed = subject.config, judged.speed
    return (
        subject.name,
        f"{total_params(config):,}",
        format_bytes(subject.weight_bytes),
        f"{config.kv_bytes_per_token():,}",
        format_bytes(judged.needed_bytes),
        judged.verdict,
        "" if speed is None else _rate(speed.at_start),
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Numbers to the right, words to the left."""
    words = (0, 5)
    return "  ".join(
        cell.ljust(width) if i in words else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def _rate(tokens: float) -> str:
    return f"{tokens:.0f}" if tokens >= 10 else f"{tokens:.1f}"


def _row_json(subject: Subject, judged: Fit) -> dict[str, Any]:
    config = subject.config
    return {
        "name": subject.name,
        "stored": subject.stored,
        "total_params": total_params(config),
        "active_params": active_params(config),
        "weight_bytes": subject.weight_bytes,
        "kv_bytes_per_token": config.kv_bytes_per_token(),
        "context": judged.plan.context,
        "verdict": judged.verdict,
        "needed_bytes": judged.needed_bytes,
        "usable_bytes": judged.usable_bytes,
        "other_bytes": judged.other_bytes,
        "plan": plan_json(judged.plan),
        "speed": None if judged.speed is None else asdict(judged.speed),
    }
