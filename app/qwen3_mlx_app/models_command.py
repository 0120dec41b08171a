"""`qwen3-mlx models`: the models that have a name, and the ones on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx import hub
from qwen3_mlx.catalogue import (
    Entry,
    active_params,
    embedders,
    entries,
    format_bytes,
    total_params,
)
from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.machines import this_machine
from qwen3_mlx_app import options
from qwen3_mlx_app.fit_subjects import Subject, judge, planned, stored

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "known", "local", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx models             the table
  qwen3-mlx models --json      the same for scripts, sizes in bytes
  qwen3-mlx chat -m 4b         use a name of the table
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `models` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "models",
        help="list the known models with their sizes, and the ones on this machine",
        description="List the known Qwen3 models with their sizes, and the ones on this machine.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, sizes in bytes")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the table, or the JSON object with the lists `known`, `local` and `unfinished`."""
    found, parts = local(), list(hub.unfinished_downloads())
    if args.json:
        keys = ("hub_id", "bytes", "total_bytes")
        unfinished = [dict(zip(keys, part, strict=True)) for part in parts]
        lists = {"known": known(), "local": found, "unfinished": unfinished}
        print(json.dumps(lists, indent=2))
    else:
        print(_text(found, parts))
    return 0


def known() -> list[dict[str, Any]]:
    """The catalogue as plain values."""
    return [_known(entry) for entry in (*entries(), *embedders())]


def local() -> list[dict[str, Any]]:
    """The models on this machine; one that is not whole has an `error` instead of numbers."""
    found = []
    for name, path in hub.local_models():
        try:
            found.append({"name": name, "path": str(path)} | _measure(name, path))
        except (Qwen3Error, OSError) as error:
            found.append({"name": name, "path": str(path), "error": str(error)})
    return found


def _known(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "hub_id": entry.hub_id or None,
        "family": entry.family,
        "total_params": entry.total_params,
        "active_params": entry.active_params,
        "layers": entry.layers,
        "q4_bytes": entry.q4_bytes,
        "kv_bytes_per_token": entry.kv_bytes_per_token,
        "context": entry.context,
        "verdict": _verdict(planned(entry.name, entry.config, 4)),
    }


def _verdict(subject: Subject) -> str:
    """Whether it fits this machine, for a chat of 8,192 tokens."""
    return judge(subject, this_machine(), None).verdict


def _measure(name: str, path: Path) -> dict[str, Any]:
    subject = stored(name, path)
    config = subject.config
    return {
        "total_params": total_params(config),
        "active_params": active_params(config),
        "layers": config.layers,
        "bits": None if config.quantization is None else config.quantization.bits,
        "weight_bytes": subject.weight_bytes,
        "kv_bytes_per_token": config.kv_bytes_per_token(),
        "context": config.max_positions,
        "verdict": _verdict(subject),
    }


def _text(found: Sequence[dict[str, Any]], parts: Sequence[tuple[str, int, int]]) -> str:
    lines = _table(
        ("NAME", "PARAMETERS", "4-BIT SIZE", "KV PER TOKEN", "CONTEXT", "FIT", "HUB ID"),
        [_known_row(entry) for entry in (*entries(), *embedders())],
    )
    lines.append("")
    if found:
        heads = ("ON THIS MACHINE", "PARAMETERS", "SIZE", "STORED AS", "FIT", "PATH")
        lines += _table(heads, [_local_row(model) for model in found])
    else:
        lines.append(f"No other model is on this machine (looked in {hub.models_dir()},")
        lines.append(f"{hub.cache_dir()} and LM Studio's folder).")
    for name, done, total in parts:
        lines += [
            "",
            f"{name}: {format_bytes(done)} of {format_bytes(total)} downloaded; "
            f"`qwen3-mlx pull {name}` goes on",
        ]
    lines += [
        "",
        "Use one by its name, `qwen3-mlx chat -m 4b`, or by its folder. What is not here yet is",
        "downloaded in bf16, as published; `qwen3-mlx convert 4b --q4` makes 4 bits of it.",
        "Those called embedding make vectors of texts, with `qwen3-mlx embed`.",
        "FIT is for 4 bits, or for what is stored, on this machine: `qwen3-mlx fit NAME` has more.",
    ]
    return "\n".join(lines)


def _known_row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        _params(entry.total_params, entry.active_params),
        format_bytes(entry.q4_bytes),
        format_bytes(entry.kv_bytes_per_token),
        f"{entry.context:,}",
        _verdict(planned(entry.name, entry.config, 4)),
        entry.hub_id or "built in",
    )


def _local_row(model: dict[str, Any]) -> tuple[str, ...]:
    if "error" in model:
        return (model["name"], "", "", "not usable", "", model["error"])
    return (
        model["name"],
        _params(model["total_params"], model["active_params"]),
        format_bytes(model["weight_bytes"]),
        "not quantised" if model["bits"] is None else f"{model['bits']} bits",
        model["verdict"],
        model["path"],
    )


def _params(total: int, active: int) -> str:
    if total < 1e8:
        return f"{total / 1e6:.1f} M"
    text = f"{total / 1e9:.1f} B"
    return text if active == total else f"{text}, {active / 1e9:.1f} B active"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as their widest cell; the last one is left as it is."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    ]
