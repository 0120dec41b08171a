"""Questions to a model, wherever it is: at the warm agent, or loaded here.

Answers come as plain events (`warm.codec.plain_event`) from both, so that `ask` needs no more
imports than the agent's own protocol when the model is there already.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock  # threading would cost a warm answer a millisecond

from qwen3_mlx.errors import AgentGoneError
from qwen3_mlx.warm import link

TYPE_CHECKING = False
if TYPE_CHECKING:  # this module must cost nothing
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from qwen3_mlx.api import Qwen3
    from qwen3_mlx.interface import Generation

    class Running(Protocol):
        """An answer in plain events."""

        def __iter__(self) -> Iterator[dict[str, Any]]: ...
        def cancel(self) -> None: ...
        def close(self) -> None: ...


__all__ = ["Answer", "Asker", "note"]

_SPOKEN = ("TextDelta", "ThinkingDelta")


class Asker:
    """A model to ask, from any number of threads. Use it in a `with` statement.

    Args:
        name: as for `qwen3_mlx.load`.
        load: the arguments of `load` that were stated.
        agent: whether the warm agent may answer.
    """

    def __init__(self, name: str, load: Mapping[str, Any], *, agent: bool = True) -> None:
        self.name, self._load, self._agent = name, load, agent
        self._model: Qwen3 | None = None
        self._lock = allocate_lock()

    def stream(
        self, prompt: str | Sequence[Mapping[str, Any]], wishes: Mapping[str, Any]
    ) -> Running:
        """Start an answer; `wishes` are arguments of `Qwen3.stream` in plain form."""
        if self._agent:
            stream = link.ask(self.name, self._load, prompt, wishes, note=note)
            if stream is not None:
                return stream
            self._agent = False
        return _Local(self.model, prompt, wishes)

    def open(self) -> None:
        """Find the agent or load the model now, on this thread."""
        if self._agent and not link.holds(self.name, self._load, note=note):
            self._agent = False
        if not self._agent:
            _ = self.model

    @property
    def model(self) -> Qwen3:
        """The model in this process, loaded if need be, once."""
        with self._lock:
            if self._model is None:
                import qwen3_mlx
                from qwen3_mlx_convert.fetching import fetch

                fetch(self.name)  # a download shows its progress
                self._model = qwen3_mlx.load(self.name, agent=False, **self._load)
            return self._model

    def lost_agent(self) -> None:
        """The agent has gone: load the model here from now on."""
        with self._lock:
            lost, self._agent = self._agent, False
        if lost:
            note("the agent went away; the model is loaded here instead")

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._model is not None:
            self._model.close()


class Answer:
    """One answer, which begins when this is made.

    If the agent goes away before anything was said, or nothing was shown (`silent`), the
    question is asked again in this process.
    """

    def __init__(
        self,
        asker: Asker,
        prompt: str | Sequence[Mapping[str, Any]],
        wishes: Mapping[str, Any],
        *,
        silent: bool = False,
    ) -> None:
        self._asker, self._silent = asker, silent
        self._asked = prompt, wishes
        self._stream = asker.stream(prompt, wishes)
        self._cancelled = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Plain events; the last is a `Done` or a `Failed`."""
        spoken = False
        try:
            for event in self._stream:
                spoken = spoken or event["event"] in _SPOKEN
                yield event
        except AgentGoneError:
            if self._cancelled or (spoken and not self._silent):
                raise
            self._asker.lost_agent()
            self._stream = self._asker.stream(*self._asked)
            yield from self._stream

    def cancel(self) -> None:
        """End within one token; what was said comes with `Done`."""
        self._cancelled = True
        self._stream.cancel()

    def give_up(self) -> None:
        """End it and hear no more of it; another thread that iterates it gets an error."""
        self._cancelled = True
        self._stream.close()

    def reply(self) -> dict[str, Any]:
        """Run to the end; the fields of the `Reply`.

        Raises:
            Qwen3Error: what a `Failed` carries.
        """
        for event in self:
            if event["event"] == "Failed":
                raise link.error_of(event["error"])
            if event["event"] == "Done":
                reply: dict[str, Any] = event["reply"]
                return reply
        raise AssertionError("an answer ends with Done or Failed")


class _Local:
    """An answer of a model in this process, in plain events."""

    def __init__(
        self, model: Qwen3, prompt: str | Sequence[Mapping[str, Any]], wishes: Mapping[str, Any]
    ) -> None:
        from qwen3_mlx.warm.codec import arguments

        asked = arguments(model.stream, {"prompt": prompt, **wishes})
        self._generation: Generation = model.stream(**asked)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from qwen3_mlx.warm.codec import plain_event

        return map(plain_event, self._generation)

    def cancel(self) -> None:
        """End within one token."""
        self._generation.cancel()

    def close(self) -> None:
        """The same: it ends by itself."""
        self._generation.cancel()


def note(text: str) -> None:
    """Say something beside the answer, on standard error."""
    print(f"note: {text}", file=sys.stderr)
