"""The agent's model, as if it were loaded here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwen3_mlx.asking import Asking
from qwen3_mlx.errors import AgentGoneError, EngineError
from qwen3_mlx.events import Failed, Loading, TextDelta
from qwen3_mlx.interface import Generation, Message, ModelInfo
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
    return WarmModel(name, load, made(ModelInfo, message["info"]))


class WarmModel(Asking):
    """A model at the agent. Whatever the agent does not do is done by one that is loaded here.

    It is used in the place of a `Qwen3`; `qwen3_mlx.load` makes it.
    """

    def __init__(self, name: str, load: Mapping[str, Any], info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        self._name = name
        self._load = {key: value for key, value in load.items() if value is not None}
        self._local: Qwen3 | None = None
        self._loading = threading.Lock()  # two threads must not load it twice

    def stream(self, prompt: str | Sequence[Message], **wishes: Any) -> Generation:
        """Start an answer; the arguments are those of `Qwen3.stream`.

        Raises:
            Qwen3Error: the model does not take the question.
        """
        if self._local is None:
            tools = [tool.schema for tool in tools_of(wishes.get("tools") or ())]
            given = {**wishes, "tools": tools or None}
            stated = {name: plain(each) for name, each in given.items() if each is not None}
            if isinstance(stated.get("stop"), str):
                stated["stop"] = [stated["stop"]]
            stream = link.ask(self._name, self._load, plain(prompt), stated, note=_log.warning)
            if stream is not None:
                generation = WarmGeneration(stream)
                self._watch(generation)
                return generation
        return self._here("the agent does not answer").stream(prompt, **wishes)

    def prepare(
        self,
        messages: Sequence[Message],
        system: str | None = None,
        tools: Sequence[AnyTool] = (),
    ) -> None:
        """Have the agent read a conversation while it has nothing else to do."""
        if self._local is not None:
            self._local.prepare(messages, system, tools)
            return
        asked: dict[str, Any] = {"messages": plain(messages), "system": system}
        if tools:
            asked["tools"] = [plain(tool.schema) for tool in tools_of(tools)]
        link.tell({"do": "prepare", **link.wanted(self._name, self._load), **asked})

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

    def _here(self, why: str) -> Qwen3:
        with self._loading:
            if self._local is None:
                from qwen3_mlx.api import load

                _log.warning("%s: loading %s in this process too", why, self._name)
                self._local = load(self._name, agent=False, **self._load)
            return self._local


class WarmGeneration(Reading):
    """A running answer at the agent, read by a thread of its own as fast as it comes."""

    def __init__(self, stream: link.Stream) -> None:
        super().__init__()
        self._stream = stream
        threading.Thread(target=self._read, name="warm answer", daemon=True).start()

    def cancel(self) -> None:
        """End within one token; what was said is kept and comes with `Done`."""
        if not self._over:
            self._stream.cancel()

    def answer_now(self) -> None:
        """End the thought within one token, and answer from what has been thought."""
        if not self._over:
            self._stream.answer_now()

    def _read(self) -> None:
        """On the thread: events into the mailbox, the last of them whatever happens."""
        said: list[str] = []
        try:
            for message in self._stream:
                event = event_of(message)
                if isinstance(event, TextDelta):
                    said.append(event.text)
                self._events.put(event)
        except Exception as error:
            known = error if isinstance(error, AgentGoneError) else EngineError(repr(error))
            self._events.put(Failed(known, kept="".join(said)))
        self._finish()
