"""A chat in progress: the state and the worker, joined. Every front end drives one of these."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qwen3_mlx.interface import ChatModel, Generation, Message, Sampling

from .state import ChatState, Turn
from .worker import Job, Loader, Worker

__all__ = ["ChatOptions", "Session"]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the command line decided. `thinking=None` is the checkpoint's own default."""

    system: str | None = None
    thinking: bool | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    seed: int | None = None


class Session:
    """Send, stop, retry; call `drain` regularly and draw `state`."""

    def __init__(
        self,
        load: Loader,
        options: ChatOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or ChatOptions()
        self.clock = clock
        self.state = ChatState(
            thinking=self.options.thinking is not False, system=self.options.system
        )
        self._load = load
        self.worker = Worker(load)

    def start(self) -> None:
        """Load the model in the background."""
        self.worker.start()

    def close(self) -> None:
        """Stop what runs and free the model."""
        self.worker.close()

    def reload(self) -> None:
        """Try once more after a failed load."""
        self.state.load_error = None
        self.worker = Worker(self._load)
        self.worker.start()

    def send(self, text: str, thinks: bool | None = None) -> Turn | None:
        """Ask, or queue while an answer is coming (one message: a second joins the first)."""
        if self.state.generating:
            queued = self.state.queued
            self.state.queued = text if queued is None else f"{queued}\n{text}"
            return None
        if self.state.load_error is not None:
            self.reload()
        return self._ask(self.state.start(text, self.clock(), thinks))

    def retry(self) -> Turn | None:
        """Answer the last question anew; None while one is being answered or none was asked."""
        turn = self.state.restart(self.clock())
        if turn is not None and self.state.load_error is not None:
            self.reload()
        return self._ask(turn) if turn is not None else None

    def stop(self) -> str | None:
        """Take back the queued message and return it, or else stop the answer."""
        if (queued := self.state.queued) is not None:
            self.state.queued = None
            return queued
        if (turn := self.state.current) is not None:
            self.worker.cancel(turn.number)
        return None

    def new(self) -> None:
        """Begin an empty chat; an answer that still comes is cancelled and dropped."""
        if (turn := self.state.current) is not None:
            self.worker.cancel(turn.number)
        self.state.clear()

    def drain(self) -> bool:
        """Apply what came; True if there was anything. A queued message starts at the end."""
        envelopes = self.worker.drain()
        for envelope in envelopes:
            current = self.state.current
            if envelope.job == 0 or (current is not None and current.number == envelope.job):
                self.state.apply(envelope.event, self.clock())
        if self.state.queued is not None and not self.state.generating:
            text, self.state.queued = self.state.queued, None
            self.send(text)
            return True
        return bool(envelopes)

    def toggle_thinking(self) -> str | None:
        """Switch the mode for the next turn; the reason if this model cannot."""
        return self.set_thinking(not self.state.thinking)

    def set_thinking(self, on: bool) -> str | None:
        """Set the mode for the next turn; the reason if this model cannot."""
        info = self.state.info
        if info is not None and on and not info.can_think:
            return f"{info.name} has no thinking mode."
        if info is not None and not on and info.can_think and not info.can_switch_thinking:
            return f"{info.name} always thinks; ^f folds its thoughts away."
        self.state.thinking = on
        return None

    def _ask(self, turn: Turn) -> Turn:
        """Post the job; the messages are frozen now, so later turns cannot slip in."""
        messages = self.state.history()
        self.worker.post(Job(turn.number, lambda model: self._stream(model, messages, turn.thinks)))
        return turn

    def _stream(self, model: ChatModel, messages: list[Message], thinks: bool) -> Generation:
        """Ask for a mode only where there is a choice, so the model need not complain of it."""
        options = self.options
        return model.stream(
            messages,
            thinking=thinks if model.info.can_switch_thinking else None,
            system=self.state.system,
            sampling=options.sampling,
            max_tokens=options.max_tokens,
            seed=options.seed,
        )
