"""Makes golden.npz: logits and greedy tokens of Transformers on small random models.

Run `python tests/model/make_golden.py` (needs PyTorch) after changing CASES. The models
themselves are not stored: `write_checkpoint` makes the same weights again from a seed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from checkpoints import write_checkpoint

GOLDEN = Path(__file__).with_name("golden.npz")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
PROMPT_TOKENS, GREEDY_TOKENS, KEPT_ROWS = 96, 32, 24


def stretched(factor: int) -> dict[str, Any]:
    """YaRN over exactly the positions that prompt and greedy tokens take."""
    length = PROMPT_TOKENS + GREEDY_TOKENS
    scaling = YARN | {"factor": float(factor), "original_max_position_embeddings": length // factor}
    return {"rope_scaling": scaling, "max_position_embeddings": length}


#: What `write_checkpoint` is called with; the base model has head_dim 32 with hidden 64 / 4 heads.
CASES: dict[str, dict[str, Any]] = {
    "dense-untied": {},
    "dense-tied": {"tied": True},
    "dense-head-dim-equal": {"head_dim": 16},
    "dense-yarn": {"rope_scaling": YARN, "max_position_embeddings": 256},
    "dense-yarn-dialect-5": {
        "rope_scaling": YARN, "max_position_embeddings": 256, "dialect": 5,
    },
    "moe": {"moe": True},
    "moe-tied-dialect-5": {"moe": True, "tied": True, "dialect": 5},
    "moe-no-norm-topk": {"moe": True, "norm_topk_prob": False},
    "moe-mlp-only": {"moe": True, "mlp_only_layers": [1]},
    "moe-sparse-step-2": {"moe": True, "decoder_sparse_step": 2},
    "moe-yarn": {"moe": True, "rope_scaling": YARN, "max_position_embeddings": 256},
    "dense-2x": stretched(2),
    "dense-4x": stretched(4),
    "moe-2x": {"moe": True, **stretched(2)},
    "moe-4x": {"moe": True, **stretched(4)},
}  # fmt: skip


def prompt() -> list[int]:
    """The token ids that every case reads."""
    return [int(token) for token in np.random.default_rng(7).integers(0, 320, PROMPT_TOKENS)]


def reference(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Transformers' logits (L, V) for the prompt, and the greedy tokens that follow it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([prompt()])
    with torch.no_grad():
        logits = model(ids).logits[0].numpy()
        greedy = []
        for _ in range(GREEDY_TOKENS):
            greedy.append(int(model(ids).logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([[greedy[-1]]])], dim=1)
    return logits, np.array(greedy, np.int32)


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in CASES.items():
            path = write_checkpoint(Path(folder) / name, dtype="F32", **options)
            logits, greedy = reference(path)
            arrays[f"{name}.logits"] = logits[-KEPT_ROWS:]
            arrays[f"{name}.greedy"] = greedy
            print(name, "logits", logits.shape, "std", f"{logits.std():.3f}")
    np.savez_compressed(GOLDEN, **arrays)
    print(GOLDEN.name, GOLDEN.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
