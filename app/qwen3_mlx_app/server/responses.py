"""Answers of /v1/responses: a thought, a message and calls as items, each told from its beginning.

The whole answer is what its stream ends with: both come from the same items.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from qwen3_mlx.events import Event, Reply, TextDelta, ThinkingDelta, ToolCall
from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.forms import logprobs, more, usage

__all__ = ["ResponseForm"]

_Object = dict[str, Any]
#: Prefix of an item's id, kind of its one part, and what its events are called.
_THOUGHT = ("rs", "reasoning_text", "response.reasoning_text")
_WORDS = ("msg", "output_text", "response.output_text")
#: Thoughts and messages have one part.
_ONE: _Object = {"content_index": 0}


class ResponseForm:
    """An answer of /v1/responses. A call goes out when it is whole, as everywhere.

    Args:
        model: its name.
        echo: fields of the request that the answer repeats.
        notices: what the client should hear beside the library's own.
        spaces: the namespaces of functions, by their names.

    >>> form = ResponseForm("tiny", {})
    >>> said = [piece["type"] for piece in form.pieces(TextDelta("Four.", 1))]
    >>> said[-1], form.whole(Reply("Four."))["output"][0]["content"][0]["text"]
    ('response.output_text.delta', 'Four.')
    """

    def __init__(
        self,
        model: str,
        echo: Mapping[str, Any],
        notices: Sequence[str] = (),
        spaces: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._notices, self._spaces, self._number = list(notices), spaces, 0
        self._items: list[_Object] = []
        self._open: tuple[str, str, str] | None = None  # the kind of the last item, while it grows
        self._text = list[str]()  # of the last item
        self._head = {
            "id": f"resp_{secrets.token_hex(12)}", "object": "response",
            "created_at": int(time.time()), "model": model, "background": False, **echo,
        }  # fmt: skip

    def opening(self) -> Iterator[_Object]:
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response("in_progress"))

    def pieces(self, event: Event) -> Iterator[_Object]:
        match event:
            case ThinkingDelta(text=text):
                yield from self._grow(_THOUGHT, text)
            case TextDelta(text=text):
                yield from self._grow(_WORDS, text)
            case ToolCall():
                yield from self._call(event)

    def closing(self, reply: Reply, *, tells_usage: bool = False) -> Iterator[_Object]:
        """The usage is always told."""
        status = "completed" if reply.finish_reason == "stop" else "incomplete"
        yield from self._close(status, reply)
        yield self._event(f"response.{status}", response=self._ended(reply, status))

    def whole(self, reply: Reply) -> _Object:
        """The answer in one object, after its events went through `pieces`."""
        response: _Object = list(self.closing(reply))[-1]["response"]
        return response

    def failing(self, error: ApiError) -> Iterator[_Object]:
        """The end of a stream that has begun and cannot go on."""
        yield from self._close("incomplete", None)
        told = {"code": error.code or error.kind, "message": error.message}
        yield self._event("response.failed", response=self._response("failed") | {"error": told})

    # Items.

    def _grow(self, kind: tuple[str, str, str], text: str) -> Iterator[_Object]:
        prefix, part, name = kind
        if self._open != kind:
            yield from self._close("completed", None)
            if kind is _THOUGHT:
                yield self._add(prefix, {"type": "reasoning", "summary": [], "content": []})
            else:
                yield self._add(prefix, {"type": "message", "role": "assistant", "content": []})
            self._open = kind
            yield self._event("response.content_part.added", **_ONE, part=_part(part, ""))
        self._text.append(text)
        yield self._event(f"{name}.delta", **_ONE, delta=text, **_no_logprobs(part))

    def _close(self, status: str, reply: Reply | None) -> Iterator[_Object]:
        """End the item that grows, if one does; the last one of an answer knows of logprobs."""
        if self._open is None:
            return
        _, kind, name = self._open
        part = _part(kind, "".join(self._text))
        told = _no_logprobs(kind)
        if told and reply is not None and reply.logprobs is not None:
            told = {"logprobs": logprobs(reply)}
        part |= told
        yield self._event(f"{name}.done", **_ONE, text=part["text"], **told)
        yield self._event("response.content_part.done", **_ONE, part=part)
        self._items[-1] |= {"content": [part], "status": status}
        self._open, self._text = None, []
        yield self._event("response.output_item.done", item=dict(self._items[-1]))

    def _call(self, call: ToolCall) -> Iterator[_Object]:
        yield from self._close("completed", None)
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        about = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": ""}
        if call.name in self._spaces:
            about["namespace"] = self._spaces[call.name]
        yield self._add("fc", about)
        name = "response.function_call_arguments"
        yield self._event(f"{name}.delta", delta=arguments)
        yield self._event(f"{name}.done", arguments=arguments, name=call.name)
        self._items[-1] |= {"arguments": arguments, "status": "completed"}
        yield self._event("response.output_item.done", item=dict(self._items[-1]))

    def _add(self, prefix: str, item: _Object) -> _Object:
        new = {"id": f"{prefix}_{secrets.token_hex(12)}", "status": "in_progress", **item}
        self._items.append(new)
        return self._event("response.output_item.added", item=dict(new))

    def _event(self, kind: str, **told: Any) -> _Object:
        """One event; all but those of the whole answer say which item they are about."""
        about: _Object = {"type": kind, "sequence_number": self._number}
        self._number += 1
        if "response" not in told:
            about["output_index"] = len(self._items) - 1
            if "item" not in told:
                about["item_id"] = self._items[-1]["id"]
        return about | told

    # The answer.

    def _response(self, status: str) -> _Object:
        nothing = {"error": None, "incomplete_details": None, "usage": None}
        return {**self._head, "status": status, **nothing, "output": list(self._items)}

    def _ended(self, reply: Reply, status: str) -> _Object:
        counted = usage(reply)
        told = more(reply)
        if self._notices:
            told["notices"] = [*self._notices, *told.get("notices", ())]
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return self._response(status) | {
            "incomplete_details": cut,
            "completed_at": int(time.time()),
            "usage": {
                "input_tokens": counted["prompt_tokens"],
                "input_tokens_details": counted["prompt_tokens_details"],
                "output_tokens": counted["completion_tokens"],
                "output_tokens_details": counted["completion_tokens_details"],
                "total_tokens": counted["total_tokens"],
            },
            "qwen3_mlx": told,
        }


def _part(kind: str, text: str) -> _Object:
    noted: _Object = {"annotations": []} if kind == "output_text" else {}
    return {"type": kind, "text": text, **noted, **_no_logprobs(kind)}


def _no_logprobs(kind: str) -> _Object:
    return {"logprobs": []} if kind == "output_text" else {}
