"""Conversations in Qwen3's chat format, and which parts of them are learnt.

`segments` writes the same bytes as the chat template (a test compares them); it exists because the
loss has to know which of the bytes are the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from check_template import compile_template
from jinja2 import Template
from toolbox import schemas

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
BUDGET_SPENT = (
    "\n\nConsidering the limited time by the user, "
    "I have to give the solution based on the thinking directly now.\n</think>\n\n"
)
REPLIER = "<|im_start|>assistant\n"


@dataclass(frozen=True)
class Step:
    """What the model writes at once; where it calls tools, `results` are what they say."""

    reply: str
    thought: str
    results: tuple[str, ...] = ()


@dataclass
class Turn:
    """A question and the steps to its reply: one, or a call of tools and what follows it."""

    user: str
    steps: tuple[Step, ...]
    cut_share: float = 0.06  # how often its thought is cut, where it is the last turn

    @classmethod
    def simple(cls, user: str, reply: str, thought: str, cut_share: float = 0.06) -> Turn:
        """A question with one reply."""
        return cls(user, (Step(reply, thought),), cut_share)


@dataclass
class Conversation:
    """Turns and the way in which the model is asked to think about the last of them."""

    turns: list[Turn]
    system: str | None = None
    tools: tuple[str, ...] = ()
    thinking: bool = True  # enable_thinking of the template
    writes_thought: bool = True  # False when the switch is off, hard or soft
    kept: float | None = None  # this share of the last thought is there, as under a budget
    returned: bool = True  # the thoughts before tool results are sent back with them
    closed: bool = False  # the schemas of the tools allow no other arguments

    def messages(self) -> list[dict[str, Any]]:
        """For the template; the thoughts of the last turn are in them."""
        said = [{"role": "system", "content": self.system}] if self.system is not None else []
        for turn in self.turns:
            said.append({"role": "user", "content": turn.user})
            for step in turn.steps:
                reply = {"role": "assistant", "content": step.reply}
                last = turn is self.turns[-1] and (self.returned or step is turn.steps[-1])
                if last and self.writes_thought:
                    reply["reasoning_content"] = step.thought
                said.append(reply)
                said += [{"role": "tool", "content": result} for result in step.results]
        while said[-1]["role"] == "tool":
            said.pop()
        return said


@dataclass(frozen=True)
class Segment:
    """A piece of the rendered text; `learn` says whether its tokens count in the loss."""

    text: str
    learn: bool = False
    skip_first: bool = False  # not its first token: in history no thought stands before a reply
    kept: float | None = None  # only this share of its tokens is there: a thought that was cut


@lru_cache(maxsize=1)
def _template() -> Template:
    path = Path(__file__).with_name("chat_template.jinja")
    return compile_template(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=512)
def opening(system: str | None, tools: tuple[str, ...], closed: bool = False) -> str:
    """The system turn, by the template itself, which describes the tools in it."""
    if system is None and not tools:
        return ""
    messages = [{"role": "system", "content": system}] if system is not None else []
    rendered = _template().render(
        messages=[*messages, {"role": "user", "content": ""}],
        tools=schemas(tools, closed),
    )
    return str(rendered).removesuffix("<|im_start|>user\n<|im_end|>\n")


def segments(conversation: Conversation) -> list[Segment]:
    """The conversation in the chat format; earlier thoughts are left out, as in the template."""
    parts = [Segment(opening(conversation.system, conversation.tools, conversation.closed))]
    for turn in conversation.turns[:-1]:
        parts.append(_asked(turn))
        for step in turn.steps:
            parts += [*_without_thought(step), *_results(step)]
    last = conversation.turns[-1]
    parts.append(_asked(last))
    for step in last.steps[:-1]:
        if conversation.writes_thought and conversation.returned:
            parts += [Segment(REPLIER), Segment(_whole(step), learn=True), Segment("\n")]
        else:
            parts += _without_thought(step)
        parts += _results(step)
    return [part for part in [*parts, *_last_reply(conversation)] if part.text]


def _asked(turn: Turn) -> Segment:
    return Segment(f"<|im_start|>user\n{turn.user}<|im_end|>\n")


def _without_thought(step: Step) -> list[Segment]:
    learnt = Segment(f"{step.reply}<|im_end|>", learn=True, skip_first=True)
    return [Segment(REPLIER), learnt, Segment("\n")]


def _results(step: Step) -> list[Segment]:
    if not step.results:
        return []
    wrapped = "".join(f"\n<tool_response>\n{said}\n</tool_response>" for said in step.results)
    return [Segment(f"<|im_start|>user{wrapped}<|im_end|>\n")]


def _whole(step: Step) -> str:
    return f"<think>\n{step.thought}\n</think>\n\n{step.reply}<|im_end|>"


def _last_reply(conversation: Conversation) -> list[Segment]:
    """Thought and answer of the last step: what the model has to write itself, it learns."""
    step = conversation.turns[-1].steps[-1]
    answer = Segment(f"{step.reply}<|im_end|>", learn=True)
    if not conversation.writes_thought:
        return [Segment(REPLIER), Segment(EMPTY_THOUGHT, learn=conversation.thinking), answer]
    if conversation.kept is None:
        return [Segment(REPLIER), Segment(_whole(step), learn=True)]
    cut = Segment(f"{step.thought}\n", kept=conversation.kept)
    return [Segment(REPLIER), Segment("<think>\n"), cut, Segment(BUDGET_SPENT), answer]
