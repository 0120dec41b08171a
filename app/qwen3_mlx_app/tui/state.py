"""What a chat is, apart from how it is drawn: turns fed by events, one after the other.

Nothing here knows of Textual, threads or models, so every rule of the conversation can be
tested by feeding events and looking at the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias, get_args

from qwen3_mlx.events import (
    Done,
    Event,
    Failed,
    FinishReason,
    Loading,
    Notice,
    Prefill,
    Reply,
    StepDone,
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    ThoughtEnd,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolResult,
)
from qwen3_mlx.interface import Message, ModelInfo
from qwen3_mlx_app.tui import calls
from qwen3_mlx_app.tui.calls import Steps, ToolAsked, ToolUse
from qwen3_mlx_app.tui.tree import Tree

__all__ = [
    "CUT_OFF",
    "VIEWS",
    "ChatState",
    "LoadFailed",
    "Loaded",
    "Phase",
    "Turn",
    "Update",
    "View",
]

#: What is seen of thoughts. "fold" shows the last lines while they come and folds when the
#: thought is over, "open" shows all of it, "line" never shows more than the one line.
View: TypeAlias = Literal["fold", "open", "line"]
VIEWS: tuple[View, ...] = get_args(View)


#: What a model is told when it shall go on after a stop.
GO_ON = "Go on exactly where you stopped. Repeat nothing and say nothing about the break."
#: Between what was said before a call and after it.
BREAK = "\n\n"
#: Ends of an answer that might have gone on; "interrupted" is one that a crash cut off.
CUT_OFF = ("cancelled", "timeout", "length", "interrupted")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is there."""

    info: ModelInfo


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded."""

    error: Exception


Update: TypeAlias = Event | Loaded | LoadFailed | ToolAsked


class Phase(StrEnum):
    """Where a turn stands; the last two are final."""

    WAITING = "waiting"
    READING = "reading"
    THINKING = "thinking"
    ANSWERING = "answering"
    CALLING = "calling"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Turn:
    """One question and what came of it. Times are readings of the same clock as `now`.

    `saved` is its number in the database, 0 while it has none, and `kept` whether its end is
    there too. `budget` is the most tokens its thought may have; `continued` marks an answer that
    goes on after a stop, `unloaded` one for which no model could be loaded. `kept_tokens`,
    `kept_thought_tokens` and `kept_seconds` are what there was before the stop, or before the
    last calls: the engine counts from there.
    """

    number: int
    user: str
    thinks: bool
    phase: Phase = Phase.WAITING
    thought: str = ""
    thought_tokens: int = 0
    thought_seconds: float = 0.0
    answer: str = ""
    answer_tokens: int = 0
    prompt_done: int = 0
    prompt_total: int = 0
    notices: list[str] = field(default_factory=list)
    tools: list[ToolUse] = field(default_factory=list)
    steps: Steps = field(default_factory=Steps)
    finish: FinishReason | Literal["interrupted"] | None = None
    reply: Reply | None = None
    error: Exception | None = None
    started: float = 0.0
    first_token: float | None = None
    thought_started: float | None = None
    parent: Turn | None = field(default=None, repr=False)
    saved: int = 0
    kept: bool = False
    budget: int | None = None
    ended_by: ThoughtEnd = ""
    continued: bool = False
    unloaded: bool = False
    kept_tokens: int = 0
    kept_thought_tokens: int = 0
    kept_seconds: float = 0.0

    @property
    def running(self) -> bool:
        """True until the end came, good or bad."""
        return self.phase not in (Phase.DONE, Phase.FAILED)

    @property
    def stopped(self) -> bool:
        """True for an answer that the person (or the clock) cut short."""
        return self.finish in ("cancelled", "timeout")

    @property
    def asking(self) -> ToolUse | None:
        """The call that waits for the person to allow it."""
        return next((use for use in self.tools if use.asks), None) if self.running else None

    @property
    def can_continue(self) -> bool:
        """Whether there is an answer that was cut off before its end."""
        cut = self.error is not None or self.finish in CUT_OFF
        return bool(self.answer) and cut

    def thinking_for(self, now: float) -> float:
        """Seconds of thought: live while it thinks, the final figure afterwards."""
        if self.phase is Phase.THINKING and self.thought_started is not None:
            return self.kept_seconds + max(0.0, now - self.thought_started)
        return self.thought_seconds

    def rate(self, now: float) -> float:
        """Tokens per second, the engine's figure once there is one; 0.0 while unknown."""
        if self.reply is not None:
            return self.reply.timing.decode_tokens_per_second
        elapsed = now - self.first_token if self.first_token is not None else 0.0
        kept = self.kept_tokens + self.kept_thought_tokens
        said = self.thought_tokens + self.answer_tokens - kept
        # The first half second says more about the clock than about the model.
        return said / elapsed if elapsed > 0.5 else 0.0


@dataclass(slots=True)
class ChatState:
    """The whole chat. `apply` is the only road by which the model changes it."""

    thinking: bool = True
    view: View = "fold"
    system: str | None = None
    budget: int | None = None
    tree: Tree = field(default_factory=Tree)
    queued: str | None = None
    queued_thinks: bool | None = None
    info: ModelInfo | None = None
    loading: Loading | None = None
    load_error: Exception | None = None
    numbers: int = 0
    tools: int = 0

    @property
    def turns(self) -> list[Turn]:
        """The turns on show: one line through the tree."""
        return self.tree.line

    @property
    def current(self) -> Turn | None:
        """The turn that is being answered."""
        last = self.turns[-1] if self.turns else None
        return last if last is not None and last.running else None

    @property
    def generating(self) -> bool:
        """True while an answer is awaited or coming."""
        return self.current is not None

    @property
    def busy(self) -> bool:
        """True while something on the screen moves by itself."""
        return self.generating or self.loading is not None

    @property
    def context_used(self) -> int:
        """Tokens of the context that the last turn took, or takes so far."""
        for turn in reversed(self.turns):
            if turn.reply is not None:
                usage = turn.reply.usage
                return usage.prompt_tokens + usage.thinking_tokens + usage.answer_tokens
            if turn.prompt_total:
                return turn.prompt_total + turn.thought_tokens + turn.answer_tokens
        return 0

    @property
    def last_answer(self) -> str:
        """The newest answer that says something, for the clipboard."""
        return next((turn.answer for turn in reversed(self.turns) if turn.answer), "")

    def start(self, user: str, now: float, thinks: bool | None = None) -> Turn:
        """Open a turn. Only when none is running: queue the message otherwise."""
        assert not self.generating
        self.numbers += 1
        thinks = self.thinking if thinks is None else thinks
        turn = Turn(self.numbers, user, thinks, started=now, budget=self.budget)
        self.tree.add(turn)
        return turn

    def restart(self, now: float, turn: Turn | None = None, text: str | None = None) -> Turn | None:
        """Ask a question of the line anew, or another in its place; the last one by default.

        The turn that was there stays as a sibling. None while an answer comes, or without turns.
        """
        if not self.turns or self.generating:
            return None
        old = turn or self.turns[-1]
        self.tree.cut(old)
        return self.start(old.user if text is None else text, now)

    def resume(self, now: float) -> Turn | None:
        """Make the last turn run again, to go on from where its answer was cut off."""
        turn = self.turns[-1] if self.turns else None
        if turn is None or turn.running or not turn.can_continue:
            return None
        self.numbers += 1
        turn.number, turn.phase, turn.continued = self.numbers, Phase.WAITING, True
        turn.finish = turn.reply = turn.error = turn.first_token = None
        turn.started, turn.kept_tokens = now, turn.answer_tokens
        turn.kept = turn.unloaded = False
        return turn

    def clear(self) -> None:
        """An empty chat with the same model and settings."""
        self.tree.clear()
        self.queued = self.queued_thinks = None

    def next_view(self) -> View:
        """Go one step round fold, open, line."""
        self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]
        return self.view

    def history(self, before_answer: bool = False) -> list[Message]:
        """The conversation as the model gets it, or as it got it for the last answer.

        Everything that the person said stays; an answer that is empty is left out, since an
        empty assistant turn teaches the model to be silent.
        """
        messages: list[Message] = []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.user})
            messages += turn.steps.messages
            answer = turn.answer[turn.steps.answer_from :]
            if answer and not (before_answer and turn is self.turns[-1]):
                message = {"role": "assistant", "content": answer}
                if thought := turn.thought[turn.steps.thought_from :]:
                    message["reasoning_content"] = thought
                messages.append(message)
        if (current := self.current) is not None and current.continued:
            messages.append({"role": "user", "content": GO_ON})
        return messages

    def apply(self, event: Update, now: float) -> None:
        """Take in one event. What belongs to no running turn is dropped."""
        match event:
            case Loading():
                self.loading = event
            case Loaded(info):
                self._loaded(info)
            case LoadFailed(error):
                self.loading, self.load_error = None, error
                self._end(error)
            case _:
                if (turn := self.current) is not None:
                    _advance(turn, event, now)

    def _loaded(self, info: ModelInfo) -> None:
        """A model that cannot switch has the last word about the mode."""
        self.loading, self.load_error, self.info = None, None, info
        if not info.can_think:
            self.thinking = False
        elif not info.can_switch_thinking:
            self.thinking = True

    def _end(self, error: Exception) -> None:
        """No model, no answer: the message that waited for it says so."""
        if (turn := self.current) is not None:
            turn.phase, turn.error, turn.unloaded = Phase.FAILED, error, True


def _advance(turn: Turn, event: Event | ToolAsked, now: float) -> None:
    """One event of a running generation."""
    match event:
        case Prefill(done, total):
            turn.prompt_done, turn.prompt_total = done, total
            if turn.phase in (Phase.WAITING, Phase.CALLING):
                turn.phase = Phase.READING
        case ThinkingDelta(text, tokens):
            _first_token(turn, now)
            if turn.thought_started is None:
                turn.thought_started = now
            turn.phase = Phase.THINKING
            if turn.thought and len(turn.thought) == turn.steps.thought_from:
                turn.thought += BREAK
                turn.steps.thought_from += len(BREAK)
            turn.thought += text
            turn.thought_tokens = turn.kept_thought_tokens + tokens
        case ThinkingDone(tokens, seconds, ended_by):
            turn.thought_tokens = turn.kept_thought_tokens + tokens
            turn.thought_seconds = turn.kept_seconds + seconds
            turn.ended_by = ended_by
            turn.phase = Phase.ANSWERING
        case TextDelta(text, tokens):
            _first_token(turn, now)
            _close_thought(turn, now)
            turn.phase = Phase.ANSWERING
            if turn.answer and len(turn.answer) == turn.steps.answer_from:
                turn.answer += BREAK
                turn.steps.answer_from += len(BREAK)
            turn.answer += text
            turn.answer_tokens = turn.kept_tokens + tokens
        case ToolCallStarted() | ToolCallDelta() | ToolCall() | ToolAsked() | ToolResult():
            calls.advance(turn, event)
        case StepDone(reply):
            _close_thought(turn, now)
            _end_step(turn, reply)
        case Notice(text):
            turn.notices.append(text)
        case Done(reply):
            _finish(turn, reply, now)
        case Failed(error, kept):
            _close_thought(turn, now)
            turn.answer = turn.answer or kept
            calls.settle(turn)
            turn.phase, turn.error = Phase.FAILED, error
        case _:
            pass


def _first_token(turn: Turn, now: float) -> None:
    if turn.first_token is None:
        turn.first_token = now


def _close_thought(turn: Turn, now: float) -> None:
    """A thought that was cut off gets its time too."""
    if turn.phase is Phase.THINKING:
        turn.thought_seconds = turn.thinking_for(now)


def _end_step(turn: Turn, reply: Reply) -> None:
    """Calls were made: the engine counts from nothing when the model reads their results."""
    calls.end_step(turn)
    if reply.usage.answer_tokens:  # the calls are part of it, and no text
        turn.answer_tokens = turn.kept_tokens + reply.usage.answer_tokens
    turn.phase, turn.first_token, turn.thought_started = Phase.CALLING, None, None
    turn.kept_tokens, turn.kept_thought_tokens = turn.answer_tokens, turn.thought_tokens
    turn.kept_seconds = turn.thought_seconds


def _finish(turn: Turn, reply: Reply, now: float) -> None:
    _close_thought(turn, now)
    turn.phase, turn.finish, turn.reply = Phase.DONE, reply.finish_reason, reply
    # A listener that came late, or an engine that sends no deltas, still shows the whole.
    turn.answer = turn.answer or reply.text
    turn.thought = turn.thought or reply.thinking
    calls.settle(turn)
    if reply.usage.thinking_tokens:
        turn.thought_tokens = turn.kept_thought_tokens + reply.usage.thinking_tokens
    if reply.usage.answer_tokens:
        turn.answer_tokens = turn.kept_tokens + reply.usage.answer_tokens
    turn.ended_by = turn.ended_by or reply.thought_ended_by
