"""Train tiny from nothing on a CPU: a Qwen3 of Transformers, our lessons, a time budget.

    torchrun --nproc-per-node 2 train.py --tokenizer TOKENIZER --work WORK --out OUT --minutes 175

The same command continues an interrupted run from WORK. OUT receives a normal Hugging Face
checkpoint, renewed as a whole at every report. Learning rate and lessons follow the share of the
budget that is spent, so a shorter budget still ends with a complete schedule. With --steps the
budget is a number of updates instead, and the run is the same whatever the clock does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import team
import torch
from classroom import CHECKED, Batch, batches, exam_rows, strict_accuracy
from losses import BALANCING, Goal
from models import SIZES, Model, generation_config, load_teacher, make_config, make_model
from muon import Muon
from tokenizers import Tokenizer
from transformers import PretrainedConfig

# Learnt with Muon; embedding, router and norms with AdamW.
MATRICES = ("self_attn.", "mlp.experts.", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
PEAK = {"muon": 0.02, "adam": 2e-3}


def rate(progress: float) -> float:
    """Warm-up, a long plateau, then a linear way down to nothing."""
    return min(1.0, progress / 0.02, max(0.0, (1 - progress) / 0.45))


@dataclass
class Run:
    """All that a checkpoint holds."""

    model: Model
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    block: int = 0
    spent: float = 0.0  # seconds, over all sittings, drawing lessons and reports included
    tokens: int = 0  # without padding

    def save(self, path: Path) -> None:
        """Write to a neighbour and rename, so that a crash never leaves half a checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.step, self.block, self.spent, self.tokens),
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
        self.step, self.block, self.spent, self.tokens = state["counters"]
        torch.set_rng_state(state["rng"])


def make_run(config: PretrainedConfig, seed: int) -> Run:
    """A fresh model with its two optimisers."""
    torch.manual_seed(seed)
    model = make_model(config)
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


def train_step(run: Run, batch: Batch, scale: float, goal: Goal) -> dict[str, float]:
    """Forward, backward and one update; the parts of the loss."""
    loss, parts = goal(run.model, batch)
    loss.backward()
    share_gradients(run.model)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    for optimizer, peak in zip(run.optimizers, PEAK.values(), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * scale
        optimizer.step()
        optimizer.zero_grad()
    run.step += 1
    run.tokens += int(batch.real.sum()) * team.size()
    return parts


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


def report(run: Run, tokenizer: Tokenizer, losses: Counter[str], count: int, log: Path) -> None:
    """One JSON line: mean losses since the last one, and strict accuracy on unseen problems."""
    pad = run.model.config.pad_token_id
    scores = {
        name: [
            strict_accuracy(run.model, exam_rows(tokenizer, kind, 1, 50, thinking), pad)
            for thinking in (False, True)
        ]
        for name, kind in CHECKED.items()
    }
    line = {
        "step": run.step,
        "minutes": round(run.spent / 60, 2),
        "tokens": run.tokens,
        **{name: round(total / count, 5) for name, total in losses.items()},
        "direct, thinking": scores,
    }
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def progress(run: Run, options: argparse.Namespace) -> float:
    """The share of the budget that is spent."""
    if options.steps:
        return float(run.step / options.steps)
    return float(run.spent / (options.minutes * 60))


def train(run: Run, tokenizer: Tokenizer, goal: Goal, options: argparse.Namespace) -> None:
    """Blocks of lessons until the budget is spent, with a report now and then."""
    pad = run.model.config.pad_token_id
    losses: Counter[str] = Counter()
    reported, begun, clock = run.spent, run.step, time.process_time()
    while (far := progress(run, options)) < 1:
        # Rounded, so that what is taught does not hang on fractions of a second.
        lessons = (options.seed, run.block, options.tokens, pad, round(far, 2))
        for batch in batches(tokenizer, *lessons):
            if progress(run, options) >= 1:
                break
            losses.update(train_step(run, batch, rate(progress(run, options)), goal))
            passed, clock = time.process_time() - clock, time.process_time()
            run.spent = team_clock(run.spent + passed)
        run.block += 1
        if run.spent - reported > options.every * 60 or progress(run, options) >= 1:
            if team.rank() == 0:
                report(run, tokenizer, losses, run.step - begun, options.work / "log.jsonl")
                run.save(options.work / "run.pt")
                export(run, options.tokenizer, options.out)
            losses.clear()
            reported, begun = run.spent, run.step


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--tokenizer", type=Path, required=True, help="folder of make_tokenizer.py")
    add("--work", type=Path, required=True, help="folder for the log and the resumable state")
    add("--out", type=Path, required=True, help="folder for the Hugging Face checkpoint")
    add("--minutes", type=float, default=175.0, help="processor time, over all sittings")
    add("--steps", type=int, default=0, help="a budget in updates instead: repeatable")
    add("--every", type=float, default=4.0, help="minutes between reports")
    add("--tokens", type=int, default=1280, help="ids in a process's batch")
    add("--size", choices=sorted(SIZES), default="tiny")
    add("--dense", action="store_const", const="tiny-dense", dest="size", help="no experts")
    add("--teacher", metavar="FOLDER", help="learn from this trained model's logits too")
    add("--teacher-share", type=float, default=0.5, help="of the loss")
    add("--balance", type=float, default=0.01, help="weight of the balancing loss")
    add("--balancing", choices=BALANCING, default="global", help="over what experts are balanced")
    add("--seed", type=int, default=3)
    add("--threads", type=int, default=1, help="of each process")
    return parser.parse_args()


def main() -> None:
    """Set up and train."""
    options = parse()
    torch.set_num_threads(options.threads)
    team.join()
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    run = make_run(make_config(tokenizer, options.size), options.seed)
    if (options.work / "run.pt").exists():
        run.load(options.work / "run.pt")
    teacher = options.teacher and load_teacher(options.teacher, run.model.config.vocab_size)
    goal = Goal(options.balance, options.balancing, teacher or None, options.teacher_share)
    train(run, tokenizer, goal, options)


if __name__ == "__main__":
    main()
