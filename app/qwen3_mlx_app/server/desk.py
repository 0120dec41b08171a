"""The pages of the server, and who answers at each."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.events import Done, Event, Failed, Prefill, Reply, TextDelta, ToolCall
from qwen3_mlx.interface import ChatModel, Generation
from qwen3_mlx_app.server import asked as requests
from qwen3_mlx_app.server import items, vectors
from qwen3_mlx_app.server.asked import Asked
from qwen3_mlx_app.server.connection import Connection
from qwen3_mlx_app.server.faults import ApiError, told
from qwen3_mlx_app.server.fields import json_object
from qwen3_mlx_app.server.forms import ChatForm, Form, TextForm, usage
from qwen3_mlx_app.server.gate import Gate
from qwen3_mlx_app.server.guard import Guard
from qwen3_mlx_app.server.line import Line
from qwen3_mlx_app.server.responses import ResponseForm
from qwen3_mlx_app.server.served import Served

__all__ = ["Desk"]

_MODEL_PAGE = "/v1/models/"
_TURN = object()


class Desk:
    """Answers requests about one model.

    Args:
        names: what clients may call it; the first is what it is called.
        served: keeps it.
        gate: says whose turn it is.
        guard: says who may ask.
    """

    def __init__(self, names: Sequence[str], served: Served, gate: Gate, guard: Guard) -> None:
        self.name, self._names = names[0], frozenset(names)
        self.served, self.gate, self._guard = served, gate, guard
        self._began = int(time.time())
        self._pages: dict[str, tuple[str, Callable[[Connection], None]]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/completions": ("POST", self._completion),
            "/v1/responses": ("POST", self._response),
            "/v1/embeddings": ("POST", self._embeddings),
            "/v1/models": ("GET", self._models),
            "/health": ("GET", self._health),
        }

    def answer(self, connection: Connection) -> None:
        """Answer one request, all of it.

        Raises:
            ApiError: it is refused; nothing, or a part of a stream, has been sent.
            Gone: the client has left.
        """
        page, method = connection.page, connection.command
        connection.allow_reading(self._guard.may_read(connection.headers))
        free = page == "/health" or method == "OPTIONS"
        self._guard.admit(connection.headers, open_to_all=free)
        known, answer = self._pages.get(page, ("", None))
        if page.startswith(_MODEL_PAGE):
            known, answer = "GET", self._one_model
        allowed = {"GET": "GET, HEAD, OPTIONS", "POST": "POST, OPTIONS"}.get(known, "")
        if method == "OPTIONS" and (allowed or page == "*"):
            self._options(connection, allowed or "GET, HEAD, POST, OPTIONS")
            return
        if answer is None:
            raise ApiError(
                404, f"there is no such page: there are {', '.join(self._pages)}", code="no_page"
            )
        if method not in allowed.split(", "):
            raise ApiError(405, f"this page takes {allowed}", headers={"Allow": allowed})
        answer(connection)

    def has(self, page: str) -> bool:
        """Whether there is a page of this name, which then tells nothing of a client."""
        return page in self._pages

    # The pages.

    def _options(self, connection: Connection, allowed: str) -> None:
        headers = {"Allow": allowed}
        if self._guard.may_read(connection.headers):
            headers |= {
                "Access-Control-Allow-Methods": allowed,
                "Access-Control-Allow-Headers": _wanted_headers(connection),
                "Access-Control-Max-Age": "600",
            }
        connection.send(204, headers=headers)

    def _models(self, connection: Connection) -> None:
        connection.send(200, {"object": "list", "data": [self._about()]})

    def _one_model(self, connection: Connection) -> None:
        self._check_name(unquote(connection.page.removeprefix(_MODEL_PAGE)))
        connection.send(200, self._about())

    def _health(self, connection: Connection) -> None:
        fault = self.served.health()
        facts: dict[str, Any] = {"status": "fault" if fault else "ok"}
        if self._guard.knows_key(connection.headers):
            facts |= {"model": self.name, "running": self.gate.running}
            facts |= {"waiting": self.gate.waiting, "loads": self.served.loads}
            facts |= {"fault": fault} if fault else {}
        connection.send(503 if fault else 200, facts, {"Cache-Control": "no-store"})

    def _chat(self, connection: Connection) -> None:
        asked = requests.chat(json_object(connection.body()))
        self._generate(connection, asked, ChatForm(self.name), "messages")

    def _completion(self, connection: Connection) -> None:
        asked = requests.completion(json_object(connection.body()))
        self._generate(connection, asked, TextForm(self.name), "prompt")

    def _response(self, connection: Connection) -> None:
        body = json_object(connection.body())
        asked = items.response(body)
        echo, notices, spaces = items.echo(body), items.left_out(body), items.namespaces(body)
        form = ResponseForm(self.name, echo, notices, spaces)
        self._generate(connection, asked, form, "input")

    def _embeddings(self, connection: Connection) -> None:
        asked = vectors.texts(json_object(connection.body()))
        self._check_name(asked.model)
        with Line(connection.connection) as line:
            turn = self.gate.enter(lambda: line.put(_TURN))
            try:
                line.get()
                made = self.served.use(
                    lambda model: vectors.answer(model, asked, self.name, line.check)
                )
            except Qwen3Error as error:
                raise told(error, "input") from error
            finally:
                self.gate.leave(turn)
        connection.send(200, made)
        connection.about = f"{made['usage']['total_tokens']} tokens"

    def _about(self) -> dict[str, Any]:
        about = {"id": self.name, "object": "model", "created": self._began}
        return {**about, "owned_by": "qwen3-mlx"}

    def _check_name(self, name: str) -> None:
        if name and name not in self._names:
            raise ApiError(
                404, f"the model that is served here is {self.name!r}, and no other is loaded",
                param="model", code="model_not_found",
            )  # fmt: skip

    # Answers of the model.

    def _generate(self, connection: Connection, asked: Asked, form: Form, param: str) -> None:
        """Wait for a turn, start the answer and send it. Whoever leaves cancels it."""
        self._check_name(asked.model)
        with Line(connection.connection) as line:
            turn = self.gate.enter(lambda: line.put(_TURN))
            try:
                line.get()
                generation = self.served.start(
                    lambda model: _begin(model, asked), line.put, lambda: self.gate.leave(turn)
                )
            except Qwen3Error as error:
                self.gate.leave(turn)
                raise told(error, param) from error
            except BaseException:
                self.gate.leave(turn)
                raise
            try:
                events = _events(line, generation, asked)
                send = _stream if asked.streams else _whole
                connection.about = _summary(send(connection, events, asked, form))
            finally:
                generation.cancel()  # nothing, if it has ended


def _wanted_headers(connection: Connection) -> str:
    """All that a page of a known site wants to send; OpenAI's own client has a dozen."""
    wanted = connection.headers.get("Access-Control-Request-Headers") or ""
    named = [name.strip() for name in wanted.split(",")]
    sound = all(re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) for name in named)
    return ", ".join(named) if sound else "Authorization, Content-Type"


def _begin(model: ChatModel, asked: Asked) -> Generation:
    return model.stream(asked.prompt, **asked.wishes)


def _events(line: Line, generation: Generation, asked: Asked) -> Iterator[Event]:
    """The events of an answer. Where one call is all, what comes after it is left out.

    Raises:
        ApiError: the answer failed, or the server ends.
        Gone: the client has left.
    """
    text, call = list[str](), None
    while True:
        event: Event = line.get()
        if isinstance(event, Failed):
            raise told(event.error)
        if isinstance(event, Done):
            yield Done(_with_one_call(event.reply, "".join(text), call))
            return
        if call is not None:
            continue
        if isinstance(event, TextDelta):
            text.append(event.text)
        if isinstance(event, ToolCall) and asked.one_call:
            call = event
            generation.cancel()
        yield event


def _with_one_call(reply: Reply, text: str, call: ToolCall | None) -> Reply:
    if call is not None:
        return replace(reply, text=text, tool_calls=(call,), finish_reason="stop")
    if reply.finish_reason == "cancelled":  # and not by us
        raise ApiError(503, "the server is ending", code="ending")
    return reply


def _whole(connection: Connection, events: Iterator[Event], asked: Asked, form: Form) -> Reply:
    for event in events:
        if isinstance(event, Done):
            connection.send(200, form.whole(event.reply))
            return event.reply
        for _ in form.pieces(event):
            pass
    raise AssertionError("an answer ends with Done")


def _stream(connection: Connection, events: Iterator[Event], asked: Asked, form: Form) -> Reply:
    """The head goes out with the first event, so that a fault before it has its own status."""
    event = next(events)
    connection.open_stream()
    try:
        for piece in form.opening():
            connection.send_piece(piece)
        while not isinstance(event, Done):
            if isinstance(event, Prefill):
                read = f"{event.done} of {event.total} tokens of the prompt are read"
                connection.send_comment(read)
            for piece in form.pieces(event):
                connection.send_piece(piece)
            event = next(events)
    except ApiError as error:
        error.last_pieces = tuple(form.failing(error))
        raise
    for last in form.closing(event.reply, tells_usage=asked.tells_usage):
        connection.send_piece(last)
    connection.end_stream()
    return event.reply


def _summary(reply: Reply) -> str:
    counts = usage(reply)
    tokens = f"{counts['prompt_tokens']} + {counts['completion_tokens']} tokens"
    return f"{tokens}, {reply.finish_reason}"
