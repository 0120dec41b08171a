"""Writes model folders with random weights, for measurements that need no sense in the text.

    python scripts/random_model.py host-dense /tmp/host-dense

Speed does not depend on the values of weights. `host-*` are so narrow that only the software
around the kernels counts; `0.6b` has the shape of Qwen3-0.6B in 4 bits, `0.6b-2` its first two
layers, for long prompts on slow machines; `small-*` are small models of a few megabytes.
The tokenizer knows bytes and as many meaningless tokens as the vocabulary has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx

from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import mlx_shapes

_HOST = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 28,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
         "vocab_size": 320, "tie_word_embeddings": False}  # fmt: skip
_SMALL = _HOST | {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6,
                  "head_dim": 32, "vocab_size": 2048}  # fmt: skip
_MOE = {"num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 64,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}  # fmt: skip
_REAL = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
         "vocab_size": 151_936, "tie_word_embeddings": True,
         "quantization": {"bits": 4, "group_size": 64}}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "host-dense": _HOST,
    "host-moe": _HOST | _MOE,
    "small-dense": _SMALL,
    "small-moe": _SMALL | _MOE,
    "0.6b": _REAL,
    "0.6b-2": _REAL | {"num_hidden_layers": 2},
}
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>",
            "<tool_response>", "</tool_response>", "<think>", "</think>")  # fmt: skip
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_model(shape: str, folder: Path) -> None:
    """A folder that qwen3-mlx and mlx-lm both load."""
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(SHAPES[shape])
    size = config["vocab_size"] - config["vocab_size"] // 512  # the rest is padding, as in Qwen3
    _write_tokenizer(folder, size)
    _write_json(folder / "config.json", config | {"eos_token_id": size - 7})
    _write_json(folder / "generation_config.json", {"eos_token_id": [size - 7]})
    mx.random.seed(0)
    weights = dict(_weights(ModelConfig.from_dict(config)))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def _config(shape: dict[str, Any]) -> dict[str, Any]:
    moe = "num_experts" in shape
    return {
        "architectures": ["Qwen3MoeForCausalLM" if moe else "Qwen3ForCausalLM"],
        "model_type": "qwen3_moe" if moe else "qwen3",
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_scaling": None,
        "max_position_embeddings": 40_960, "hidden_act": "silu", "attention_bias": False,
    } | shape  # fmt: skip


def _weights(config: ModelConfig) -> Iterator[tuple[str, mx.array]]:
    """Each tensor as the folder stores it: matrices scaled to keep activations in bounds."""
    shapes = mlx_shapes(config)
    for name, shape in shapes.items():
        path = name.removesuffix(".weight")
        how = config.quantization_of(path)
        if len(shape) == 1:
            yield name, mx.ones(shape)
        elif name.endswith(".weight") and f"{path}.scales" in shapes and how is not None:
            full = (*shape[:-1], shape[-1] * 32 // how.bits)
            matrix = mx.random.normal(full) * full[-1] ** -0.5
            packed = mx.quantize(matrix, group_size=how.group_size, bits=how.bits)
            mx.eval(packed)
            yield from zip((name, f"{path}.scales", f"{path}.biases"), packed, strict=True)
        elif name.endswith(".weight"):
            yield name, mx.random.normal(shape) * shape[-1] ** -0.5


def _write_tokenizer(folder: Path, size: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    texts = [*sorted(pre_tokenizers.ByteLevel.alphabet())]
    texts += [f"~{number}~" for number in range(size - len(texts) - len(_SPECIAL))]
    bpe = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(texts)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(list(_SPECIAL))
    bpe.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"},
    )
    (folder / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_model(arguments.shape, arguments.folder)
