"""Published numbers of real checkpoints, so that one command proves a machine right.

For Qwen3-0.6B-Base, Transformers' own tests publish what the model must say: the mean of the
logits at eight positions, and a greedy text. Three things are compared with them: the weights
as a plain float32 forward pass sees them, the library's logits on this machine's own device and
in its own type, and the library's greedy text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from qwen3_mlx.catalogue import find
from qwen3_mlx.checkpoint import Checkpoint, open_checkpoint
from qwen3_mlx.errors import CheckpointError, EngineError
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_convert.folder import source_id

__all__ = ["Golden", "check", "golden_for"]

#: What Transformers' test grants in float32, and what bf16 may add to the mean of all logits.
_EXACT, _ROUGH = 1e-2, 1e-1


@dataclass(frozen=True, slots=True)
class Golden:
    """What a checkpoint must say."""

    name: str
    ids: tuple[int, ...]
    mean_logits: tuple[float, ...]
    prompt: str
    text: str
    new_tokens: int


def golden_for(checkpoint: Checkpoint) -> Golden | None:
    """The numbers of this checkpoint, if it bears the name and has the shape of a known one."""
    every = json.loads((files("qwen3_mlx_convert") / "golden.json").read_text(encoding="utf-8"))
    for name, entry in every.items():
        known = find(name)
        if known is None or not _bears(name, checkpoint.path):
            continue
        config = ModelConfig.from_dict(checkpoint.config)
        if config.quantization is None and _shape(config) == _shape(known.config):
            return Golden(
                name, tuple(entry["ids"]), tuple(entry["mean_logits"]), entry["prompt"],
                entry["text"], entry["new_tokens"],
            )  # fmt: skip
    return None


def check(folder: Path, golden: Golden) -> str:
    """Run the comparisons; a sentence with the largest differences.

    Raises:
        CheckpointError: the weights do not give the numbers.
        EngineError: the weights do, but this machine does not.
    """
    exact = _plain_means(open_checkpoint(folder), golden)
    if exact > _EXACT:
        raise CheckpointError(
            f"{folder} is called {golden.name}, and its mean logits differ from the published "
            f"ones by {exact:.4f}, where {_EXACT} is allowed: download it again"
        )
    here, text = _on_this_machine(folder, golden)
    if here > _ROUGH:
        raise EngineError(
            f"the weights of {folder} are right, and this machine's mean logits differ from the "
            f"published ones by {here:.4f}, where {_ROUGH} is allowed: please report it, with the "
            "output of `qwen3-mlx doctor`"
        )
    if text != golden.text:
        raise EngineError(
            f"the weights of {folder} are right, and the greedy text is {text!r} instead of "
            f"{golden.text!r}: please report it, with the output of `qwen3-mlx doctor`"
        )
    return (
        f"{golden.name}: mean logits within {exact:.4f} of the published ones in float32 and "
        f"{here:.4f} on this machine, and the greedy text is the published one"
    )


def _plain_means(checkpoint: Checkpoint, golden: Golden) -> float:
    from qwen3_mlx_convert.forward import Forward, Weights

    with Weights(checkpoint) as weights:
        forward = Forward(weights, np.array([golden.ids], dtype=np.int64))
        for _ in range(weights.config.layers):
            forward.step()
        last = forward.last()
        total = sum((last @ rows.T).sum(axis=1) for _, rows in weights.blocks(weights.head))
    return float(np.abs(total / weights.config.vocab_size - golden.mean_logits).max())


def _on_this_machine(folder: Path, golden: Golden) -> tuple[float, str]:
    """The largest difference of mean logits, and the greedy text."""
    import qwen3_mlx
    from qwen3_mlx import Sampling

    with qwen3_mlx.load(str(folder)) as model:
        means = model.logits(golden.ids).mean(axis=1)
        reply = model.stream(
            golden.prompt, raw=True, sampling=Sampling(temperature=0),
            max_tokens=golden.new_tokens, loop_guard=False,
        ).result()  # fmt: skip
    return float(np.abs(means - golden.mean_logits).max()), golden.prompt + reply.text


def _bears(name: str, folder: Path) -> bool:
    """Whether the folder, or the card that `convert` wrote into it, names the checkpoint."""
    if name.rpartition("/")[2] == source_id(folder).rpartition("/")[2]:
        return True
    card = folder / "README.md"
    return card.is_file() and f"base_model: {name}\n" in card.read_text("utf-8", "replace")


def _shape(config: ModelConfig) -> tuple[object, ...]:
    return (config.hidden_size, config.layers, config.heads, config.kv_heads, config.head_dim,
            config.mlp_width, config.vocab_size, config.tied, config.experts)  # fmt: skip
