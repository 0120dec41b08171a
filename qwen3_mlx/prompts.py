"""From what the caller says to the ids that the model reads, and what must be said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen3_mlx.errors import OptionError, PromptError
from qwen3_mlx.family import Family
from qwen3_mlx.interface import Message
from qwen3_mlx.text.budget import empty_thought
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.thinking import ThinkingParser, prompt_opens_block, soft_switch
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Prompt", "Prompts"]

#: Old turns go in such parts of the context.
_DROPPED_AT_ONCE = 4


@dataclass(slots=True)
class Prompt:
    """A prompt in ids.

    `thinks` is whether the reply will begin with a thought, `opened` whether the prompt has
    opened it already, `closed` how many ids at the end close it again, and `turns` how many
    messages of users it has.
    """

    ids: list[int]
    thinks: bool = False
    opened: bool = False
    closed: int = 0
    turns: int = 1
    notices: list[str] = field(default_factory=list)


class Prompts:
    """Makes the prompts of one model.

    Args:
        family: what it was trained for, for the notices.
        context: tokens that prompt and reply have together.
    """

    def __init__(
        self, template: ChatTemplate, tokenizer: Tokenizer, family: Family, context: int
    ) -> None:
        self._template, self._tokenizer = template, tokenizer
        self._family, self._context = family, context

    @property
    def can_hold_tools(self) -> bool:
        """Whether tools can be described to the model."""
        return self._family not in ("base", "embedding") and self._template.can_call_tools

    def raw(self, prompt: str | Sequence[Message]) -> Prompt:
        """A text to be continued as it stands."""
        self._must_converse()
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
        drop_for: int | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Prompt:
        """A conversation, in the words of the template.

        `drop_for` lets the oldest turns go until so many tokens of the context are left.
        """
        self._must_converse()
        messages = _messages(prompt, system)
        notices = self._complaints(messages, thinking, budget)
        if not self._template.can_switch_thinking:
            thinking = None
        elif budget == 0:
            thinking = False
        if drop_for is not None:
            messages, dropped = self._without_oldest(messages, thinking, tools, drop_for)
            notices += dropped
        ids = self._ids(messages, thinking, tools)
        turns = sum(message["role"] == "user" for message in messages)
        made = Prompt(ids, self._thinks(messages, thinking), turns=turns, notices=notices)
        made.opened = self._template.can_think and prompt_opens_block(ids, self._tokenizer)
        if made.opened and budget == 0:
            made.ids = empty_thought(ids, self._tokenizer)
            made.closed = len(self._tokenizer.encode("\n\n</think>\n\n"))
            made.thinks = made.opened = False
        return made

    def history(
        self,
        messages: Sequence[Message],
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """How every prompt will begin that goes on from these messages with a new question.

        The template strips thoughts from turns that are over and may do anything else, so
        two prompts are made, with different questions, and what they share is the answer.
        """
        asked = [
            self._ids(
                _messages([*messages, {"role": "user", "content": text}], system), None, tools
            )
            for text in ("a", "1")
        ]
        pairs = enumerate(zip(*asked, strict=False))
        end = next((place for place, (one, other) in pairs if one != other), 0)
        return asked[0][:end]

    def parser(self, made: Prompt) -> ThinkingParser | None:
        """What tells thought from answer in the reply; None for a model that never thinks."""
        if not self._template.can_think:
            return None
        ids = self._tokenizer.think_open_id, self._tokenizer.think_close_id
        parser = ThinkingParser(*ids, made.opened)
        if made.closed:
            parser.close()
        return parser

    def _must_converse(self) -> None:
        if self._family == "embedding":
            raise OptionError(
                "this model makes vectors of texts and answers nothing: use `qwen3-mlx embed` or "
                "Qwen3.embed, or choose another model, such as 0.6b"
            )

    def _ids(
        self,
        messages: Sequence[Message],
        thinking: bool | None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        return self._template.render_ids(
            messages, self._tokenizer, tools=tools or None, thinking=thinking
        )

    def _without_oldest(
        self,
        messages: list[Message],
        thinking: bool | None,
        tools: Sequence[Mapping[str, Any]],
        room: int,
    ) -> tuple[list[Message], list[str]]:
        """The conversation without as many old turns as it takes, and the notice of it.

        A turn begins with a user's message. System messages at the start and the last turn
        stay in any case. A quarter of the context goes at once, if there is so much: with every
        turn that goes all that is left must be read anew, and so the next ones find it read.
        """
        whole = len(self._ids(messages, thinking, tools))
        turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
        head = messages[: turns[0]] if turns else messages
        if whole + room <= self._context or len(turns) < 2:
            return messages, []

        def kept_from(turn: int) -> list[Message]:
            return [*head, *messages[turns[turn] :]]

        def first(most: int) -> int:
            """The fewest turns that must go for a prompt of so many tokens, or all but one."""
            few, many = 1, len(turns) - 1  # the length falls with their number
            while few < many:
                middle = (few + many) // 2
                short = len(self._ids(kept_from(middle), thinking, tools)) <= most
                few, many = (few, middle) if short else (middle + 1, many)
            return few

        step = max(1, self._context // _DROPPED_AT_ONCE)
        steps = -(-(whole + room - self._context) // step)
        few = first(whole - steps * step)
        if few == len(turns) - 1:  # there is not so much to leave out
            few = first(self._context - room)
        kept = kept_from(few)
        gone = whole - len(self._ids(kept, thinking, tools))
        what = "oldest turn was" if few == 1 else f"{few} oldest turns were"
        return kept, [
            f"the {what} left out ({gone:,} tokens) to fit the context of {self._context:,}"
        ]

    def _complaints(
        self, messages: Sequence[Message], thinking: bool | None, budget: int | None
    ) -> list[str]:
        """The switches that cannot work with this model or with each other."""
        can_think, can_switch = self._template.can_think, self._template.can_switch_thinking
        written = soft_switch(messages[-1:])
        word = "/think" if written else "/no_think"
        fixed = f"this model {'always' if can_think else 'never'} thinks"
        notices = []
        if self._family == "base":
            notices.append(
                "this is a Base model: it was trained to continue text, not to chat; "
                "a raw prompt (raw=True, --raw) is what it reads best"
            )
        if thinking is not None and not can_switch and thinking != can_think:
            notices.append(f"{fixed}: thinking={thinking} changes nothing")
        if written is not None and not can_switch and written != can_think:
            notices.append(f"{fixed}: {word} changes nothing")
        if can_switch and thinking is False and written:
            notices.append(f"thinking is off: {word} changes nothing")
        if budget is not None and not can_think:
            notices.append(f"{fixed}: thinking_budget={budget} changes nothing")
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
