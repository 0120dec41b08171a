#!/usr/bin/env python3
"""Write a mixture of experts with random weights, of any shape, a tensor at a time.

    scripts/make_synthetic_moe.py /tmp/m30 --shape 30b-a3b                16.9 GB, records
    scripts/make_synthetic_moe.py /tmp/m235 --shape 235b-a22b --layers 12 16.6 GB
    scripts/make_synthetic_moe.py /tmp/m1 --shape 1mb --scales F32        0.5 GB

The same seed gives the same bytes. Weights are 4 bits in groups of 64, of the scale that
random matrices need for activations to stay in range. Rows of the router have unequal
lengths, so that some experts are chosen far more often than others, as in trained models.
Memory stays below 1 GB whatever the shape.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.catalogue import find
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import mlx_shapes
from qwen3_mlx_convert.plan import Output
from qwen3_mlx_convert.records import RecordWriter
from qwen3_mlx_convert.transaction import staged
from qwen3_mlx_convert.write import ShardWriter

GROUP, BITS = 64, 4
#: About 1 MB for each expert, with float32 scales: the shape on which peers were measured.
ONE_MB = {
    "hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 1024, "vocab_size": 4096,
    "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 512,
}  # fmt: skip
#: A fiftieth of the 30B shape, for tests.
SMALL = {
    "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 1024, "vocab_size": 8192,
    "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 256,
}  # fmt: skip


def make(
    target: Path, shape: dict[str, Any], *, scales: str = "BF16", seed: int = 0,
    skew: float = 1.5, layout: str = "records", calm: float = 1.0,
) -> Path:  # fmt: skip
    """Write the folder and return it.

    `skew` 0 makes all experts equally likely. `calm` scales what a layer adds to the residual
    stream: in trained models that is little, so that the next layer's choice can be guessed.
    """
    raw = _config(shape, scales)
    config = ModelConfig.from_dict(raw)
    outputs = [_output(name, full, scales) for name, full in mlx_shapes(config).items()]
    size = sum(output.nbytes for output in outputs)
    with staged(target, size) as folder:
        (folder / "config.json").write_text(json.dumps(raw, indent=2))
        writer = (
            RecordWriter(folder, outputs, config)
            if layout == "records"
            else ShardWriter(folder, outputs)
        )
        with writer:
            for output in outputs:
                for offset, block in _blocks(output, seed, skew, calm):
                    writer.write(output.name, offset, memoryview(block).cast("B"))
            writer.write_index(0)
    return target


def plain_config(shape: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The config.json of a shape, in the dialect of 2025; `dtype` is "BF16" or "F32"."""
    return {
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"],
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 40960,
        "tie_word_embeddings": False, "norm_topk_prob": True, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "hidden_act": "silu", "attention_bias": False,
        "torch_dtype": {"BF16": "bfloat16", "F32": "float32"}[dtype], **shape,
    }  # fmt: skip


def _config(shape: dict[str, Any], scales: str) -> dict[str, Any]:
    layers = shape["num_hidden_layers"]
    block: dict[str, Any] = {"group_size": GROUP, "bits": BITS, "mode": "affine"}
    block |= {f"model.layers.{layer}.mlp.gate": False for layer in range(layers)}
    return plain_config(shape, scales) | {"quantization": block}


def _output(name: str, shape: tuple[int, ...], scales: str) -> Output:
    packed = name.endswith(".weight") and len(shape) > 1 and not name.endswith("mlp.gate.weight")
    return Output(name, "U32" if packed else scales, shape)


def _blocks(
    output: Output, seed: int, skew: float, calm: float
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The tensor along its first axis, at most 32 MB at a time."""
    rng = np.random.default_rng([seed, zlib.crc32(output.name.encode())])
    row = output.nbytes // output.shape[0]
    step = max(1, (32 << 20) // row)
    for first in range(0, output.shape[0], step):
        count = min(step, output.shape[0] - first)
        shape = (count, *output.shape[1:])
        yield first * row, _values(output, shape, first, rng, skew, calm)


def _values(
    output: Output,
    shape: tuple[int, ...],
    first: int,
    rng: np.random.Generator,
    skew: float,
    calm: float,
) -> NDArray[Any]:
    if output.dtype == "U32":
        return rng.integers(0, 2**32, shape, np.uint32)
    if len(shape) == 1:
        values = np.ones(shape, np.float32)
    elif output.name.endswith("mlp.gate.weight"):
        values = rng.standard_normal(shape, np.float32) * shape[-1] ** -0.5
        order = np.random.default_rng(zlib.crc32(output.name.encode())).permutation(
            output.shape[0]
        )[first : first + shape[0]]
        values *= (2 * (1 + skew * np.exp(-order / (output.shape[0] / 8))))[:, None]
    else:  # scales and biases: codes 0..15 are uniform, of mean 7.5 and deviation 4.6
        columns = shape[-1] * GROUP
        values = np.full(shape, columns**-0.5 / 4.6, np.float32)
        if output.name.endswith(".biases"):
            values *= -7.5
        if ".o_proj." in output.name or ".down_proj." in output.name:
            values *= calm
    values = values.astype(np.float32)
    return values if output.dtype == "F32" else _bf16(values)


def _bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def shape_of(name: str, layers: int | None) -> dict[str, Any]:
    """A shape by name, cut to some layers."""
    if name in ("1mb", "small"):
        shape = dict(ONE_MB if name == "1mb" else SMALL)
    else:
        entry = find(name)
        if entry is None or not entry.config.experts:
            raise SystemExit(f"{name} is no mixture of experts that the catalogue knows")
        c = entry.config
        shape = {
            "hidden_size": c.hidden_size, "num_hidden_layers": c.layers,
            "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
            "head_dim": c.head_dim, "intermediate_size": c.mlp_width,
            "vocab_size": c.vocab_size, "num_experts": c.experts,
            "num_experts_per_tok": c.top_k, "moe_intermediate_size": c.expert_width,
        }  # fmt: skip
    if layers is not None:
        shape["num_hidden_layers"] = layers
    return shape


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("target", type=Path)
    parser.add_argument("--shape", default="30b-a3b", help="30b-a3b, 235b-a22b, 1mb or small")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--scales", choices=["BF16", "F32"], default="BF16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skew", type=float, default=1.5)
    parser.add_argument("--layout", choices=["records", "stacked"], default="records")
    args = parser.parse_args()
    if args.target.exists():
        print(f"{args.target} is there already and is kept")
        return
    shape = shape_of(args.shape, args.layers)
    made = make(
        args.target, shape, scales=args.scales, seed=args.seed, skew=args.skew,
        layout=args.layout,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"{made}: {size / 1e9:.2f} GB, {shape['num_hidden_layers']} layers")


if __name__ == "__main__":
    main()
