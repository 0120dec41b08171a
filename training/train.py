"""Train tiny from nothing on a CPU: a Qwen3-MoE of Transformers, our lessons, a time budget.

    torchrun --nproc-per-node 2 train.py --tokenizer TOKENIZER --work WORK --out OUT --minutes 45

The same command continues an interrupted run from WORK. OUT receives a normal Hugging Face
checkpoint, renewed as a whole at every report. The learning rate follows the share of the budget
that is spent, so a shorter budget still ends with a complete schedule.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import team
import torch
import torch.nn.functional as F
from classroom import Batch, batches, exam_rows, strict_accuracy
from muon import Muon
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

MATRICES = (
    "self_attn.",
    "mlp.experts.",
)  # learnt with Muon; embedding, router and norms with AdamW
PEAK = {"muon": 0.02, "adam": 2e-3}


def experts_forward(self: Qwen3MoeExperts, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Transformers' expert layer, tokens sorted by expert: the same sums, faster on a CPU."""
    flat = chosen.reshape(-1)
    order = flat.argsort(stable=True)
    token = order // chosen.shape[1]
    counts = torch.bincount(flat, minlength=self.num_experts).tolist()
    outputs = []
    for expert, part in enumerate(x.index_select(0, token).split(counts)):
        gate, up = F.linear(part, self.gate_up_proj[expert]).chunk(2, dim=-1)
        outputs.append(F.linear(F.silu(gate) * up, self.down_proj[expert]))
    joined = torch.cat(outputs) * weights.reshape(-1).index_select(0, order)[:, None]
    return torch.zeros_like(x).index_add_(0, token, joined)


def make_config(tokenizer: Tokenizer) -> Qwen3MoeConfig:
    """Every input dimension is a multiple of 64, the group size of the quantised form."""
    used = tokenizer.get_vocab_size()
    config = Qwen3MoeConfig(
        vocab_size=(used // 64 + 1) * 64,  # like the real Qwen3, some last ids have no text
        hidden_size=128,
        intermediate_size=384,
        moe_intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=16,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.04,
        router_aux_loss_coef=0.001,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
    )
    config._attn_implementation = "sdpa"
    config._experts_implementation = "eager"
    return config


def generation_config(config: Qwen3MoeConfig) -> GenerationConfig:
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


def balancing_loss(router_logits: tuple[Tensor, ...], real: Tensor, top_k: int) -> Tensor:
    """Qwen's global-batch load balancing: N_E * sum_i f_i * p_i (arXiv 2501.11873), mean of layers.

    f_i is the share of the choices that went to expert i, p_i its mean router probability. f is
    counted over the whole batch of all processes, not over each sequence, so that experts are free
    to specialise on kinds of text. Perfect balance gives 1. Padding is left out.
    """
    kept = real.reshape(-1)
    layers = torch.stack([logits[kept] for logits in router_logits])
    probabilities = layers.softmax(dim=-1, dtype=torch.float32)
    experts = probabilities.shape[-1]
    chosen = probabilities.detach().topk(top_k, dim=-1).indices
    counts = F.one_hot(chosen, experts).sum(dim=(1, 2)).float()
    team.add_up([counts])
    f = counts / counts.sum(dim=-1, keepdim=True)
    return experts * (f * probabilities.mean(dim=1)).sum(dim=-1).mean()


def batch_loss(model: Qwen3MoeForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy of the tokens to learn (only they get logits) and the balancing loss."""
    output = model.model(input_ids=batch.ids, output_router_logits=True, use_cache=False)
    target = batch.learn[:, 1:]
    hidden = output.last_hidden_state[:, :-1][target]
    talk = F.cross_entropy(model.lm_head(hidden), batch.ids[:, 1:][target])
    return talk, balancing_loss(output.router_logits, batch.real, model.config.num_experts_per_tok)


def rate(progress: float) -> float:
    """Warm-up, a long plateau, then a linear way down to nothing."""
    return min(1.0, progress / 0.02, max(0.0, (1 - progress) / 0.45))


@dataclass
class Run:
    """All that a checkpoint holds."""

    model: Qwen3MoeForCausalLM
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    block: int = 0
    spent: float = 0.0  # seconds of training, over all sittings

    def save(self, path: Path) -> None:
        """Write to a neighbour and rename, so that a crash never leaves half a checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.step, self.block, self.spent),
            "rng": torch.get_rng_state(),
        }
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def load(self, path: Path) -> None:
        """Continue where `save` was called; lessons go on with the next block."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.block, self.spent = state["counters"]
        torch.set_rng_state(state["rng"])


def make_run(config: Qwen3MoeConfig, seed: int) -> Run:
    """A fresh model with its two optimisers."""
    torch.manual_seed(seed)
    Qwen3MoeExperts.forward = experts_forward
    model = Qwen3MoeForCausalLM(config)
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim >= 2 and any(part in name for part in MATRICES)]
    chosen = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in chosen]
    adam = torch.optim.AdamW(
        others, lr=PEAK["adam"], betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    return Run(model, [Muon(matrices, lr=PEAK["muon"]), adam])


def share_gradients(model: torch.nn.Module) -> None:
    """The mean gradient of the team; an expert that met no token has none yet."""
    grads = []
    for param in model.parameters():
        param.grad = torch.zeros_like(param) if param.grad is None else param.grad / team.size()
        grads.append(param.grad)
    team.add_up(grads)


def team_clock(spent: float) -> float:
    """The clock of process 0, so that all have one learning rate and stop together."""
    clock = torch.tensor([spent if team.rank() == 0 else 0.0], dtype=torch.float64)
    team.add_up([clock])
    return float(clock)


def train_step(run: Run, batch: Batch, scale: float, balance: float) -> tuple[float, float]:
    """Forward, backward and one update."""
    talk, even = batch_loss(run.model, batch)
    (talk + balance * even).backward()
    share_gradients(run.model)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    for optimizer, peak in zip(run.optimizers, PEAK.values(), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * scale
        optimizer.step()
        optimizer.zero_grad()
    run.step += 1
    return float(talk.detach()), float(even.detach())


def export(run: Run, tokenizer_folder: Path, out: Path) -> None:
    """Write the checkpoint beside its place and swap, so that readers never see a mixture."""
    fresh, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(tokenizer_folder, fresh)
    run.model.generation_config = generation_config(run.model.config)
    run.model.save_pretrained(fresh)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def report(run: Run, tokenizer: Tokenizer, losses: list[tuple[float, float]], log: Path) -> None:
    """One JSON line: losses since the last one and the strict accuracy on unseen problems."""
    pad = run.model.config.pad_token_id
    scores = {
        name: strict_accuracy(run.model, exam_rows(tokenizer, 1, 100, thinking), pad)
        for name, thinking in (("direct", False), ("thinking", True))
    }
    talk, even = (sum(column) / len(column) for column in zip(*losses, strict=True))
    minutes = round(run.spent / 60, 2)
    line = {"step": run.step, "minutes": minutes, "loss": talk, "balance": even, **scores}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def train(run: Run, tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    """Blocks of lessons until the budget is spent, with a report now and then."""
    pad = run.model.config.pad_token_id
    losses: list[tuple[float, float]] = []
    reported = run.spent
    while run.spent < options.minutes * 60:
        lessons = list(batches(tokenizer, options.seed, run.block, options.tokens, pad))
        whole = len(lessons) // team.size() * team.size()
        for batch in lessons[team.rank() : whole : team.size()]:
            begun = time.monotonic()
            progress = run.spent / (options.minutes * 60)
            losses.append(train_step(run, batch, rate(progress), options.balance))
            run.spent = team_clock(run.spent + time.monotonic() - begun)
        run.block += 1
        if run.spent - reported > options.every * 60 or run.spent >= options.minutes * 60:
            reported = run.spent
            if team.rank() == 0:
                report(run, tokenizer, losses, options.work / "log.jsonl")
                run.save(options.work / "run.pt")
                export(run, options.tokenizer, options.out)
            losses.clear()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of make_tokenizer.py")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the log and the resumable state"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the Hugging Face checkpoint"
    )
    parser.add_argument(
        "--minutes", type=float, default=35.0, help="time budget, over all sittings"
    )
    parser.add_argument("--every", type=float, default=3.0, help="minutes between reports")
    parser.add_argument("--tokens", type=int, default=1280, help="ids in a process's batch")
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the balancing loss")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    team.join()
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    run = make_run(make_config(tokenizer), options.seed)
    if (options.work / "run.pt").exists():
        run.load(options.work / "run.pt")
    train(run, tokenizer, options)


if __name__ == "__main__":
    main()
