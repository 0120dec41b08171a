"""Which experts work on which skill, in which language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qwen3_mlx.evaluation.run import Answer

if TYPE_CHECKING:
    from qwen3_mlx.api import Qwen3

__all__ = ["ExpertUse", "expert_use", "information"]

#: By (skill, language): how often each expert was chosen, (layers, experts).
ExpertUse = dict[tuple[str, str], np.ndarray]


def expert_use(model: Qwen3, answers: Sequence[Answer]) -> ExpertUse:
    """Count the router's choices while the model reads each problem with its own answer.

    Raises:
        OptionError: the model has no experts.
    """
    use: ExpertUse = {}
    for answer in answers:
        problem = answer.problem
        text = model.render(problem.messages, tools=problem.tools, thinking=False) + answer.text
        counts = model.routing(model.encode(text)).sum(axis=1)
        key = problem.skill, problem.language
        use[key] = use[key] + counts if key in use else counts
    return use


def information(use: ExpertUse) -> list[float]:
    """For each layer, how many bits the chosen expert tells about skill and language.

    The mutual information of both, every kind of text taken as equally frequent. 0 means that all
    kinds are served by the same experts; the logarithm of the number of kinds is the most.
    """
    shares = np.stack(list(use.values())).astype(float)  # (kinds, layers, experts)
    shares /= shares.sum(axis=-1, keepdims=True)
    mean = shares.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(shares > 0, shares * np.log2(shares / mean), 0.0)
    return [float(layer) for layer in bits.sum(axis=-1).mean(axis=0)]
