"""How tokens are drawn, and how many, when nobody says: the checkpoint's settings and Qwen's.

Qwen publishes one setting for thinking and one for answering directly. A checkpoint's
generation_config.json holds only one of them (the thinking one, for hybrid models), so a
hybrid model that does not think takes Qwen's other setting. Greedy decoding is never a
default: Qwen warns that thoughts repeat themselves endlessly with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from qwen3_mlx.engine.request import DrawRule
from qwen3_mlx.errors import OptionError
from qwen3_mlx.family import Family
from qwen3_mlx.interface import Sampling

__all__ = ["DIRECT", "THINKING", "Preset", "draw_rule", "preset", "settled_rule"]

#: From the model cards of the Qwen3 models, "Best Practices".
THINKING = DrawRule(temperature=0.6, top_p=0.95, top_k=20)
DIRECT = DrawRule(temperature=0.7, top_p=0.8, top_k=20)
_CODER = replace(DIRECT, repetition_penalty=1.05)

# The cards of the quantised checkpoints: "we suggest setting presence_penalty to 1.5 for
# quantized models to suppress repetitive outputs".
_QUANTIZED_PRESENCE = 1.5


@dataclass(frozen=True, slots=True)
class Preset:
    """What Qwen recommends; `most_tokens` is the length of output, thought included."""

    rule: DrawRule
    most_tokens: int


def preset(family: Family, *, thinking: bool, quantized: bool = False) -> Preset:
    """The recommendation for a family and mode.

    `quantized` is for checkpoints of Qwen's own models; others may not need the penalty.

    >>> preset("hybrid", thinking=False).rule.temperature
    0.7
    """
    made = {
        "coder": Preset(_CODER, 65_536),
        "base": Preset(DIRECT, 2_048),
    }.get(family) or (Preset(THINKING, 32_768) if thinking else Preset(DIRECT, 16_384))
    if quantized:
        return replace(made, rule=replace(made.rule, presence_penalty=_QUANTIZED_PRESENCE))
    return made


_LIMITS: dict[str, tuple[float, float, str]] = {
    "temperature": (0, 10, "from 0 (greedy) to 10"),
    "top_k": (0, 1 << 31, "0 (off) or more"),
    "top_p": (1e-6, 1, "above 0, at most 1 (off)"),
    "min_p": (0, 1, "from 0 (off) to 1"),
    "repetition_penalty": (1e-3, 100, "above 0; 1 is off"),
    "presence_penalty": (-100, 100, "a number; 0 is off"),
    "frequency_penalty": (-100, 100, "a number; 0 is off"),
}


def draw_rule(
    asked: Sampling | None,
    checkpoint: Mapping[str, Any],
    recommended: DrawRule,
    *,
    other_mode: bool = False,
) -> DrawRule:
    """Settle every value: what was asked, else the checkpoint's, else Qwen's.

    Args:
        asked: the caller's wishes; None fields are left open.
        checkpoint: generation_config.json.
        recommended: the rule of `preset`.
        other_mode: a hybrid model is not thinking, so that the checkpoint's temperature,
            top-k, top-p and min-p, which are meant for thinking, do not count.

    >>> draw_rule(Sampling(top_k=5), {"temperature": 0.9}, THINKING).temperature
    0.9
    """
    stated = _known(checkpoint)
    if other_mode:
        stated = {name: value for name, value in stated.items() if name.endswith("_penalty")}
    rule = replace(recommended, **stated)
    if asked is not None:
        rule = replace(rule, **_known({f.name: getattr(asked, f.name) for f in fields(asked)}))
    return rule


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that name a draw rule's fields and are given, checked."""
    known = {}
    for name, (low, high, say) in _LIMITS.items():
        value = values.get(name)
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise OptionError(f"{name} is {value!r}, and must be {say}")
        if name == "top_k" and value != int(value):
            raise OptionError(f"top_k is {value!r}, and must be a whole number")
        known[name] = int(value) if name == "top_k" else float(value)
    return known


def settled_rule(
    asked: Sampling | None,
    checkpoint: Mapping[str, Any],
    recommended: DrawRule,
    family: Family,
    *,
    thinks: bool,
) -> tuple[DrawRule, list[str]]:
    """`draw_rule` for one answer, and what must be said about it."""
    other_mode = family == "hybrid" and not thinks
    rule = draw_rule(asked, checkpoint, recommended, other_mode=other_mode)
    if thinks and rule.temperature == 0:
        return rule, ["greedy decoding in thinking mode: Qwen warns of endless repetition"]
    return rule, []
