"""What a generation tells its listener, as small frozen values.

A front end drains these and holds no other connection to the engine. A generation sends
any number of `Prefill`, `ThinkingDelta`, `ThinkingDone`, `TextDelta`, `Notice`, and the events
of tool calls, and then exactly one `Done` or `Failed`.

>>> from qwen3_mlx.testing import FakeModel
>>> def words(event: Event) -> str:
...     return event.text if isinstance(event, TextDelta) else ""
>>> "".join(map(words, FakeModel(["It is 4."]).stream("2 + 2?")))
'It is 4.'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from qwen3_mlx.statistics import ExpertStats

__all__ = [
    "Done",
    "Event",
    "Failed",
    "FinishReason",
    "Loading",
    "Notice",
    "Prefill",
    "Reply",
    "StepDone",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingDone",
    "ThoughtEnd",
    "Timing",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallStarted",
    "ToolResult",
    "Usage",
]

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "timeout", "repetition"]

#: Who ended the thought: the model itself, the thinking budget, "answer now", the loop guard,
#: a context that was nearly full, or max_tokens ("length") of which the answer needs the rest.
#: "" if there was no thought, or it never ended.
ThoughtEnd: TypeAlias = Literal["model", "budget", "user", "loop", "context", "length", ""]


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens.

    `thinking_tokens` are the ones sampled inside the thought, `forced_tokens` the ones that
    were put into the text to end it, and are in no other count. `cached_tokens` of the prompt
    were known from earlier texts and not read again. `guessed_tokens` of the thought and the
    answer came in one pass with the token before them.

    >>> Usage(prompt_tokens=30, answer_tokens=5).answer_tokens
    5
    """

    prompt_tokens: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0
    forced_tokens: int = 0
    cached_tokens: int = 0
    guessed_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds and rates; `ttft_seconds` is the time from the call to the first token.

    >>> Timing(ttft_seconds=0.2, decode_tokens_per_second=80.0).ttft_seconds
    0.2
    """

    load_seconds: float = 0.0
    ttft_seconds: float = 0.0
    prefill_tokens_per_second: float = 0.0
    decode_tokens_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A drawn token: its id, its text alone, its log-probability, and the likeliest tokens.

    `top` holds (id, text, log-probability), likeliest first. All are of the model's own
    distribution, before temperature, top-k, penalties and whatever else shapes the draw.

    >>> TokenLogprob(17, "42", -0.1, top=((17, "42", -0.1), (9, "41", -3.2))).top[0][1]
    '42'
    """

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a function called, with these arguments; as an event, the call is whole.

    >>> ToolCall("call_1", "add", {"a": 2, "b": 3}).arguments["b"]
    3
    """

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A call begins; `index` counts the calls of the answer from 0.

    >>> ToolCallStarted(0, "add").name
    'add'
    """

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a call's arguments, as JSON.

    >>> "".join(delta.text for delta in (ToolCallDelta(0, '{"a": '), ToolCallDelta(0, "2}")))
    '{"a": 2}'
    """

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call: what the model is told, and whether it is an error.

    >>> ToolResult(ToolCall("call_1", "add", {"a": 2, "b": 3}), "5").content
    '5'
    """

    call: ToolCall
    content: str
    failed: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer.

    `text` is the answer without its thought, `thinking` the thought without its tags.
    `finish_reason` is "stop" (the model or a stop string ended it), "length" (max_tokens
    or the context is used up), "cancelled", "timeout" or "repetition" (the answer went round
    in circles); the text so far is kept in each. `notices` are the texts of all `Notice`s.
    `experts` says what was read from disk, where experts are (a memory limit was set).
    `logprobs` has an entry for each token that was drawn, thought and tags included, where
    they were asked for; tokens that were forced into the text have none. `fits` is whether the
    answer is whole and keeps to its grammar, None where it had none to keep to. `tool_calls`
    are the functions that the model wants called.

    >>> from qwen3_mlx.testing import Answer, FakeModel
    >>> reply = FakeModel([Answer("It is 4.", thinking="2 and 2")]).ask("2 + 2?")
    >>> reply.text, reply.thinking, reply.finish_reason
    ('It is 4.', '2 and 2', 'stop')
    """

    text: str
    thinking: str = ""
    finish_reason: FinishReason = "stop"
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    timing: Timing = field(default_factory=Timing)
    peak_bytes: int = 0
    thought_ended_by: ThoughtEnd = ""
    notices: tuple[str, ...] = ()
    experts: ExpertStats | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    fits: bool | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Loading:
    """A model is being read: bytes so far and in all.

    >>> from qwen3_mlx import load
    >>> seen: list[Loading] = []
    >>> load("tiny", progress=seen.append).close()
    >>> seen[-1].done == seen[-1].total > 0
    True
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """The prompt is being read: tokens so far and in all.

    >>> Prefill(512, 2048).done
    512
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """The next piece of the thought; `tokens` is how many the thought has so far.

    >>> ThinkingDelta("Let me see", tokens=3).text
    'Let me see'
    """

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class ThinkingDone:
    """The thought is over; what follows is the answer. `ended_by` says whose doing it was.

    >>> ThinkingDone(tokens=120, seconds=1.5, ended_by="budget").ended_by
    'budget'
    """

    tokens: int
    seconds: float
    ended_by: ThoughtEnd = "model"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; `tokens` is how many the answer has so far.

    >>> from qwen3_mlx.testing import FakeModel
    >>> [e.text for e in FakeModel(["It is 4."]).stream("2 + 2?") if isinstance(e, TextDelta)]
    ['It', ' is', ' 4.']
    """

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the person should know: a switch that cannot work, a setting that was changed.

    >>> Notice("this model never thinks: thinking=True changes nothing").text
    'this model never thinks: thinking=True changes nothing'
    """

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a generation, also of one that was cancelled or ran out of time.

    >>> from qwen3_mlx.testing import FakeModel
    >>> [*FakeModel(["It is 4."]).stream("2 + 2?")][-1].reply.text
    'It is 4.'
    """

    reply: Reply


@dataclass(frozen=True, slots=True)
class StepDone:
    """One answer of a tool run that goes on: it made calls, whose results follow.

    >>> StepDone(Reply("", tool_calls=(ToolCall("call_1", "clock", {}),))).reply.tool_calls[0].name
    'clock'
    """

    reply: Reply


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a generation that met a fault; `kept` is the text that had been said.

    >>> Failed(OSError("the disk is gone"), kept="It is").kept
    'It is'
    """

    error: Exception
    kept: str = ""


Event: TypeAlias = (
    Loading
    | Prefill
    | ThinkingDelta
    | ThinkingDone
    | TextDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCall
    | ToolResult
    | StepDone
    | Notice
    | Done
    | Failed
)
