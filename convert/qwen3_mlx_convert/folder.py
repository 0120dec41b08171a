"""The files beside the weights: config.json, tokenizer, template and model card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.checkpoint import Checkpoint
from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.places import hub_id_of
from qwen3_mlx.text.tokenizer import ends_every_text
from qwen3_mlx_convert.durable import copy_file, write_json, write_text
from qwen3_mlx_convert.quantize import Recipe

__all__ = ["COPIED", "check_side_files", "source_id", "target_config", "write_side_files"]

#: Taken over as they are, where the source has them.
COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
)

_SIDE_LIMIT = 200_000_000

_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def target_config(
    raw: Mapping[str, Any], config: ModelConfig, block: Mapping[str, Any] | None, dtype: str
) -> dict[str, Any]:
    """The source's config.json with the quantisation, readable by mlx-lm too.

    Keys of the flat dialect are added where the source only has Transformers 5's, since
    mlx-lm reads an MoE only by them. `auto_map` goes: the code it names is not copied.
    """
    result = {key: raw[key] for key in raw if key not in ("auto_map", "_name_or_path")}
    for key, value in _flat(raw, config).items():
        result.setdefault(key, value)
    result["torch_dtype"] = _TORCH_NAMES[dtype]
    if "dtype" in result:
        result["dtype"] = _TORCH_NAMES[dtype]
    result.pop("quantization_config", None)
    result.pop("quantization", None)
    if block is not None:
        result["quantization"] = dict(block)
        result["quantization_config"] = dict(block)
    return result


def check_side_files(folder: Path) -> None:
    """The files beside the weights must be files that end: no loop of links, no pipe, no device.

    Raises:
        CheckpointError: one is not.
    """
    for name in COPIED:
        path = folder / name
        if not os.path.lexists(path):
            continue
        if not path.is_file():
            raise CheckpointError(f"{path} is not a regular file: download the folder again")
        if path.stat().st_size > _SIDE_LIMIT:
            raise CheckpointError(
                f"{path} has {path.stat().st_size:,} bytes, more than any tokenizer: download "
                "the folder again"
            )


def write_side_files(
    folder: Path,
    checkpoint: Checkpoint,
    config: dict[str, Any],
    recipe: Recipe,
    weight_bytes: int,
    layout: str,
    how: str,
) -> None:
    """Everything but the weights, each file flushed to the disk."""
    write_json(folder / "config.json", config)
    for name in COPIED:
        source = checkpoint.path / name
        if source.exists():
            copy_file(source, folder / name)
    use = "embed" if ends_every_text(folder) else "chat"
    card = _model_card(source_id(checkpoint.path), folder, recipe, weight_bytes, layout, how, use)
    write_text(folder / "README.md", card)


def source_id(path: Path) -> str:
    """The hub id of a folder inside the Hugging Face cache, else the folder's name.

    >>> source_id(Path("/c/models--Qwen--Qwen3-4B/snapshots/1cfa9a7208912126"))
    'Qwen/Qwen3-4B'
    """
    absolute = Path(os.path.abspath(path))
    if absolute.parent.name == "snapshots" and absolute.parts[-3].startswith("models--"):
        return hub_id_of(absolute.parts[-3])
    return absolute.name


def _flat(raw: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """What the flat dialect calls the numbers that both dialects state."""
    nested = raw.get("rope_parameters") or {}
    scaling = {key: value for key, value in nested.items() if key != "rope_theta"}
    flat: dict[str, Any] = {
        "head_dim": config.head_dim,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling if config.yarn is not None else None,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied,
    }
    if config.experts:
        flat |= {
            "num_experts": config.experts,
            "num_experts_per_tok": config.top_k,
            "moe_intermediate_size": config.expert_width,
            "norm_topk_prob": config.normalise_top_k,
            "decoder_sparse_step": config.sparse_step,
            "mlp_only_layers": list(config.dense_layers),
        }
    return flat


def _model_card(
    source: str,
    folder: Path,
    recipe: Recipe,
    weight_bytes: int,
    layout: str,
    how: str,
    use: str,
) -> str:
    base = f"base_model: {source}\n" if "/" in source else ""
    where = (
        "It loads in `qwen3-mlx` and in `mlx-lm`"
        if layout == "stacked"
        else "It loads in `qwen3-mlx`; `qwen3-mlx unpack` makes the folder that `mlx-lm` reads"
    )
    return (
        f"---\nlibrary_name: mlx\ntags: [mlx, qwen3]\n{base}---\n\n"
        f"# {source}, {recipe.name} for MLX\n\n"
        f"Made from `{source}` by `qwen3-mlx convert`.\n\n"
        f"- weights: {format_bytes(weight_bytes)} ({how})\n"
        f"- files: {', '.join(sorted(_listed(folder)))}\n\n"
        f"{where}:\n\n"
        f"```sh\nqwen3-mlx {use} -m PATH_OF_THIS_FOLDER\n```\n\n"
        "The licence and the terms of the source apply to this folder too.\n"
    )


def _listed(folder: Path) -> set[str]:
    """The files of the folder but the card itself, which a second run would find there."""
    return {path.name for path in folder.iterdir()} - {"README.md", "sha256.json"}
