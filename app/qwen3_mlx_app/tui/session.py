"""A chat in progress: the state and the worker, joined. Every front end drives one of these."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import EngineError, PromptError
from qwen3_mlx.events import Done, Loading, Notice
from qwen3_mlx.interface import ChatModel, Message, Overflow, Sampling
from qwen3_mlx_app.tui import calls
from qwen3_mlx_app.tui.approval import Approvals, ToolAnswer, Verdict
from qwen3_mlx_app.tui.attachments import first_words
from qwen3_mlx_app.tui.exchange import SavedChat
from qwen3_mlx_app.tui.keeping import Keeper
from qwen3_mlx_app.tui.keymap import say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.restoring import saved_turn
from qwen3_mlx_app.tui.state import ChatState, Phase, Turn
from qwen3_mlx_app.tui.store import Store
from qwen3_mlx_app.tui.worker import Job, Loader, Running, Worker, usable

if TYPE_CHECKING:
    from qwen3_mlx.tools.functions import Tool

__all__ = ["ChatOptions", "Session"]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the command line decided. `thinking=None` is the checkpoint's own default."""

    system: str | None = None
    thinking: bool | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    seed: int | None = None
    overflow: Overflow = "error"
    tools: tuple[Tool, ...] = ()


class Session:
    """Send, stop, retry; call `drain` regularly and draw `state`."""

    def __init__(
        self,
        load: Loader,
        options: ChatOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        store: Store | None = None,
        trouble: str = "",
        reopen: Callable[[], Store] | None = None,
    ) -> None:
        self.options = options or ChatOptions()
        self.clock = clock
        self.state = ChatState(
            thinking=self.options.thinking is not False,
            system=self.options.system,
            tools=len(self.options.tools),
        )
        self.approvals = Approvals()
        self.keeper = Keeper(self.state, store, clock, trouble, reopen)
        self._load = load
        self.worker = Worker(load)

    def start(self) -> None:
        """Load the model in the background."""
        self.worker.start()

    def close(self) -> None:
        """Stop what runs, free the model, store what is there."""
        self.worker.close()
        self.drain()
        self.keeper.close()

    def reload(self) -> None:
        """Try once more after a failed load."""
        self.state.load_error = None
        self.worker = Worker(self._load)
        self.worker.start()

    def switch(self, load: Loader) -> None:
        """Change to another model. The old one is closed first: two may not fit."""
        self._halt()
        old = self.worker

        def close_and_load(progress: Callable[[Loading], None]) -> ChatModel:
            old.close()
            return load(progress)

        self.state.info, self.state.load_error = None, None
        self.state.loading = Loading(0, 0)
        self._load = load
        self.worker = Worker(close_and_load)
        self.worker.start()

    def load_with(self, load: Loader) -> None:
        """Load like this from the next time on."""
        self._load = load

    def restart(self) -> None:
        """Close the model, whatever state it is in, and load it anew."""
        self.switch(self._load)

    def prompt(self, text: str = "") -> tuple[str, int]:
        """What the model reads for a message, or for the last one; and its length in tokens.

        Raises:
            PromptError: nothing was said yet.
            EngineError: the model is not there yet.
        """
        model = self.worker.model
        if model is None:
            raise EngineError(t("The model is not loaded yet."))
        messages = self.state.history(before_answer=not text)
        if text:
            messages.append({"role": "user", "content": text})
        if not messages:
            raise PromptError(t("Nothing was asked yet: /prompt TEXT shows it for a message."))
        if self.state.system:
            messages.insert(0, {"role": "system", "content": self.state.system})
        thinking = self.state.thinking if model.info.can_switch_thinking else None
        schemas = [tool.schema for tool in usable(model, self.options.tools)]
        prompt = model.render(messages, tools=schemas or None, thinking=thinking)
        return prompt, len(model.encode(prompt))

    def saved(self) -> SavedChat:
        """The chat as a file has it, also when there is no database."""
        tree = self.state.tree
        kept = [turn.saved for turn in tree.all]
        for number, turn in enumerate(tree.all, 1):
            turn.saved = number  # numbers of the file's own, while it is made
        turns = [saved_turn(turn) for turn in tree.all]
        leaf = tree.line[-1].saved if tree.line else None
        for turn, number in zip(tree.all, kept, strict=True):
            turn.saved = number
        title = self.keeper.title or first_words(self.state.turns[0].user, 60)
        return SavedChat(title, self.state.system, leaf, turns)

    def send(self, text: str, thinks: bool | None = None) -> Turn | None:
        """Ask, or queue while an answer is coming (one message: a second joins the first)."""
        if self.state.generating:
            queued = self.state.queued
            self.state.queued = text if queued is None else f"{queued}\n{text}"
            self.state.queued_thinks = self.state.queued_thinks if thinks is None else thinks
            return None
        if self.state.load_error is not None:
            self.reload()
        return self._ask(self.state.start(text, self.clock(), thinks))

    def retry(self, turn: Turn | None = None, text: str | None = None) -> Turn | None:
        """Answer a question anew, the last one by default, or another text in its place.

        The old turn stays as a sibling. None while one is being answered or none was asked.
        """
        return self._again(self.state.restart(self.clock(), turn, text))

    def go_on(self) -> Turn | None:
        """Continue an answer that was cut off; None if the last one was not."""
        return self._again(self.state.resume(self.clock()))

    def _again(self, turn: Turn | None) -> Turn | None:
        if turn is not None and self.state.load_error is not None:
            self.reload()
        return self._ask(turn) if turn is not None else None

    def flip(self, turn: Turn, step: int) -> bool:
        """Show the sibling before or after; False if there is none, or an answer is coming."""
        if self.state.generating or self.state.tree.flip(turn, step) is turn:
            return False
        self.keeper.shown()
        return True

    def open(self, chat: int) -> bool:
        """Show a stored chat; an answer that still comes is stopped and kept."""
        self._halt()
        self.approvals.forget()
        return self.keeper.open(chat)

    def adopt(self, saved: SavedChat) -> None:
        """Show a chat from a file."""
        self._halt()
        self.approvals.forget()
        self.keeper.adopt(saved)

    def fork(self) -> None:
        """Go on in a copy of the chat."""
        self.approvals.forget()
        self.keeper.fork()

    def answer_now(self) -> bool:
        """End the thought that is going on; False if there is none."""
        turn = self.state.current
        if turn is None or turn.phase is not Phase.THINKING:
            return False
        self.worker.answer_now(turn.number)
        return True

    def allow(self, verdict: Verdict) -> None:
        """Answer for the call that waits."""
        turn = self.state.current
        if turn is not None and (use := turn.asking) is not None:
            use.asks = False
            self.approvals.answer(use.number, use.name, verdict)

    def stop(self) -> str | None:
        """Take back the queued message and return it, or else stop the answer."""
        if (queued := self.state.queued) is not None:
            self.state.queued = self.state.queued_thinks = None
            return queued
        if (turn := self.state.current) is not None:
            if turn.asking is not None:
                turn.asking.asks = False
            self.worker.cancel(turn.number)
        return None

    def new(self) -> None:
        """Begin an empty chat; an answer that still comes is cancelled and dropped."""
        self._halt()
        self.approvals.forget()
        self.keeper.leave()
        self.state.clear()
        self.state.system = self.options.system  # /system was for the chat that is left

    def _halt(self) -> None:
        """Cancel, and mark the turn now: the engine's last word will find nobody."""
        if (turn := self.state.current) is not None:
            self.worker.cancel(turn.number)
            turn.phase, turn.finish = Phase.DONE, "cancelled"
            calls.settle(turn)
            self.keeper.tick()

    def drain(self) -> bool:
        """Apply what came; True if there was anything. A queued message starts at the end."""
        envelopes = self.worker.drain()
        for envelope in envelopes:
            current = self.state.current
            if envelope.job == 0 or (current is not None and current.number == envelope.job):
                self.state.apply(envelope.event, self.clock())
                if isinstance(envelope.event, Done):  # the next turn will begin at once
                    self.worker.prepare(self.state.history(), self.state.system, self.options.tools)
        trouble = self.keeper.trouble
        self.keeper.tick()
        if self.state.queued is not None and not self.state.generating:
            text, thinks = self.state.queued, self.state.queued_thinks
            self.state.queued = self.state.queued_thinks = None
            self.send(text, thinks)
            return True
        return bool(envelopes) or self.keeper.trouble != trouble

    def set_thinking(self, on: bool) -> str | None:
        """Set the mode for the next turn; the reason if this model cannot."""
        info = self.state.info
        if info is not None and on and not info.can_think:
            return t("{name} has no thinking mode.", name=info.name)
        if info is not None and not on and info.can_think and not info.can_switch_thinking:
            return say("{name} always thinks; {view} folds its thoughts away.", name=info.name)
        self.state.thinking = on
        return None

    def _ask(self, turn: Turn) -> Turn:
        """Post the job; the messages are frozen now, so later turns cannot slip in."""
        self.keeper.asked(turn)
        messages = self.state.history()
        worker = self.worker
        worker.post(Job(turn.number, lambda model: self._stream(model, messages, turn, worker)))
        return turn

    def _stream(
        self, model: ChatModel, messages: list[Message], turn: Turn, worker: Worker
    ) -> Running:
        """Ask for a mode only where there is a choice, so the model need not complain of it."""
        options, info = self.options, model.info
        thinks = turn.thinks and not turn.continued
        thinking = info.can_think and (thinks or not info.can_switch_thinking)
        wishes: dict[str, Any] = {
            "thinking": thinks if info.can_switch_thinking else None,
            "thinking_budget": turn.budget if thinking else None,
            "system": self.state.system,
            "sampling": options.sampling,
            "max_tokens": options.max_tokens,
            "seed": options.seed,
            "overflow": options.overflow,
        }
        if tools := usable(model, options.tools):
            ask = partial(worker.push, turn.number)
            return ToolAnswer(model, messages, tools, self.approvals, ask, wishes)
        if options.tools:
            text = t("{name} cannot call tools: it answers without them.", name=info.name)
            worker.push(turn.number, Notice(text))
        return model.stream(messages, **wishes)
