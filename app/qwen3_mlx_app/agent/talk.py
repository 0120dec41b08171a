"""One conversation with a client, on a thread of its own: hello, one thing to do, its events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from qwen3_mlx.errors import EngineError, OptionError, Qwen3Error
from qwen3_mlx.events import Done, Failed, Loading
from qwen3_mlx.interface import ChatModel, Generation
from qwen3_mlx.warm.codec import arguments, plain, plain_event
from qwen3_mlx.warm.wire import PROTOCOL, Frames, WireError

if TYPE_CHECKING:
    from qwen3_mlx_app.agent.holder import Holder
    from qwen3_mlx_app.agent.identity import Identity

__all__ = ["Desk", "Talk"]


class Desk(Protocol):
    """What a conversation needs of the agent."""

    holder: Holder
    identity: Identity
    version: str

    def facts(self) -> dict[str, Any]:
        """What `status` tells."""

    def leave(self, how: str) -> str:
        """Finish and then "stop" or "restart"; why not, or ""."""

    def began(self, generation: Generation) -> None:
        """An answer runs, and is to be cancelled when the agent ends."""

    def ended(self, generation: Generation) -> None:
        """It does not run any more."""

    def log(self, line: str) -> None:
        """Write a line into the log."""


class Talk:
    """One connection. `run` returns when the conversation is over, whatever the client did."""

    def __init__(self, frames: Frames, desk: Desk) -> None:
        self._frames, self._desk = frames, desk
        self._gone = False

    def run(self) -> None:
        """Hello, then what the client wants."""
        try:
            self._greet()
        except WireError as error:
            self._refuse("malformed", str(error))
            self._desk.log(f"malformed: {error}")
        except OSError as error:
            if error.filename is not None:  # the model's file, not the client's socket
                self._desk.log(f"fault: {error!r}")
        except Exception as error:
            self._desk.log(f"fault: {error!r}")
            self._refuse("fault", f"{type(error).__name__}: {error}")
        finally:
            self._frames.close()

    def _greet(self) -> None:
        opening = self._frames.read()
        if opening is None:
            return
        hello = opening.get("hello")
        if not isinstance(hello, dict):
            raise WireError("the first message is no hello")
        self._frames.send({"hello": {"protocol": PROTOCOL, **self._desk.facts()}})
        wish = self._frames.read()
        same = hello.get("protocol") == PROTOCOL and hello.get("version") == self._desk.version
        if not same and wish is not None and wish.get("do") not in ("stop", "restart", "status"):
            versions = f"{self._desk.version} and the client {hello.get('version')}"
            self._refuse("version", f"the agent is version {versions}")
            wish = self._frames.read()
        if wish is not None:
            self._do(wish)

    def _do(self, wish: Mapping[str, Any]) -> None:
        match wish.get("do"):
            case "ask":
                self._for_model(wish, self._ask)
            case "holds":
                refusal = self._desk.identity.refusal(wish)
                if refusal:
                    self._refuse("model", refusal)
                else:
                    self._frames.send({"ok": True})
            case "info":
                self._for_model(wish, self._info)
            case "prepare":
                self._for_model(wish, self._prepare)
            case "status":
                self._frames.send({"status": self._desk.facts()})
            case "stop" | "restart" as how:
                refused = self._desk.leave(how)
                if refused:
                    self._refuse("same", refused)
                else:
                    self._frames.send({"ok": True})
            case other:
                self._refuse("unknown", f"there is nothing called {other!r} to do")

    def _for_model(
        self, wish: Mapping[str, Any], do: Callable[[ChatModel, Mapping[str, Any]], None]
    ) -> None:
        refusal = self._desk.identity.refusal(wish)
        if refusal:
            self._refuse("model", refusal)
            return
        try:
            with self._desk.holder.model(self._tell_loading) as model:
                do(model, wish)
        except (WireError, OSError):
            raise
        except Exception as error:
            if not isinstance(error, Qwen3Error):
                self._desk.log(f"fault: {error!r}")
            self._frames.send(plain_event(Failed(_known(error))))

    def _ask(self, model: ChatModel, wish: Mapping[str, Any]) -> None:
        wishes = wish.get("wishes")
        if not isinstance(wishes, dict):
            raise OptionError("the wishes are no object")
        asked = arguments(model.stream, {"prompt": wish.get("prompt"), **wishes})
        generation = model.stream(**asked)
        self._desk.began(generation)
        watched = generation, model.info.context
        watcher = threading.Thread(target=self._watch, args=watched, daemon=True)
        watcher.start()
        try:
            for event in generation:
                sent = event
                if isinstance(event, Failed) and not isinstance(event.error, Qwen3Error):
                    sent = Failed(_known(event.error), event.kept)
                self._frames.send(plain_event(sent))
                if isinstance(event, Done | Failed):
                    break
        finally:
            generation.cancel()  # nothing, if it has ended
            self._desk.ended(generation)
            self._frames.hang_up()
            watcher.join()

    def _watch(self, generation: Generation, context: int) -> None:
        """Hear what the client says while its answer runs; one that leaves cancels."""
        try:
            while (message := self._frames.read(patient=True)) is not None:
                self._hear(message, generation, context)
        except (WireError, OptionError) as error:
            self._desk.log(f"malformed: {error}")
        except OSError:
            pass
        generation.cancel()

    def _hear(self, message: Mapping[str, Any], generation: Generation, context: int) -> None:
        match message.get("do"):
            case "answer_now":
                generation.answer_now()
            case "think_more":
                minimum = message.get("minimum")
                if type(minimum) is not int or not 0 <= minimum <= context:
                    raise WireError(f"think_more takes a number from 0 to {context:,}")
                generation.think_more(minimum)
            case _:
                generation.cancel()

    def _info(self, model: ChatModel, wish: Mapping[str, Any]) -> None:
        """The model's description, its plan, and whether its thoughts can be held open."""
        can_hold = model.info.can_think and len(model.encode("</think>")) == 1
        about = {"info": model.info, "plan": getattr(model, "plan", None), "can_hold": can_hold}
        self._frames.send(plain(about))

    def _prepare(self, model: ChatModel, wish: Mapping[str, Any]) -> None:
        prepare = getattr(model, "prepare", None)
        if prepare is not None:
            given = {name: wish.get(name) for name in ("messages", "system")}
            given["tools"] = wish.get("tools") or []
            prepare(**arguments(prepare, given))
        self._frames.send({"ok": True})

    def _tell_loading(self, loading: Loading) -> None:
        """On the engine's thread, which must not suffer from a client that has left."""
        if not self._gone:
            try:
                self._frames.send(plain_event(loading))
            except OSError:
                self._gone = True

    def _refuse(self, why: str, text: str) -> None:
        try:
            self._frames.send({"refused": {"why": why, "text": text}})
        except OSError:
            self._gone = True


def _known(error: Exception) -> Qwen3Error:
    """An error that the client knows too."""
    return (
        error if isinstance(error, Qwen3Error) else EngineError(f"{type(error).__name__}: {error}")
    )
