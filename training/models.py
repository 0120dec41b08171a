"""The shapes that are trained here: tiny, its dense sister with as much work a token, a teacher."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

Model: TypeAlias = PreTrainedModel

# Every input dimension is a multiple of 64, the group size of the quantised form.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "moe_intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_experts": 16,
        "num_experts_per_tok": 4,
    },
    "tiny-dense": {  # as many weights work on a token as in tiny: 512 is 4 experts of 128
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "teacher": {
        "hidden_size": 192,
        "moe_intermediate_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_experts": 16,
        "num_experts_per_tok": 4,
    },
}
MOE = {
    "intermediate_size": 384,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "router_aux_loss_coef": 0.001,
}


def experts_forward(self: Qwen3MoeExperts, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Transformers' expert layer, tokens sorted by expert: the same sums, faster on a CPU."""
    flat = chosen.reshape(-1)
    order = flat.argsort(stable=True)
    token = order // chosen.shape[1]
    counts = torch.bincount(flat, minlength=self.num_experts).tolist()
    outputs = []
    # Unbound once: an index for each expert would give each a gradient as large as all of them.
    gate_up, down = self.gate_up_proj.unbind(), self.down_proj.unbind()
    for expert, part in enumerate(x.index_select(0, token).split(counts)):
        gate, up = F.linear(part, gate_up[expert]).chunk(2, dim=-1)
        outputs.append(F.linear(F.silu(gate) * up, down[expert]))
    joined = torch.cat(outputs) * weights.reshape(-1).index_select(0, order)[:, None]
    return torch.zeros_like(x).index_add_(0, token, joined)


def make_config(tokenizer: Tokenizer, size: str) -> PretrainedConfig:
    """The configuration of one of the `SIZES` for this tokenizer."""
    sparse = "num_experts" in SIZES[size]
    shape = SIZES[size] | (MOE if sparse else {})
    config = (Qwen3MoeConfig if sparse else Qwen3Config)(
        vocab_size=(tokenizer.get_vocab_size() // 64 + 1) * 64,  # some last ids have no text
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.04,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        **shape,
    )
    return _on_cpu(config)


def _on_cpu(config: PretrainedConfig) -> PretrainedConfig:
    config._attn_implementation = "sdpa"
    config._experts_implementation = "eager"
    return config


def make_model(config: PretrainedConfig) -> Model:
    """A model with fresh weights from torch's random numbers."""
    Qwen3MoeExperts.forward = experts_forward
    return AutoModelForCausalLM.from_config(config)


def load_model(folder: str) -> Model:
    """A trained model, to be read only."""
    Qwen3MoeExperts.forward = experts_forward
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    _on_cpu(model.config)
    return model.eval().requires_grad_(False)


def load_teacher(folder: str, vocab_size: int) -> Model:
    """A trained model to learn from; it must speak the ids of the student."""
    model = load_model(folder)
    if model.config.vocab_size != vocab_size:
        raise SystemExit(
            f"the teacher has {model.config.vocab_size} ids and the student {vocab_size}: "
            "train both with the same --tokenizer"
        )
    return model


def generation_config(config: PretrainedConfig) -> GenerationConfig:
    """The sampling of Qwen3's thinking mode, which the hybrid checkpoints ship."""
    return GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        top_k=20,
        bos_token_id=config.bos_token_id,
        eos_token_id=[config.eos_token_id, config.pad_token_id],
        pad_token_id=config.pad_token_id,
    )
