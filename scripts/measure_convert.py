#!/usr/bin/env python3
"""Peak memory and speed of converting a large checkpoint, beside mlx-lm's on the same one.

    scripts/measure_convert.py /tmp/work                       30B-A3B shapes: 6 and 12 layers
    scripts/measure_convert.py /tmp/work --layers 1 --no-peer  a quick look

Writes a sharded bf16 checkpoint with the shapes of a real model and fewer layers, converts its
first half and all of it (peak memory must not depend on the number of layers), then lets mlx-lm
convert the first half. Each conversion is a process of its own; its peak is VmHWM. Needs about
five times the bytes of a half on the disk; everything is removed at the end. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from make_synthetic_moe import plain_config, shape_of

from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import expected_shapes
from qwen3_mlx_convert.plan import Output
from qwen3_mlx_convert.write import _header

TOKENIZER = Path(__file__).parents[1] / "qwen3_mlx" / "tiny"

CHILD = """
import json, pathlib, sys, time, warnings
warnings.simplefilter("ignore")
kind, source, target = sys.argv[1:]
if kind == "mlx-lm":
    from mlx_lm import convert
    begun = time.monotonic()
    convert(source, target, quantize=True, q_bits=4, q_group_size=64)
    seconds, compared = time.monotonic() - begun, 0.0
else:
    from qwen3_mlx_convert import convert
    options = {"spend": 0.08} if kind == "q4" else {}
    report = convert(pathlib.Path(source), pathlib.Path(target), bits=4,
                     verify=kind == "q4", **options)
    seconds, compared = report.seconds, report.comparison.seconds if report.comparison else 0.0
status = pathlib.Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "compared": compared, "peak": peak * 1024}))
"""


def write(folder: Path, shape: dict[str, Any]) -> None:
    """A checkpoint with one shard for the ends of the model and one for each layer."""
    folder.mkdir(parents=True)
    raw = plain_config(shape, "BF16")
    layers = shape["num_hidden_layers"]
    shards: dict[str, list[Output]] = {}
    for name, dims in expected_shapes(ModelConfig.from_dict(raw)).items():
        layer = int(name.split(".")[2]) + 1 if ".layers." in name else 0
        file = f"model-{layer + 1:05d}-of-{layers + 1:05d}.safetensors"
        shards.setdefault(file, []).append(Output(name, "BF16", dims))
    values = np.random.default_rng(0).standard_normal(1 << 24, np.float32) * 0.02
    block = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()  # 32 MB, again and again
    for file, outputs in shards.items():
        with (folder / file).open("wb") as out:
            out.write(_header(outputs))
            left = sum(output.nbytes for output in outputs)
            while left:
                left -= out.write(block[:left])
    finish(folder, raw, {o.name: file for file, outputs in shards.items() for o in outputs})


def finish(folder: Path, raw: dict[str, Any], weight_map: dict[str, str]) -> None:
    """config.json, index and a tokenizer."""
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TOKENIZER / name, folder / name)


def half(whole: Path, folder: Path, layers: int) -> None:
    """The first layers of a checkpoint, by links to its shards."""
    folder.mkdir()
    raw = json.loads((whole / "config.json").read_text()) | {"num_hidden_layers": layers}
    index = json.loads((whole / "model.safetensors.index.json").read_text())["weight_map"]
    kept = {
        name: file for name, file in index.items()
        if ".layers." not in name or int(name.split(".")[2]) < layers
    }  # fmt: skip
    for file in set(kept.values()):
        (folder / file).symlink_to((whole / file).resolve())
    finish(folder, raw, kept)


def size_of(folder: Path) -> int:
    """Bytes of the weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def run(kind: str, source: Path, target: Path) -> str:
    """One conversion in a process of its own; a row of the table."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(source), str(target)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    read, written = size_of(source), size_of(target)
    shutil.rmtree(target)
    speed = read / found["seconds"] / 1e6
    return (
        f"| {kind} | {source.name} | {read / 1e9:.2f} GB | {written / 1e9:.2f} GB | "
        f"{found['peak'] / 1e9:.2f} GB | {found['seconds']:.0f} s | {speed:.0f} MB/s | "
        f"{found['compared']:.0f} s |"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--shape", default="30b-a3b")
    parser.add_argument("--layers", type=int, default=6, help="of the half (default 6: 8.7 GB)")
    parser.add_argument("--no-peer", action="store_true", help="leave mlx-lm out")
    parser.add_argument("--no-double", action="store_true", help="leave the whole out")
    args = parser.parse_args()
    work: Path = args.work
    whole, part = work / f"{2 * args.layers} layers", work / f"{args.layers} layers"
    try:
        write(whole, shape_of(args.shape, 2 * args.layers))
        half(whole, part, args.layers)
        print("| converter | source | read | written | peak memory | time | speed | compared in |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        runs = [("q4-plain", part)]
        if not args.no_peer:
            runs.append(("mlx-lm", part))
        runs.append(("q4", part))
        if not args.no_double:
            runs.append(("q4-plain", whole))
        for kind, source in runs:
            print(run(kind, source, work / "out"), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
