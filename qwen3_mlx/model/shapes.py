"""Which tensors a checkpoint must have, and of which shape, from its config alone.

`expected_shapes` speaks of the Hugging Face layout (one tensor per expert),
`mlx_shapes` of the layout that `qwen3-mlx convert` and mlx-lm write (experts stacked,
matrices packed). Comparing either with the headers costs no weight memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qwen3_mlx.errors import CheckpointError
from qwen3_mlx.model.config import ModelConfig

__all__ = ["check_shapes", "expected_shapes", "mlx_shapes"]

Shape = tuple[int, ...]


def expected_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every tensor of a Hugging Face checkpoint of this config, in the order of the layers.

    A tied model has no `lm_head.weight`; `check_shapes` lets pass the copy of the embedding
    that some files carry under this name.
    """
    shapes: dict[str, Shape] = dict(_ends(config))
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        shapes.update((prefix + name, shape) for name, shape in _block(config))
        if not config.is_moe(layer):
            shapes.update(_mlp(f"{prefix}mlp.", config.hidden_size, config.mlp_width))
            continue
        shapes[f"{prefix}mlp.gate.weight"] = (config.experts, config.hidden_size)  # (E, D)
        for expert in range(config.experts):
            name = f"{prefix}mlp.experts.{expert}."
            shapes.update(_mlp(name, config.hidden_size, config.expert_width))
    return shapes


def mlx_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every tensor of an MLX folder of this config, quantised as its config says.

    A matrix (…, out, in) of `bits` is packed to (…, out, in * bits / 32) words of 32 bits,
    with `.scales` and `.biases` of (…, out, in / group_size) beside it.
    """
    shapes: dict[str, Shape] = dict(_ends(config))
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        shapes.update((prefix + name, shape) for name, shape in _block(config))
        if not config.is_moe(layer):
            shapes.update(_mlp(f"{prefix}mlp.", config.hidden_size, config.mlp_width))
            continue
        shapes[f"{prefix}mlp.gate.weight"] = (config.experts, config.hidden_size)
        for name, shape in _mlp(
            f"{prefix}mlp.switch_mlp.", config.hidden_size, config.expert_width
        ):
            shapes[name] = (config.experts, *shape)  # (E, F, D) or (E, D, F)
    return dict(_packed(config, shapes))


def check_shapes(found: Mapping[str, Shape], config: ModelConfig) -> None:
    """Compare the tensors of a folder, of either layout, with its config.

    Raises:
        CheckpointError: names what is missing, unexpected or of another shape, and how many.
    """
    stacked = config.quantization is not None or any(".switch_mlp." in name for name in found)
    expected = mlx_shapes(config) if stacked else expected_shapes(config)
    missing = [name for name in expected if name not in found]
    if missing:
        raise CheckpointError(
            f"{len(missing)} of {len(expected)} tensors are missing, the first is {missing[0]}: "
            "the files do not belong to this config.json, download the folder again"
        )
    extra = [name for name in found if name not in expected and not _harmless(name, config)]
    if extra:
        raise CheckpointError(
            f"{len(extra)} tensors are not part of a {config.model_type} model with "
            f"{config.layers} layers, the first is {extra[0]}: the files do not belong to this "
            "config.json, download the folder again"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{name} has the shape {list(found[name])}, and config.json asks for "
                f"{list(shape)}: the files do not belong together, download the folder again"
            )


def _harmless(name: str, config: ModelConfig) -> bool:
    """Copies that some files carry: the tied head, and RoPE's constant frequencies."""
    return (name == "lm_head.weight" and config.tied) or name.endswith("rotary_emb.inv_freq")


def _ends(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Embedding, last norm, and the head where it is not tied."""
    yield "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)  # (V, D)
    yield "model.norm.weight", (config.hidden_size,)
    if not config.tied:
        yield "lm_head.weight", (config.vocab_size, config.hidden_size)


def _block(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """One layer without its MLP: two norms and the attention."""
    hidden, channels = config.hidden_size, config.head_dim
    queries, keys = config.heads * channels, config.kv_heads * channels  # H*C, K*C
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)
    yield "self_attn.q_norm.weight", (channels,)
    yield "self_attn.k_norm.weight", (channels,)
    yield "self_attn.q_proj.weight", (queries, hidden)
    yield "self_attn.k_proj.weight", (keys, hidden)
    yield "self_attn.v_proj.weight", (keys, hidden)
    yield "self_attn.o_proj.weight", (hidden, queries)


def _mlp(prefix: str, hidden: int, width: int) -> Iterator[tuple[str, Shape]]:
    """The three matrices of a SwiGLU, of a layer or of one expert."""
    yield f"{prefix}gate_proj.weight", (width, hidden)
    yield f"{prefix}up_proj.weight", (width, hidden)
    yield f"{prefix}down_proj.weight", (hidden, width)


def _packed(config: ModelConfig, plain: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    """The plain shapes, with each quantised matrix replaced by its two or three tensors.

    mlx-lm leaves a matrix plain, and does not say so, where its rows are not whole groups.
    """
    for name, shape in plain.items():
        path = name.removesuffix(".weight")
        choice = config.quantization_of(path) if len(shape) > 1 else None
        if choice is None or shape[-1] % choice.group_size:
            yield name, shape
            continue
        *rows, columns = shape
        yield name, (*rows, columns * choice.bits // 32)
        yield f"{path}.scales", (*rows, columns // choice.group_size)
        if choice.mode == "affine":  # the floating formats (mxfp4, …) have no biases
            yield f"{path}.biases", (*rows, columns // choice.group_size)
