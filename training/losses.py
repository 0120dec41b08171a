"""What is minimised: cross entropy, the balance of the experts, and the distance to a teacher."""

from __future__ import annotations

from dataclasses import dataclass

import team
import torch
import torch.nn.functional as F
from classroom import Batch
from models import Model
from torch import Tensor

BALANCING = ("global", "sequence", "none")


def balancing_loss(router_logits: tuple[Tensor, ...], real: Tensor, top_k: int) -> Tensor:
    """Qwen's global-batch load balancing: N_E * sum_i f_i * p_i (arXiv 2501.11873), mean of layers.

    f_i is the share of the choices that went to expert i, p_i its mean router probability. f is
    counted over the whole batch of all processes, not over each sequence, so that experts are free
    to specialise on kinds of text. Perfect balance gives 1. Padding is left out.

    For one layer and one process this is Transformers' `load_balancing_loss_func` divided by
    top_k. For several layers that function takes f and p over all layers together, and here
    every layer has to be balanced by itself.

    Args:
        router_logits: for each layer (B L, E).
        real: (B, L), False where there is padding.
    """
    kept = real.reshape(-1)
    probabilities = _probabilities(router_logits)[:, kept]  # (layers, N, E)
    counts = _choices(probabilities, top_k).sum(dim=1)
    team.add_up([counts])
    f = counts / counts.sum(dim=-1, keepdim=True)
    return probabilities.shape[-1] * (f * probabilities.mean(dim=1)).sum(dim=-1).mean()


def sequence_balancing_loss(router_logits: tuple[Tensor, ...], real: Tensor, top_k: int) -> Tensor:
    """The same with f and p of each sequence alone, for comparison: it hinders specialisation."""
    kept = real.float()[None, :, :, None]  # (1, B, L, 1)
    probabilities = _probabilities(router_logits).unflatten(1, real.shape)
    counts = (_choices(probabilities, top_k) * kept).sum(dim=2)
    f = counts / counts.sum(dim=-1, keepdim=True)
    p = (probabilities * kept).sum(dim=2) / kept.sum(dim=2)
    return probabilities.shape[-1] * (f * p).sum(dim=-1).mean()


def _probabilities(router_logits: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(router_logits).softmax(dim=-1, dtype=torch.float32)


def _choices(probabilities: Tensor, top_k: int) -> Tensor:
    """1 where an expert is among the top_k of its token."""
    chosen = probabilities.detach().topk(top_k, dim=-1).indices
    return torch.zeros_like(probabilities).scatter_(-1, chosen, 1.0)


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL(teacher || student) over positions, from logits (N, V)."""
    return F.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True
    )


@dataclass(frozen=True)
class Goal:
    """Which losses count, and how much."""

    balance: float = 0.01
    balancing: str = "global"
    teacher: Model | None = None
    teacher_share: float = 0.5  # of the loss; the rest is the cross entropy of the lessons

    def __call__(self, model: Model, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its parts for the log.

        Only tokens to learn get logits.
        """
        sparse = hasattr(model.config, "num_experts")
        routed = {"output_router_logits": True} if sparse else {}
        output = model.model(input_ids=batch.ids, use_cache=False, **routed)
        target = batch.learn[:, 1:]
        logits = model.lm_head(output.last_hidden_state[:, :-1][target])
        loss = F.cross_entropy(logits, batch.ids[:, 1:][target])
        parts = {"loss": float(loss.detach())}
        if self.teacher is not None:
            far = distance(logits, self._taught(batch, target))
            parts["distance"] = float(far.detach())
            loss = (1 - self.teacher_share) * loss + self.teacher_share * far
        if sparse:
            top_k = model.config.num_experts_per_tok
            even = balancing_loss(output.router_logits, batch.real, top_k)
            parts["balance"] = float(even.detach())
            if self.balancing == "sequence":
                even = sequence_balancing_loss(output.router_logits, batch.real, top_k)
            if self.balancing != "none":
                loss = loss + self.balance * even
        return loss, parts

    @torch.no_grad()
    def _taught(self, batch: Batch, target: Tensor) -> Tensor:
        assert self.teacher is not None
        seen = self.teacher.model(input_ids=batch.ids, use_cache=False)
        taught: Tensor = self.teacher.lm_head(seen.last_hidden_state[:, :-1][target])
        return taught
