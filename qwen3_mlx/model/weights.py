"""From named tensors to a model: shapes checked, projections joined, layer by layer.

The names are those of the checkpoint. Experts come in two layouts, one tensor for each
expert (Hugging Face) or one stack for all of them (MLX folders); both end as a stack.
Tensors are lazy until their layer is finished, so that joining q|k|v and gate|up never
holds more than one layer twice.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.model.attention import Attention
from qwen3_mlx.model.config import ModelConfig, Quantization
from qwen3_mlx.model.linear import (
    Embedding,
    ExpertMatrix,
    Linear,
    Matrix,
    PlainExperts,
    QuantizedEmbedding,
    QuantizedExperts,
    QuantizedLinear,
    join,
    join_experts,
)
from qwen3_mlx.model.mlp import Mlp
from qwen3_mlx.model.moe import Experts, MoE, ResidentExperts
from qwen3_mlx.model.qwen3 import Block, Qwen3Model
from qwen3_mlx.model.rope import Rope

__all__ = ["Tensors", "build_model"]


class Tensors:
    """The tensors of a checkpoint, each handed out once and checked against the config."""

    def __init__(self, config: ModelConfig, arrays: dict[str, mx.array]) -> None:
        self._config, self._arrays = config, arrays

    def take(self, name: str, shape: tuple[int, ...]) -> mx.array:
        """The tensor of this name; it must have this shape."""
        array = self._arrays.pop(name, None)
        if array is None:
            raise CheckpointError(f"the checkpoint has no tensor {name}: download it again")
        if array.shape != shape:
            raise CheckpointError(
                f"{name} has shape {array.shape}, config.json asks for {shape}: "
                "the weights and config.json do not belong together"
            )
        return array

    def matrix(self, path: str, out: int, into: int) -> Matrix:
        """The matrix (out, into) at `path`, plain or quantised."""
        if f"{path}.scales" in self._arrays:
            return QuantizedLinear(*self._quantized(path, (out,), into))
        return Linear(self.take(f"{path}.weight", (out, into)))

    def embedding(self, path: str, out: int, into: int) -> Embedding | QuantizedEmbedding:
        """The token table (out, into) at `path`, plain or quantised."""
        if f"{path}.scales" in self._arrays:
            return QuantizedEmbedding(*self._quantized(path, (out,), into))
        return Embedding(self.take(f"{path}.weight", (out, into)))

    def experts(self, mlp: str, name: str, out: int, into: int) -> ExpertMatrix:
        """The E matrices (out, into) called `name` in the MLP at `mlp`, in either layout."""
        count = self._config.experts
        stacked = f"{mlp}.switch_mlp.{name}"
        if f"{stacked}.scales" in self._arrays:
            return QuantizedExperts(*self._quantized(stacked, (count, out), into))
        if f"{stacked}.weight" in self._arrays:
            return PlainExperts(self.take(f"{stacked}.weight", (count, out, into)))
        single = (f"{mlp}.experts.{e}.{name}.weight" for e in range(count))
        return PlainExperts(mx.stack([self.take(each, (out, into)) for each in single]))

    def finish(self) -> None:
        """Refuse a checkpoint with tensors that this model has no place for."""
        if self._config.tied:  # Some exporters write the tied head a second time.
            self._arrays.pop("lm_head.weight", None)
        if self._arrays:
            some = ", ".join(sorted(self._arrays)[:3])
            raise CheckpointError(
                f"{len(self._arrays)} tensors do not belong to a {self._config.model_type} model "
                f"of this config.json, such as {some}"
            )

    def _quantized(
        self, path: str, lead: tuple[int, ...], into: int
    ) -> tuple[mx.array, mx.array, mx.array | None, Quantization]:
        how = self._config.quantization_of(path)
        if how is None:
            raise CheckpointError(
                f"{path} is quantised but config.json does not say how: "
                "its 'quantization' block is missing or incomplete"
            )
        groups = (*lead, into // how.group_size)
        weight = self.take(f"{path}.weight", (*lead, into * how.bits // 32))
        scales = self.take(f"{path}.scales", groups)
        biases = self.take(f"{path}.biases", groups) if how.mode == "affine" else None
        return weight, scales, biases, how


def build_model(
    config: ModelConfig,
    arrays: dict[str, mx.array],
    dtype: mx.Dtype | None = None,
    loaded: Callable[[int], None] = lambda nbytes: None,
    experts: Callable[[int], Experts] | None = None,
) -> Qwen3Model:
    """Assemble the model and bring its weights into memory.

    Args:
        config: the shape to build.
        arrays: tensors by checkpoint name, lazy; they are taken out as they are used.
        dtype: the type to run in; None keeps the one that is stored.
        loaded: called after each layer with the bytes read since the last call.
        experts: gives the experts of a layer; the tensors of experts are then not looked at,
            and must not be among `arrays`.

    Raises:
        CheckpointError: a tensor is missing, misshapen or not expected.
    """
    if dtype is not None:
        for name, array in arrays.items():
            if mx.issubdtype(array.dtype, mx.floating):
                arrays[name] = array.astype(dtype)
    tensors = Tensors(config, arrays)
    rope = Rope(config)

    def bring_in(read: list[mx.array]) -> None:
        mx.eval(read)
        loaded(sum(array.nbytes for array in read))

    embedding = tensors.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)
    bring_in(embedding.arrays())
    blocks = []
    for layer in range(config.layers):
        block = _block(config, tensors, rope, layer, experts)
        bring_in(block.trunk() if experts is not None else block.arrays())
        blocks.append(block)
    final_norm = tensors.take("model.norm.weight", (config.hidden_size,))
    head: Matrix = embedding
    if not config.tied:
        head = tensors.matrix("lm_head", config.vocab_size, config.hidden_size)
    bring_in([final_norm, *([] if config.tied else head.arrays())])
    tensors.finish()
    return Qwen3Model(config, embedding, blocks, final_norm, head)


def _block(
    config: ModelConfig, tensors: Tensors, rope: Rope, layer: int,
    experts: Callable[[int], Experts] | None,
) -> Block:  # fmt: skip
    path, width = f"model.layers.{layer}", (config.hidden_size,)
    mlp: Mlp | MoE
    if not config.is_moe(layer):
        mlp = _mlp(config, tensors, f"{path}.mlp")
    else:
        router = tensors.matrix(f"{path}.mlp.gate", config.experts, config.hidden_size)
        held = experts(layer) if experts else _experts(config, tensors, f"{path}.mlp")
        mlp = MoE(router, held, config.top_k, config.normalise_top_k)
    return Block(
        attention=_attention(config, tensors, rope, f"{path}.self_attn"),
        mlp=mlp,
        input_norm=tensors.take(f"{path}.input_layernorm.weight", width),
        mlp_norm=tensors.take(f"{path}.post_attention_layernorm.weight", width),
        norm_eps=config.norm_eps,
    )


def _attention(config: ModelConfig, tensors: Tensors, rope: Rope, path: str) -> Attention:
    D, C = config.hidden_size, config.head_dim
    q_out, kv_out = config.heads * C, config.kv_heads * C
    parts = [
        tensors.matrix(f"{path}.{name}_proj", out, D)
        for name, out in (("q", q_out), ("k", kv_out), ("v", kv_out))
    ]
    q_norm = tensors.take(f"{path}.q_norm.weight", (C,))
    k_norm = tensors.take(f"{path}.k_norm.weight", (C,))
    by_head = [mx.broadcast_to(q_norm, (config.heads, 1, C)),
               mx.broadcast_to(k_norm, (config.kv_heads, 1, C))]  # fmt: skip
    return Attention(
        config,
        rope,
        qkv=join(parts),
        out=tensors.matrix(f"{path}.o_proj", D, q_out),
        qk_weight=mx.concatenate(by_head),
    )


def _mlp(config: ModelConfig, tensors: Tensors, path: str) -> Mlp:
    D, F = config.hidden_size, config.mlp_width
    gate, up = (tensors.matrix(f"{path}.{name}_proj", F, D) for name in ("gate", "up"))
    return Mlp(join([gate, up]), tensors.matrix(f"{path}.down_proj", D, F))


def _experts(config: ModelConfig, tensors: Tensors, path: str) -> ResidentExperts:
    D, F = config.hidden_size, config.expert_width
    gate, up = (tensors.experts(path, f"{name}_proj", F, D) for name in ("gate", "up"))
    joined = join_experts(gate, up)
    down = tensors.experts(path, "down_proj", D, F)
    return ResidentExperts((joined,) if joined is not None else (gate, up), down)
