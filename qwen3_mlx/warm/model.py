"""The agent's model, as if it were loaded here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qwen3_mlx import hub
from qwen3_mlx.asking import Asking
from qwen3_mlx.chat import ThoughtMemory
from qwen3_mlx.errors import AgentGoneError, EngineError, OptionError
from qwen3_mlx.events import Done, Failed, Loading, TextDelta
from qwen3_mlx.interface import Generation, Message, ModelInfo
from qwen3_mlx.loading import Parts, read_parts
from qwen3_mlx.memory import Plan
from qwen3_mlx.reading import Reading
from qwen3_mlx.tools.functions import AnyTool, tools_of
from qwen3_mlx.warm import link
from qwen3_mlx.warm.codec import event_of, made, plain
from qwen3_mlx.warm.wire import WireError

if TYPE_CHECKING:
    from qwen3_mlx.api import Qwen3

__all__ = ["WarmGeneration", "WarmModel", "warm_model"]

_log = logging.getLogger(__name__)


def warm_model(
    name: str, load: Mapping[str, Any], progress: Callable[[Loading], None] | None = None
) -> WarmModel | None:
    """The agent's model if it is this one, loaded like this; else None."""
    opened = link.call({"do": "info", **link.wanted(name, load)}, note=_log.warning)
    if opened is None:
        return None
    frames = opened[0]
    message: dict[str, Any] | None = opened[1]
    try:
        while message is not None and message.get("event") == "Loading":
            if progress is not None:
                progress(made(Loading, {key: message[key] for key in ("done", "total")}))
            message = frames.read(patient=True)
    except (OSError, WireError):
        return None  # it went away while it loaded: then the model is loaded here
    finally:
        frames.close()
    if message is None or "info" not in message:
        if message is not None and message.get("event") == "Failed":
            raise link.error_of(message["error"])
        return None
    can_hold, plan = made(bool, message.get("can_hold")), _plan_of(message.get("plan"))
    return WarmModel(name, load, made(ModelInfo, message["info"]), plan=plan, can_hold=can_hold)


class WarmModel(Asking):
    """A model at the agent, used in the place of a `Qwen3`; `qwen3_mlx.load` makes it.

    Prompts and token ids are made here, without any weights. Only what neither can do, such as
    `logits`, is done by a model that is loaded here too.

    Args:
        name: as for `qwen3_mlx.load`.
        load: the arguments of `load`.
        info: what the agent says of its model.
        plan: and of the memory that it takes.
        can_hold: whether the end of a thought is a token that can be refused.
    """

    def __init__(
        self,
        name: str,
        load: Mapping[str, Any],
        info: ModelInfo,
        *,
        plan: Plan | None = None,
        can_hold: bool = True,
    ) -> None:
        super().__init__()
        self.info, self.plan, self.thoughts = info, plan, ThoughtMemory()
        self._can_hold = can_hold
        self._parts: Parts | None = None
        self._name = name
        self._load = {key: value for key, value in load.items() if value is not None}
        self._local: Qwen3 | None = None
        self._loading = threading.Lock()  # two threads must not load it twice

    def stream(self, prompt: str | Sequence[Message], **wishes: Any) -> Generation:
        """Start an answer; the arguments are those of `Qwen3.stream`.

        Raises:
            Qwen3Error: the model does not take the question.
        """
        if not isinstance(prompt, str):
            prompt = self.thoughts.restore(prompt)
        if self._local is None:
            tools = [tool.schema for tool in tools_of(wishes.get("tools") or ())]
            given = {**wishes, "tools": tools or None}
            stated = {name: plain(each) for name, each in given.items() if each is not None}
            if isinstance(stated.get("stop"), str):
                stated["stop"] = [stated["stop"]]
            stream = link.ask(self._name, self._load, plain(prompt), stated, note=_log.warning)
            if stream is not None:
                can_hold = self._can_hold and not wishes.get("raw")
                longest = self.info.context if can_hold else 0
                generation = WarmGeneration(stream, longest, self.thoughts.remember)
                self._watch(generation)
                return generation
        here = self._here("the agent does not answer").stream(prompt, **wishes)
        self._watch(here)
        return here

    def prepare(
        self,
        messages: Sequence[Message],
        system: str | None = None,
        tools: Sequence[AnyTool] = (),
    ) -> None:
        """Have the agent read a conversation while it has nothing else to do."""
        told = self.thoughts.restore(messages)
        if self._local is not None:
            self._local.prepare(told, system, tools)
            return
        asked: dict[str, Any] = {"messages": plain(told), "system": system}
        if tools:
            asked["tools"] = [plain(tool.schema) for tool in tools_of(tools)]
        link.tell({"do": "prepare", **link.wanted(self._name, self._load), **asked})

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> str:
        """The exact prompt text that the model would read for these messages.

        Raises:
            PromptError: the messages are malformed, or the model has no chat template.
        """
        return self._folder().template.render(messages, tools=tools, thinking=thinking)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; control tokens that it spells become control tokens."""
        return self._folder().tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._folder().tokenizer.decode(ids)

    def close(self) -> None:
        """End what runs, and free what was loaded here; the agent keeps its own."""
        self.cancel()
        if self._local is not None:
            self._local.close()

    def __enter__(self) -> WarmModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        from qwen3_mlx.api import Qwen3

        if not hasattr(Qwen3, name):  # no reason to load one
            raise AttributeError(f"a model has no {name!r}")
        return getattr(self._here(f"the agent does not do {name!r}"), name)

    def _folder(self) -> Parts:
        """Everything of the model but its weights."""
        with self._loading:
            if self._parts is None:
                self._parts = read_parts(hub.resolve(self._name))
            return self._parts

    def _here(self, why: str) -> Qwen3:
        with self._loading:
            if self._local is None:
                from qwen3_mlx.api import load

                _log.warning("%s: loading %s in this process too", why, self._name)
                self._local = load(self._name, agent=False, **self._load)
            return self._local


class WarmGeneration(Reading):
    """A running answer at the agent, read by a thread of its own as fast as it comes.

    Args:
        stream: the answer.
        longest: the most tokens of a thought; 0 where none can be held open.
        remember: told the ids of the calls and the thought that led to them.
    """

    def __init__(
        self,
        stream: link.Stream,
        longest: int,
        remember: Callable[[Sequence[str], str], None],
    ) -> None:
        super().__init__()
        self._stream, self._longest, self._remember = stream, longest, remember
        threading.Thread(target=self._read, name="warm answer", daemon=True).start()

    def cancel(self) -> None:
        """End within one token; what was said is kept and comes with `Done`."""
        if not self._ended:
            self._stream.cancel()

    def answer_now(self) -> None:
        """End the thought within one token, and answer from what has been thought."""
        if not self._ended:
            self._stream.answer_now()

    def think_more(self, minimum: int) -> None:
        """Do not let the model end its thought before it has this many tokens in all.

        Raises:
            OptionError: the thought of this answer has no such token as `</think>`.
        """
        if not self._longest:
            raise OptionError("this answer has no thought that could be held open")
        if not self._ended:
            self._stream.think_more(max(0, min(int(minimum), self._longest)))

    def _read(self) -> None:
        """On the thread: events into the mailbox, the last of them whatever happens."""
        said: list[str] = []
        try:
            for message in self._stream:
                event = event_of(message)
                if isinstance(event, TextDelta):
                    said.append(event.text)
                if isinstance(event, Done):
                    calls = [call.id for call in event.reply.tool_calls]
                    self._remember(calls, event.reply.thinking)
                self._events.put(event)
        except Exception as error:
            known = error if isinstance(error, AgentGoneError) else EngineError(repr(error))
            self._events.put(Failed(known, kept="".join(said)))
        self._finish()


def _plan_of(told: Any) -> Plan | None:
    """A plan as the agent tells it; JSON has made texts of the layers' numbers."""
    if told is None:
        return None
    plan: Plan = made(Plan, told)
    slots, sizes = ({int(k): v for k, v in m.items()} for m in (plan.slots, plan.slot_bytes))
    return replace(plan, slots=slots, slot_bytes=sizes)
