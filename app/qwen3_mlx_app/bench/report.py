"""What was measured, as a table for a terminal, as JSON, and as a page for others to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.machines import bandwidth, memory_text
from qwen3_mlx_app.bench.launches import Launches
from qwen3_mlx_app.bench.measure import Plan, Row, Spread

__all__ = ["Results", "as_json", "as_page", "as_text"]

_RATIOS = ("prefill", "decode", "batch", "ttft", "load", "cold_ask", "cold_ask_compiling")


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run of `bench` found out. Sizes are bytes."""

    model: str
    command: str
    machine: dict[str, Any]
    plan: Plan
    sides: tuple[str, ...]  # ours first
    rows: Sequence[Row]
    launches: dict[str, Launches]  # by side
    weight_bytes: int
    bytes_per_token: dict[int, int]  # by context

    @property
    def ratios(self) -> dict[str, Spread]:
        """Gains by kind of test, over all its rows and rounds."""
        if len(self.sides) < 2:
            return {}
        found = {}
        for kind in _RATIOS:
            gains = [g for row in self.rows if row.kind == kind for g in row.gains(*self.sides)]
            if gains:
                found[kind] = Spread.of(gains)
        return found

    def roofline(self, context: int) -> float | None:
        """Tokens a second that memory bandwidth allows; None where it is not known."""
        known = bandwidth(self.machine["chip"])
        return None if known is None else known / self.bytes_per_token[context]


def as_json(results: Results) -> dict[str, Any]:
    """Plain values: every round, medians and extremes, and `ratio` by kind."""
    return {
        "model": results.model,
        "command": results.command,
        "machine": results.machine,
        "plan": asdict(results.plan),
        "weight_bytes": results.weight_bytes,
        "bytes_per_token": results.bytes_per_token,
        "roofline": {c: results.roofline(c) for c in results.bytes_per_token},
        "launches": {side: asdict(found) for side, found in results.launches.items()},
        "rows": [_row_json(row, results.sides) for row in results.rows],
        "ratio": {kind: asdict(spread) for kind, spread in results.ratios.items()},
    }


def as_text(results: Results) -> str:
    """The table for a terminal."""
    heads, rows = _cells(results)
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (heads, *rows)
    ]
    return "\n".join([_headline(results), "", *lines, "", *_facts(results), *_ratio_lines(results)])


def as_page(results: Results) -> str:
    """One Markdown page: machine, versions, tables."""
    heads, rows = _cells(results)
    machine = results.machine
    lines = [
        f"# {results.model} on {machine['chip']}",
        "",
        f"{memory_text(machine['memory_bytes'])} of memory, {machine['cores']} cores, "
        f"{machine['system']}, MLX on {machine['backend']}.",
        f"qwen3-mlx {machine['qwen3-mlx']}, mlx {machine['mlx']}, mlx-lm {machine['mlx-lm']}, "
        f"Python {machine['python']}.",
        "",
        f"    {results.command}",
        "",
        f"Medians of {results.plan.rounds} rounds, with the lowest and the highest."
        + (" Both sides take turns; a gain of 2 means twice as fast." if results.ratios else ""),
        "",
        "| " + " | ".join(heads) + " |",
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *("| " + " | ".join(line) + " |" for line in rows),
        "",
        *(f"- {fact}" for fact in (*_facts(results), *_ratio_lines(results))),
    ]
    return "\n".join(lines) + "\n"


def _row_json(row: Row, sides: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "test": row.test,
        "unit": row.unit,
        "rounds": row.values,
        "spread": {side: asdict(row.spread(side)) for side in row.values},
        "gain": asdict(Spread.of(row.gains(*sides))) if len(sides) > 1 else None,
    }


def _headline(results: Results) -> str:
    machine = results.machine
    return (
        f"{results.model}, {format_bytes(results.weight_bytes)} of weights, on {machine['chip']} "
        f"({machine['backend']}), mlx {machine['mlx']}, {results.plan.rounds} rounds"
    )


def _cells(results: Results) -> tuple[list[str], list[list[str]]]:
    heads = ["test", *results.sides, *(["gain"] if len(results.sides) > 1 else [])]
    rows = []
    for row in results.rows:
        cells = [row.test, *(_value(row.spread(side), row.unit) for side in results.sides)]
        if len(results.sides) > 1:
            cells.append(_gain(Spread.of(row.gains(*results.sides))))
        rows.append(cells)
    return heads, rows


def _value(spread: Spread, unit: str) -> str:
    if unit == "B":
        return format_bytes(int(spread.median))
    digits = ",.1f" if unit == "t/s" else ".3f"
    low, high = format(spread.low, digits), format(spread.high, digits)
    return f"{spread.median:{digits}} {unit} ({low} to {high})"


def _gain(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def _facts(results: Results) -> list[str]:
    counts = ", ".join(f"{side} {found.total}" for side, found in results.launches.items())
    facts = [f"launches per layer in decode: {counts}"] if counts else []
    for context, read in results.bytes_per_token.items():
        fact = f"bytes read per token at {context} tokens: {format_bytes(read)}"
        roofline = results.roofline(context)
        if roofline is not None:
            fact += f", so at most {roofline:,.0f} t/s with this memory"
        facts.append(fact)
    return facts


def _ratio_lines(results: Results) -> list[str]:
    return [f"ratio {kind}: {_gain(spread)}" for kind, spread in results.ratios.items()]
