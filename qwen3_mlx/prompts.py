"""From what the caller says to the ids that the model reads, and what must be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen3_mlx.errors import OptionError, PromptError
from qwen3_mlx.interface import Message
from qwen3_mlx.text.budget import empty_thought
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.thinking import prompt_opens_block, soft_switch
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Prompt", "Prompts"]


@dataclass(slots=True)
class Prompt:
    """A prompt in ids.

    `thinks` is whether the reply will begin with a thought, `opened` whether the prompt has
    opened it already, and `closed` how many ids at the end close it again.
    """

    ids: list[int]
    thinks: bool = False
    opened: bool = False
    closed: int = 0
    notices: list[str] = field(default_factory=list)


class Prompts:
    """Makes the prompts of one model."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template, self._tokenizer = template, tokenizer

    def raw(self, prompt: str | Sequence[Message]) -> Prompt:
        """A text to be continued as it stands."""
        if not isinstance(prompt, str):
            raise OptionError("a raw prompt is one text, not messages")
        _require_words(prompt)
        return Prompt(self._tokenizer.encode(prompt))

    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        system: str | None = None,
        thinking: bool | None = None,
        budget: int | None = None,
    ) -> Prompt:
        """A conversation, in the words of the template."""
        messages = _messages(prompt, system)
        notices = self._complaints(thinking, budget)
        if not self._template.can_switch_thinking:
            thinking = None
        elif budget == 0:
            thinking = False
        ids = self._template.render_ids(messages, self._tokenizer, thinking=thinking)
        made = Prompt(ids, self._thinks(messages, thinking), notices=notices)
        made.opened = self._template.can_think and prompt_opens_block(ids, self._tokenizer)
        if made.opened and budget == 0:
            made.ids = empty_thought(ids, self._tokenizer)
            made.closed = len(self._tokenizer.encode("\n\n</think>\n\n"))
            made.thinks = made.opened = False
        return made

    def _complaints(self, thinking: bool | None, budget: int | None) -> list[str]:
        """The switches that cannot work with this model or with each other."""
        can_think, can_switch = self._template.can_think, self._template.can_switch_thinking
        notices = []
        if thinking is not None and not can_switch and thinking != can_think:
            what = "always thinks" if can_think else "never thinks"
            notices.append(f"this model {what}: thinking={thinking} changes nothing")
        if budget is not None and not can_think:
            notices.append(f"this model never thinks: thinking_budget={budget} changes nothing")
        elif budget and thinking is False and can_switch:
            notices.append(f"thinking is off: thinking_budget={budget} changes nothing")
        return notices

    def _thinks(self, messages: Sequence[Message], thinking: bool | None) -> bool:
        """Whether this answer will begin with a thought."""
        if not self._template.can_switch_thinking:
            return self._template.can_think
        return thinking is not False and soft_switch(messages) is not False


def _messages(prompt: str | Sequence[Message], system: str | None) -> list[Message]:
    _require_words(prompt)
    messages: list[Message] = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    )
    return [{"role": "system", "content": system}, *messages] if system else messages


def _require_words(prompt: str | Sequence[Message]) -> None:
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise PromptError("the prompt is empty: say something to the model")
