"""A running answer: token ids from the engine become thought, text and events.

The engine calls the listener half on its own thread. It decodes, separates the thought,
looks for stop strings, and puts events into a queue; the other half, on any thread, reads
them from there.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence

from qwen3_mlx.engine.request import Request, RequestStats
from qwen3_mlx.events import (
    Done,
    Event,
    Failed,
    FinishReason,
    Notice,
    Prefill,
    Reply,
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    Timing,
    Usage,
)
from qwen3_mlx.text.stops import StopScanner
from qwen3_mlx.text.thinking import Segment, ThinkingParser
from qwen3_mlx.text.tokenizer import StreamDecoder

__all__ = ["TextGeneration"]


class TextGeneration:
    """One answer, both ends of it.

    Args:
        model: the name to put into the reply.
        prompt_tokens: length of the prompt.
        decoder: makes text of the ids.
        parser: tells thought from answer; None takes everything as answer.
        stop: strings that end the answer; they and what follows are not part of it.
        notices: what the person should know before the answer begins.
        load_seconds: how long the model took to load, for the reply's timing.
    """

    def __init__(
        self,
        model: str,
        prompt_tokens: int,
        decoder: StreamDecoder,
        parser: ThinkingParser | None,
        *,
        stop: Sequence[str] = (),
        notices: Sequence[str] = (),
        load_seconds: float = 0.0,
    ) -> None:
        self._model, self._prompt_tokens, self._load_seconds = model, prompt_tokens, load_seconds
        self._decoder, self._parser, self._stops = decoder, parser, StopScanner(stop)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._thought: list[str] = []
        self._answer: list[str] = []
        self._thinking_tokens = self._answer_tokens = 0
        self._thought_began = 0.0
        self._ended: Done | Failed | None = None
        self.request: Request | None = None
        for notice in notices:
            self._events.put(Notice(notice))

    # The reading half, on any thread.

    def __iter__(self) -> Iterator[Event]:
        try:
            while self._ended is None:
                event = self._events.get()
                if isinstance(event, (Done, Failed)):
                    self._ended = event
                yield event
        finally:  # Whoever stops listening does not want the rest to be computed.
            if self._ended is None:
                self.cancel()

    def cancel(self) -> None:
        """End within one token; what was said is kept and comes with `Done`."""
        if self.request is not None:
            self.request.cancelled = True

    def result(self) -> Reply:
        """Run to the end and return the reply.

        Raises:
            EngineError: the engine met a fault, or whatever else a `Failed` event carries.
        """
        for _ in self:
            pass
        assert self._ended is not None
        if isinstance(self._ended, Failed):
            raise self._ended.error
        return self._ended.reply

    # The listening half, on the engine thread.

    def prefill(self, done: int, total: int) -> None:
        self._events.put(Prefill(done, total))

    def token(self, token: int) -> bool:
        text = self._decoder.push(token)
        if self._parser is None:
            self._answer_tokens += 1
            self._say([Segment("text", text)])
            return self._stops.stopped
        was_inside = self._parser.inside
        segments = self._parser.feed(token, text)
        inside = self._parser.inside
        if (inside or was_inside) and not self._thought_began:
            self._thought_began = time.perf_counter()
        if inside and was_inside:
            self._thinking_tokens += 1
        elif not inside and not was_inside:
            self._answer_tokens += 1
        self._say(segments)
        if was_inside and not inside:
            self._close_thought()
        return self._stops.stopped

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        tail = self._decoder.flush()
        if self._parser is None:
            self._say([Segment("text", tail)])
        else:
            self._say([*self._parser.feed(None, tail), *self._parser.finish()])
        self._tell_answer(self._stops.flush())
        self._events.put(Done(self._reply(reason, stats)))

    def failed(self, error: Exception) -> None:
        self._events.put(Failed(error, kept="".join(self._answer)))

    def _say(self, segments: Sequence[Segment]) -> None:
        for kind, text in segments:
            if kind == "text":
                self._tell_answer(self._stops.push(text))
            elif text:
                self._thought.append(text)
                self._events.put(ThinkingDelta(text, self._thinking_tokens))

    def _tell_answer(self, text: str) -> None:
        if text:
            self._answer.append(text)
            self._events.put(TextDelta(text, self._answer_tokens))

    def _close_thought(self) -> None:
        if self._thought:
            seconds = time.perf_counter() - self._thought_began
            self._events.put(ThinkingDone(self._thinking_tokens, seconds))

    def _reply(self, reason: FinishReason, stats: RequestStats) -> Reply:
        return Reply(
            text="".join(self._answer),
            thinking="".join(self._thought),
            finish_reason=reason,
            model=self._model,
            usage=Usage(self._prompt_tokens, self._thinking_tokens, self._answer_tokens),
            timing=_timing(self._load_seconds, self._prompt_tokens, stats),
            peak_bytes=stats.peak_bytes,
        )


def _timing(load_seconds: float, prompt_tokens: int, stats: RequestStats) -> Timing:
    began = stats.first_token > 0
    prefill_seconds = stats.first_token - stats.started
    return Timing(
        load_seconds=load_seconds,
        ttft_seconds=stats.first_token - stats.submitted if began else 0.0,
        prefill_tokens_per_second=prompt_tokens / prefill_seconds if began else 0.0,
        decode_tokens_per_second=(
            (stats.tokens - 1) / stats.decode_seconds if stats.decode_seconds > 0 else 0.0
        ),
    )
