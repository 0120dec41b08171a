"""From a folder to the parts of a model, checked before any memory is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from qwen3_mlx.checkpoint import (
    Checkpoint,
    TensorInfo,
    model_name,
    open_checkpoint,
    read_config,
)
from qwen3_mlx.errors import CheckpointError, OptionError, UnsupportedModelError
from qwen3_mlx.experts.layout import (
    CODES,
    FLOATS,
    ExpertFormat,
    is_expert_tensor,
    layer_format,
)
from qwen3_mlx.experts.options import PoolOptions
from qwen3_mlx.experts.records import Records, RecordSource, open_records
from qwen3_mlx.experts.store import Identity, Source, TensorSource, identity_of
from qwen3_mlx.memory import Plan, Sizes
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx.model.shapes import check_shapes
from qwen3_mlx.model.weights import build_model
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from qwen3_mlx.experts.pool import ExpertPool

__all__ = [
    "Parts",
    "Weights",
    "open_pool",
    "open_weights",
    "read_parts",
    "read_weights",
    "sizes_of",
]

_QWEN_VOCABULARY = 151_936
#: Channels of the heads for which Metal has a kernel that reads a prompt and stores no scores
#: (use_fallback in MLX's scaled_dot_product_attention.cpp). Others, as the 32 of tiny, go
#: through plain products.
_FUSED_HEADS = (64, 80, 128)
_DTYPES = ("float32", "bfloat16", "float16")
_DTYPE_OF = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a folder, checked and not yet read.

    `files` says which files were there then: a folder may be written anew while a model runs.
    """

    checkpoint: Checkpoint
    config: ModelConfig
    records: Records | None
    files: Mapping[Path, Identity]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, as stored."""
        return self.checkpoint.weight_bytes + (self.records.nbytes if self.records else 0)

    def expert_format(self, layer: int) -> ExpertFormat:
        """What the experts of a MoE layer are made of."""
        if self.records is not None:
            return self.records.layers[layer].format
        return layer_format(self.config, self.checkpoint.tensors, layer)

    @property
    def quantization(self) -> str:
        """How the weights are stored, for people: "4-bit", "bf16"."""
        if self.config.quantization is not None:
            return f"{self.config.quantization.bits}-bit"
        return self.checkpoint.tensors["model.embed_tokens.weight"].dtype.lower()


@dataclass(frozen=True, slots=True)
class Parts(Weights):
    """Everything of a model but its weights' bytes."""

    tokenizer: Tokenizer
    template: ChatTemplate
    generation: Mapping[str, Any]

    @property
    def quantized_qwen(self) -> bool:
        """Whether this is one of Qwen's own models, by its vocabulary, and quantised."""
        config = self.config
        return config.quantization is not None and config.vocab_size == _QWEN_VOCABULARY

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text: generation_config.json's, else config.json's."""
        stated = self.generation.get("eos_token_id", self.checkpoint.config.get("eos_token_id"))
        ids = stated if isinstance(stated, list) else [stated]
        own = [self.tokenizer.eos_id] if self.template.exists else []
        return frozenset(each for each in (*ids, *own) if isinstance(each, int))


def open_weights(folder: Path) -> Weights:
    """Open the weights of a model folder, MLX or Hugging Face layout, stacked or records.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the others.
        UnsupportedModelError: the model is not a Qwen3 text model, or its weights are of a type
            that is not computed with.
    """
    ModelConfig.from_dict(read_config(folder))  # says "not a Qwen3" before anything else
    checkpoint = open_checkpoint(folder)
    config = ModelConfig.from_dict(checkpoint.config)
    records = open_records(folder, config)
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
    check_shapes(shapes | (records.shapes() if records else {}), config)
    _check_dtypes(checkpoint.tensors)
    return Weights(checkpoint, config, records, _files(checkpoint))


def read_parts(folder: Path) -> Parts:
    """Open a model folder: weights, tokenizer and template.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the others.
        UnsupportedModelError: the model is not a Qwen3 text model.
    """
    weights = open_weights(folder)
    config, checkpoint = weights.config, weights.checkpoint
    tokenizer = Tokenizer.from_folder(folder, config.vocab_size)
    if tokenizer.size > config.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has {tokenizer.size} tokens and the model {config.vocab_size}: "
            "the tokenizer belongs to another model"
        )
    template = ChatTemplate.from_folder(folder)
    generation = checkpoint.generation_config()
    return Parts(
        checkpoint, config, weights.records, weights.files, tokenizer, template, generation
    )


def sizes_of(parts: Weights, dtype: str | None = None) -> Sizes:
    """What the model takes in memory, from its headers."""
    config, tensors = parts.config, parts.checkpoint.tensors
    run = _run_dtype(parts, dtype)
    kept = {
        name: _memory_bytes(info, run.size)
        for name, info in tensors.items()
        if not is_expert_tensor(name) and not (config.tied and name == "lm_head.weight")
    }
    embedding = sum(size for name, size in kept.items() if name.startswith("model.embed_tokens."))
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    return Sizes(
        trunk_bytes=sum(kept.values()),
        largest_tensor_bytes=max(kept.values()),
        slot_bytes={
            layer: parts.expert_format(layer).slot_bytes(run.size)
            for layer in range(config.layers)
            if config.is_moe(layer)
        },
        itemsize=run.size,
        fused_attention=not on_cpu and config.head_dim in _FUSED_HEADS,
        gathers_plain=on_cpu and run != mx.float32 and config.quantization is None,
        embedding_bytes=0 if config.tied else embedding,
    )


def open_pool(
    parts: Weights,
    plan: Plan,
    options: PoolOptions,
    dtype: str | None = None,
    loaded: Callable[[int], None] = lambda nbytes: None,
) -> ExpertPool:
    """The pool that gives a model its experts; on the engine thread. The caller closes it."""
    from qwen3_mlx.experts.pool import ExpertPool  # numpy, which resident models do without

    run = _run_dtype(parts, dtype)
    source: Source
    if parts.records is not None:
        verify, throttle = options.verify, options.throttle
        source = RecordSource(parts.records, verify=verify, throttle=throttle)
    else:
        source = TensorSource(parts.checkpoint, parts.config, options.throttle)
    try:
        return ExpertPool(parts.config, source, plan.slots, plan.scratch, options, run, loaded)
    except BaseException:
        source.close()
        raise


def read_weights(
    parts: Weights,
    dtype: str | None,
    loaded: Callable[[int], None] = lambda nbytes: None,
    pool: ExpertPool | None = None,
) -> Qwen3Model:
    """Bring the weights into memory; on the engine thread, which then owns them.

    `dtype` names the type to run in, None for the stored one; quantised weights stay
    quantised and only their scales, and with them the activations, take the type. With a
    pool the experts come from there: MLX reads a tensor only when it is evaluated, so those
    that are left out here are never read.

    Raises:
        CheckpointError: a tensor is wrong, or the disk fails.
    """
    try:
        return _read_weights(parts, dtype, loaded, pool)
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("["):
            raise  # not one of MLX's, such as "[read] Unable to read from file."
        raise CheckpointError(
            f"the weights in {parts.checkpoint.path} could not be read ({error}): check the disk, "
            "then load the model again"
        ) from error


def _read_weights(
    parts: Weights, dtype: str | None, loaded: Callable[[int], None], pool: ExpertPool | None
) -> Qwen3Model:
    run = None if dtype is None else _run_dtype(parts, dtype)
    arrays: dict[str, mx.array] = {}
    tensors = parts.checkpoint.tensors
    wanted = {name for name in tensors if pool is None or not is_expert_tensor(name)}
    for file in sorted({tensors[name].file for name in wanted}):
        stored = mx.load(str(file))
        assert isinstance(stored, dict)
        named = ((model_name(name), array) for name, array in stored.items())
        arrays.update((name, array) for name, array in named if name in wanted)
    if pool is None:
        return build_model(parts.config, arrays, run, loaded)
    model = build_model(parts.config, arrays, run, loaded, pool.layer)
    pool.link(model)
    return model


def _run_dtype(parts: Weights, dtype: str | None) -> mx.Dtype:
    """The type of activations: the one that was asked for, or that of the stored norms."""
    if dtype is not None and dtype not in _DTYPES:
        raise OptionError(f"dtype is {dtype!r}, and must be one of {', '.join(_DTYPES)}")
    stored = parts.checkpoint.tensors["model.norm.weight"].dtype
    made: mx.Dtype = getattr(mx, dtype or _DTYPE_OF[stored])
    return made


def _files(checkpoint: Checkpoint) -> dict[Path, Identity]:
    """The weight files as they are before anything is read of them but their headers."""
    paths = {info.file for info in checkpoint.tensors.values()}
    try:
        return {path: identity_of(path) for path in paths}
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} was there and cannot be read any more ({error.strerror}): the "
            "folder is being changed, load it again afterwards"
        ) from error


def _check_dtypes(tensors: Mapping[str, TensorInfo]) -> None:
    """Floats, or codes where matrices are packed; anything else MLX would stumble over later."""
    for name, info in tensors.items():
        if info.dtype not in FLOATS and (info.dtype not in CODES or len(info.shape) < 2):
            raise UnsupportedModelError(
                f"{name} is stored as {info.dtype}; this version reads bf16, f16 and f32 "
                "checkpoints and MLX-quantised folders"
            )


def _memory_bytes(info: TensorInfo, itemsize: int) -> int:
    """Bytes of a tensor once its floats take `itemsize` bytes."""
    return info.nbytes if info.dtype in CODES else prod(info.shape) * itemsize
