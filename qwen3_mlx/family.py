"""Which of Qwen3's families a checkpoint belongs to, by what it can do and not by its name.

hybrid     2504: one model with two modes, switched by the template
thinking   2507-Thinking: the prompt opens the thought, nothing switches it off
coder      Qwen3-Coder: never thinks, calls tools as <function=name>
instruct   2507-Instruct and others that never think
base       trained to continue text; ends it with <|endoftext|>, not with <|im_end|>
embedding  makes a vector of a text; its tokenizer ends every text with <|endoftext|> itself
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Family", "family_of"]

Family: TypeAlias = Literal["hybrid", "thinking", "coder", "instruct", "base", "embedding"]


def family_of(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> Family:
    """The family, from the chat template and the ids that end a text.

    Base checkpoints carry a chat template too, so it is the ending that gives them away:
    neither config.json nor generation_config.json (the last argument) names ``<|im_end|>``.
    """
    if tokenizer.closing_ids:
        return "embedding"
    if not template.exists or _never_ends_a_turn(tokenizer, config, generation):
        return "base"
    if template.can_switch_thinking:
        return "hybrid"
    if template.can_think:
        return "thinking"
    return "coder" if "<function=" in (template.source or "") else "instruct"


def _never_ends_a_turn(tokenizer: Tokenizer, *configs: Mapping[str, Any]) -> bool:
    end = tokenizer.id_of("<|im_end|>")
    stated = [config["eos_token_id"] for config in configs if config.get("eos_token_id")]
    ids = [id for each in stated for id in (each if isinstance(each, list) else [each])]
    return bool(ids) and end is not None and end not in ids
