"""From a folder to the parts of a model, checked before any memory is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from qwen3_mlx.checkpoint import Checkpoint, open_checkpoint, read_config
from qwen3_mlx.errors import CheckpointError, OptionError
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.model.shapes import check_shapes
from qwen3_mlx.model.weights import build_model
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Parts", "read_parts", "read_weights"]

_DTYPES = ("float32", "bfloat16", "float16")
_STORED_AS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of a model but its weights."""

    checkpoint: Checkpoint
    config: ModelConfig
    tokenizer: Tokenizer
    template: ChatTemplate
    generation: Mapping[str, Any]

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text: generation_config.json's, else config.json's."""
        stated = self.generation.get("eos_token_id", self.checkpoint.config.get("eos_token_id"))
        ids = stated if isinstance(stated, list) else [stated]
        own = [self.tokenizer.eos_id] if self.template.exists else []
        return frozenset(each for each in (*ids, *own) if isinstance(each, int))

    @property
    def quantization(self) -> str:
        """How the weights are stored, for people: "4-bit", "bf16"."""
        if self.config.quantization is not None:
            return f"{self.config.quantization.bits}-bit"
        embedding = self.checkpoint.tensors["model.embed_tokens.weight"].dtype
        return _STORED_AS.get(embedding, embedding)


def read_parts(folder: Path) -> Parts:
    """Open a model folder, MLX or Hugging Face layout.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the others.
        UnsupportedModelError: the model is not a Qwen3 text model.
    """
    config = ModelConfig.from_dict(read_config(folder))  # says "not a Qwen3" before anything else
    checkpoint = open_checkpoint(folder)
    check_shapes({name: info.shape for name, info in checkpoint.tensors.items()}, config)
    tokenizer = Tokenizer.from_folder(folder, config.vocab_size)
    if tokenizer.size > config.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has {tokenizer.size} tokens and the model {config.vocab_size}: "
            "the tokenizer belongs to another model"
        )
    template = ChatTemplate.from_folder(folder)
    return Parts(checkpoint, config, tokenizer, template, checkpoint.generation_config())


def read_weights(
    parts: Parts, dtype: str | None, loaded: Callable[[int], None] = lambda nbytes: None
) -> Qwen3Model:
    """Bring the weights into memory; on the engine thread, which then owns them.

    `dtype` names the type to run in, None for the stored one; quantised weights stay
    quantised and only their scales, and with them the activations, take the type.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise OptionError(f"dtype is {dtype!r}, and must be one of {', '.join(_DTYPES)}")
    arrays: dict[str, mx.array] = {}
    tensors = parts.checkpoint.tensors
    for file in sorted({info.file for info in tensors.values()}):
        stored = mx.load(str(file))
        assert isinstance(stored, dict)
        arrays.update((name, array) for name, array in stored.items() if name in tensors)
    return build_model(parts.config, arrays, getattr(mx, dtype) if dtype else None, loaded)
