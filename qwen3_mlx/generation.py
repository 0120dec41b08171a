"""A running answer: token ids from the engine become thought, text and events.

The engine calls the listener on its own thread. It decodes, separates the thought and ends it
where a limit is met, looks for stop strings, and puts events into a queue, from where any thread
reads them (`reading.py`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from qwen3_mlx.engine.request import Directive, Force, Request, RequestStats, Stop
from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import (
    Done,
    Failed,
    FinishReason,
    Notice,
    Prefill,
    Reply,
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    ThoughtEnd,
    ToolCall,
    Usage,
)
from qwen3_mlx.measures import timing, token_logprobs
from qwen3_mlx.reading import Reading
from qwen3_mlx.statistics import ExpertStats
from qwen3_mlx.steering import Limits, Steering
from qwen3_mlx.text.calls import TAGS, CallParser, Piece
from qwen3_mlx.text.loops import LoopGuard
from qwen3_mlx.text.stops import StopScanner
from qwen3_mlx.text.thinking import Segment, ThinkingParser
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["TextGeneration"]

# A thought may be ended early at little cost. An answer may be repetitive because somebody
# asked for it ("write it a hundred times"), so it must go on for longer.
_STALE_THOUGHT, _STALE_ANSWER = 256, 1024
_ANSWER_SHARE = 4


class TextGeneration(Reading):
    """One answer, both ends of it.

    Args:
        model: the name to put into the reply.
        prompt_tokens: length of the prompt.
        tokenizer: makes text of the ids.
        parser: tells thought from answer; None takes everything as answer.
        limits: when the thought ends, if the model does not end it.
        stop: strings that end the answer; they and what follows are not part of it.
        notices: what the person should know before the answer begins.
        load_seconds: how long the model took to load, for the reply's timing.
        experts: tells what streaming did since the answer began, None where nothing streams.
        closed: ids with which the prompt itself ends the thought (a budget of 0).
        steering: what may be drawn; by default anything.
        calls: finds tool calls in the answer; None where there are no tools.
        remember: told the ids of the calls and the thought that led to them.

    >>> from qwen3_mlx import load
    >>> with load("tiny") as model:
    ...     generation = model.stream("What is 12 + 30?", thinking=False, seed=1)
    ...     events = [type(event).__name__ for event in generation]
    >>> events[0], events[-1]
    ('Prefill', 'Done')
    """

    def __init__(
        self,
        model: str,
        prompt_tokens: int,
        tokenizer: Tokenizer,
        parser: ThinkingParser | None,
        limits: Limits | None = None,
        *,
        stop: Sequence[str] = (),
        notices: Sequence[str] = (),
        load_seconds: float = 0.0,
        experts: Callable[[], ExpertStats | None] = lambda: None,
        closed: int = 0,
        steering: Steering | None = None,
        calls: CallParser | None = None,
        remember: Callable[[Sequence[str], str], None] = lambda call_ids, thought: None,
    ) -> None:
        super().__init__()
        self._model, self._prompt_tokens, self._load_seconds = model, prompt_tokens, load_seconds
        self._experts, self._remember = experts, remember
        self._tokenizer = tokenizer
        self._decoder = tokenizer.stream(keep=() if calls is None else TAGS)
        self._parser, self._stops, self._limits = parser, StopScanner(stop), limits or Limits()
        self._minimum, self._answer_now = self._limits.minimum, False
        self._guards = LoopGuard(_STALE_THOUGHT), LoopGuard(_STALE_ANSWER)
        self._last: deque[int] = deque(maxlen=4)
        self._thought: list[str] = []
        self._answer: list[str] = []
        self._thinking_tokens = self._answer_tokens = 0
        self._closed = closed
        self._thought_ended_by: ThoughtEnd = "budget" if closed else ""
        self._thought_began = 0.0
        self._calls, self._made = calls, list[ToolCall]()
        self._notices: list[str] = []
        self._steering = steering or Steering.free(tokenizer)
        self.request: Request | None = None
        self._owner: object = None
        for notice in notices:
            self._notice(notice)

    def attach(self, request: Request, owner: object = None) -> None:
        """Listen to this request; before it is submitted.

        Until the end it holds its owner, the model: one that nobody else held would be closed.
        """
        self.request, self._owner = request, owner
        request.mask = self._steering
        self._set_ban()

    # For whoever reads, on any thread.

    def cancel(self) -> None:
        """End within one token; what was said is kept and comes with `Done`.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     generation = model.stream("Count.", min_thinking=1000, loop_guard=False)
        ...     generation.cancel()
        ...     print(generation.result().finish_reason)
        cancelled
        """
        if self.request is not None:
            self.request.cancelled = True

    def answer_now(self) -> None:
        """End the thought within one token, and answer from what has been thought.

        A thought that has not begun yet ends as it begins; in an answer nothing happens.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     generation = model.stream("2 + 2?", min_thinking=1000, loop_guard=False, seed=1)
        ...     generation.answer_now()
        ...     print(generation.result().thought_ended_by)
        user
        """
        self._answer_now = True

    def think_more(self, minimum: int) -> None:
        """Do not let the model end its thought before it has this many tokens in all.

        Raises:
            OptionError: the thought of this answer has no such token as `</think>`.

        >>> from qwen3_mlx import load
        >>> with load("tiny") as model:
        ...     generation = model.stream("2 + 2?", min_thinking=10, max_tokens=400, seed=1)
        ...     generation.think_more(20)
        ...     print(generation.result().usage.thinking_tokens >= 10)
        True
        """
        if self._parser is None or self._tokenizer.think_close_id is None:
            raise OptionError("this answer has no thought that could be held open")
        self._minimum = minimum

    # For the engine, on its thread.

    def prefill(self, done: int, total: int) -> None:
        self._events.put(Prefill(done, total))

    def token(self, token: int) -> Directive:
        self._last.append(token)
        if self._steering.guides_all(token):
            return self._guided(token)
        self._steering.hear(token)
        text = self._decoder.push(token)
        if self._parser is None:
            self._answer_tokens += 1
            self._say([Segment("text", text)])
        else:
            self._read(self._parser, token, text)
            if self._parser.inside:
                return self._end_thought(token)
        if self._stops.stopped:
            return Stop()
        return Stop("repetition") if self._goes_round(token, 1) else None

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        try:
            event: Done | Failed = self._close(reason, stats)
        except Exception as error:  # who waits is told in any case
            event = Failed(error, kept="".join(self._answer))
        self._end(event)

    def _close(self, reason: FinishReason, stats: RequestStats) -> Done:
        tail = self._decoder.flush()
        if self._parser is None:
            self._say([Segment("text", tail)])
        else:
            self._say([*self._parser.feed(None, tail), *self._parser.finish()])
        if self._calls is not None:
            self._tell_pieces(self._calls.finish())
        self._tell_answer(self._stops.flush())
        return Done(self._reply(reason, stats))

    def failed(self, error: Exception) -> None:
        self._end(Failed(error, kept="".join(self._answer)))

    def _end(self, event: Done | Failed) -> None:
        self._owner = None  # before the end is known, so that it is gone by then
        self._events.put(event)
        self._finish()

    def _guided(self, token: int) -> Directive:
        """The next token of an answer that keeps to a grammar; none of it is trimmed."""
        steering, request = self._steering, self.request
        guide = steering.guide
        assert guide is not None
        assert request is not None
        if steering.gap:
            steering.gap.pop(0)
            return None
        ending = guide.take(token, request.left)
        if guide.error is not None:
            raise guide.error
        if ending is not None:
            return self._write_ending(ending, "length")
        self._answer_tokens += 1
        self._tell_answer(self._decoder.push(token))
        if guide.done:
            return Stop()
        if self._goes_round(token, 1) and (ending := guide.end()) is not None:
            return self._write_ending(ending, "repetition")
        return None

    def _write_ending(self, ending: bytes, reason: FinishReason) -> Directive:
        """End a guided answer with text that the model has not drawn."""
        why = (
            "max_tokens was nearly reached" if reason == "length" else "the answer went in circles"
        )
        self._tell_answer(self._decoder.push_bytes(ending))
        self._notice(f"{why}: it was brought to a short end that fits its grammar")
        return Stop(reason)

    def _notice(self, text: str) -> None:
        self._notices.append(text)
        self._events.put(Notice(text))

    def _read(self, parser: ThinkingParser, token: int, text: str) -> None:
        """Tell thought from answer, count, and pass on."""
        was_inside = parser.inside
        segments = parser.feed(token, text)
        inside = parser.inside
        if (inside or was_inside) and not self._thought_began:
            self._thought_began = time.perf_counter()
        if inside and was_inside:
            self._thinking_tokens += 1
        elif not inside and not was_inside:
            self._answer_tokens += 1
        self._say(segments)
        if was_inside and not inside:
            self._close_thought("model")
            self._steering.part(self._tokenizer)
        self._set_ban()

    def _end_thought(self, token: int) -> Directive:
        """In a thought: whether it must end here, and how."""
        why = self._why_end(token)
        early_stop = self._limits.early_stop
        if not why or early_stop is None or self._parser is None or self.request is None:
            return None
        ids, cut = early_stop.after(list(self._last), self._decoder.held_bytes)
        if not self.request.fits(len(ids), cut):
            return Stop("length")
        if cut:
            self._decoder.drop()
        else:  # broken bytes, if there are any, become U+FFFD
            self._say(self._parser.feed(None, self._decoder.flush()))
        self._thinking_tokens -= cut
        self._say(self._parser.close())
        self._close_thought(why)
        self._set_ban()
        return Force(ids, cut)

    def _why_end(self, token: int) -> ThoughtEnd:
        loops = self._goes_round(token, 0)
        if self._answer_now:
            return "user"
        if self._limits.budget is not None and self._thinking_tokens >= self._limits.budget:
            return "budget"
        if loops:
            return "loop"
        pressed = self.request is not None and self.request.left <= self._steering.reserve
        return "context" if pressed else self._needed_by_the_answer()

    def _needed_by_the_answer(self) -> ThoughtEnd:
        """What has no more than the answer needs: the context or max_tokens."""
        request, early_stop = self.request, self._limits.early_stop
        if request is None or request.room is None or early_stop is None:
            return ""
        if request.room - len(request.said) <= len(early_stop) + self._limits.answer_room:
            return "context"
        asked = self._limits.asked_tokens
        if asked is None or self._thinking_tokens < self._minimum:
            return ""
        kept = min(self._limits.answer_room, asked // _ANSWER_SHARE)
        return "length" if 0 < request.max_tokens - request.stats.tokens <= kept else ""

    def _goes_round(self, token: int, which: int) -> bool:
        if not self._limits.loop_guard:
            return False
        self._guards[which].push(token)
        return self._guards[which].looping

    def _set_ban(self) -> None:
        """Forbid the end of a thought that is too short, and tags where no thought can be."""
        parser, tokenizer = self._parser, self._tokenizer
        if parser is None or self.request is None:
            return
        banned: set[int | None] = set()
        self._steering.holds = not parser.closed and self._thinking_tokens < self._minimum
        if not parser.closed:
            if self._steering.holds:
                banned = {tokenizer.think_close_id, *self.request.eos}
            elif self._steering.needs_answer:
                banned = {*self.request.eos}
        elif self._thought_ended_by not in ("", "model"):
            # A model that was interrupted may want to end its thought once more.
            banned = {tokenizer.think_open_id, tokenizer.think_close_id}
        self._steering.ban.ids = frozenset(each for each in banned if each is not None)

    def _say(self, segments: Sequence[Segment]) -> None:
        for kind, text in segments:
            if kind == "text":
                self._tell_pieces([text] if self._calls is None else self._calls.push(text))
            elif text:
                self._thought.append(text)
                self._events.put(ThinkingDelta(text, self._thinking_tokens))

    def _tell_pieces(self, pieces: Iterable[Piece]) -> None:
        """Text, and the calls that were found in it."""
        for piece in pieces:
            if isinstance(piece, str):
                self._tell_answer(self._stops.push(piece))
            elif isinstance(piece, Notice):
                self._notice(piece.text)
            else:
                if isinstance(piece, ToolCall):
                    self._made.append(piece)
                self._events.put(piece)

    def _tell_answer(self, text: str) -> None:
        if text:
            self._answer.append(text)
            self._events.put(TextDelta(text, self._answer_tokens))

    def _close_thought(self, why: ThoughtEnd) -> None:
        self._thought_ended_by = why
        if self._thought:
            seconds = time.perf_counter() - self._thought_began
            self._events.put(ThinkingDone(self._thinking_tokens, seconds, why))

    def _reply(self, reason: FinishReason, stats: RequestStats) -> Reply:
        self._remember([call.id for call in self._made], "".join(self._thought))
        return Reply(
            text="".join(self._answer),
            thinking="".join(self._thought),
            finish_reason=reason,
            model=self._model,
            usage=Usage(
                prompt_tokens=self._prompt_tokens,
                thinking_tokens=self._thinking_tokens,
                answer_tokens=self._answer_tokens,
                forced_tokens=stats.forced + self._closed,
                cached_tokens=min(stats.cached, self._prompt_tokens),
                guessed_tokens=stats.guessed,
            ),
            timing=timing(self._load_seconds, self._prompt_tokens + self._closed, stats),
            peak_bytes=stats.peak_bytes,
            thought_ended_by=self._thought_ended_by,
            notices=tuple(self._notices),
            experts=self._experts(),
            fits=self._steering.fits(reason),
            tool_calls=tuple(self._made),
            logprobs=token_logprobs(self.request, self._tokenizer),
        )
