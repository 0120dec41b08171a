"""Small random checkpoints in the Hugging Face layout, for any test that needs one.

    folder = write_checkpoint(tmp_path / "model", moe=True, shards=3, dtype="F32")

The safetensors writer is separate from the product's own, so that neither hides an error of
the other. Weights are seeded: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import expected_shapes

__all__ = ["SPECIAL_TOKENS", "base_config", "to_bf16", "write_checkpoint", "write_safetensors"]

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)

Arrays = Mapping[str, NDArray[Any]]


def base_config(*, moe: bool = False, tied: bool = False, **overrides: Any) -> dict[str, Any]:
    """A flat config.json (the dialect of 2025): hidden 64, 4 heads, 2 kv, 3 layers."""
    config: dict[str, Any] = {
        "architectures": ["Qwen3MoeForCausalLM" if moe else "Qwen3ForCausalLM"],
        "model_type": "qwen3_moe" if moe else "qwen3",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 320,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 256,
        "eos_token_id": 258,
    }
    if moe:
        config |= {
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    return config | overrides


def write_checkpoint(
    path: Path,
    *,
    moe: bool = False,
    tied: bool = False,
    dialect: int = 4,
    dtype: str = "BF16",
    shards: int = 1,
    seed: int = 0,
    tokenizer: bool = False,
    embedder: bool = False,
    **overrides: Any,
) -> Path:
    """Write a model folder and return it.

    `embedder` writes a decoder alone, with bare names, and a tokenizer that ends every text, as
    Qwen3-Embedding has them. `dialect=5` nests RoPE and renames the experts as Transformers 5
    does. `dtype` is "F32", "F16" or "BF16". `overrides` are keys of the flat config.json.
    """
    flat = base_config(moe=moe, tied=tied, **overrides)
    flat["torch_dtype"] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]
    path.mkdir(parents=True, exist_ok=True)
    written = flat if dialect == 4 else _nested(flat)
    (path / "config.json").write_text(json.dumps(written, indent=2), encoding="utf-8")
    (path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [258, 256], "temperature": 0.6, "top_k": 20, "top_p": 0.95}),
        encoding="utf-8",
    )
    weights = _weights(ModelConfig.from_dict(flat), seed, dtype)
    if embedder:
        weights.pop("lm_head.weight", None)
        weights = {name.removeprefix("model."): values for name, values in weights.items()}
    _write_shards(path, weights, shards, dtype)
    if tokenizer or embedder:
        write_tokenizer(path)
    if embedder:
        _end_every_text(path / "tokenizer.json")
    return path


def write_tokenizer(path: Path) -> None:
    """A byte-level tokenizer without merges: ids 0-255 are bytes, then the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    bpe.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 4096,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _end_every_text(file: Path) -> None:
    from tokenizers import Tokenizer, processors

    backend = Tokenizer.from_file(str(file))
    end = ("<|endoftext|>", backend.token_to_id("<|endoftext|>"))
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {end[0]}", special_tokens=[end]
    )
    backend.save(str(file))


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of bfloat16, rounded to nearest even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: Arrays, dtypes: Mapping[str, str] | None = None) -> None:
    """Write one file; bf16 comes as uint16 with "BF16" in `dtypes`."""
    names = {"float32": "F32", "float16": "F16", "uint16": "U16", "uint32": "U32", "uint8": "U8"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": (dtypes or {}).get(name, names[str(values.dtype)]),
            "shape": list(values.shape),
            "data_offsets": [position, position + values.nbytes],
        }
        position += values.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


def _weights(config: ModelConfig, seed: int, dtype: str) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    cast = {
        "F32": lambda values: values,
        "F16": lambda values: values.astype(np.float16),
        "BF16": to_bf16,
    }[dtype]
    weights: dict[str, NDArray[Any]] = {}
    for name, shape in expected_shapes(config).items():
        values = random.standard_normal(shape, dtype=np.float32)
        values = 1 + values * 0.1 if len(shape) == 1 else values * shape[-1] ** -0.5
        weights[name] = cast(values.astype(np.float32))
    return weights


def _write_shards(path: Path, weights: Arrays, shards: int, dtype: str) -> None:
    dtypes = dict.fromkeys(weights, dtype)
    if shards == 1:
        write_safetensors(path / "model.safetensors", weights, dtypes)
        return
    names = list(weights)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        write_safetensors(path / file, {name: weights[name] for name in part}, dtypes)
        weight_map |= dict.fromkeys(part, file)
    index = {
        "metadata": {"total_size": sum(values.nbytes for values in weights.values())},
        "weight_map": weight_map,
    }
    (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The same config in the words of Transformers 5."""
    config = dict(flat)
    scaling = config.pop("rope_scaling") or {"rope_type": "default"}
    config["rope_parameters"] = dict(scaling) | {"rope_theta": config.pop("rope_theta")}
    config["dtype"] = config.pop("torch_dtype")
    if "num_experts" in config:
        config["num_local_experts"] = config.pop("num_experts")
    return config
