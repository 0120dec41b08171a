"""Answers as OpenAI writes them: whole, and in the pieces of a stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from qwen3_mlx.events import Event, Reply, TextDelta, ThinkingDelta, TokenLogprob, ToolCall
from qwen3_mlx_app.server.faults import ApiError

__all__ = ["ChatForm", "Form", "TextForm", "logprobs", "more", "usage"]

_Object = dict[str, Any]
_Piece = _Object | str  # a word such as [DONE] is a piece, too
# A text that ran out of time or went round in circles was cut, as one that got too long.
_REASONS = {"stop": "stop", "length": "length", "timeout": "length", "repetition": "length"}


class Form(Protocol):
    """How one answer is written. `pieces` is called for every event but the last."""

    def opening(self) -> Iterator[_Object]:
        """What a stream begins with."""

    def pieces(self, event: Event) -> Iterator[_Object]:
        """What an event adds to a stream."""

    def closing(self, reply: Reply, *, tells_usage: bool = False) -> Iterator[_Piece]:
        """What a stream ends with."""

    def whole(self, reply: Reply) -> _Object:
        """The answer in one object."""

    def failing(self, error: ApiError) -> Iterator[_Object]:
        """What a stream ends with that has begun and cannot go on."""


class _Head:
    """What every object of an answer has."""

    def __init__(self, model: str, prefix: str, kind: str, streamed: str) -> None:
        self._kind, self._streamed = kind, streamed
        self._head = {
            "id": f"{prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }

    def _piece(self, choices: Sequence[_Object], **more: Any) -> _Object:
        return {**self._head, "object": self._streamed, "choices": list(choices), **more}

    def _end(self, reply: Reply, tells_usage: bool) -> Iterator[_Piece]:
        if tells_usage:
            yield self._piece([], usage=usage(reply))
        yield "[DONE]"

    def failing(self, error: ApiError) -> Iterator[_Object]:
        yield error.body()

    def _whole(self, choice: _Object, reply: Reply) -> _Object:
        told = {"usage": usage(reply), "qwen3_mlx": more(reply)}
        return {**self._head, "object": self._kind, "choices": [choice], **told}


class ChatForm(_Head):
    """Answers of /v1/chat/completions. A thought is `reasoning_content`, never content.

    A call goes out when it is whole: half of one is never carried out.

    >>> form = ChatForm("tiny")
    >>> form.whole(Reply("Four."))["choices"][0]["message"]["content"]
    'Four.'
    """

    def __init__(self, model: str) -> None:
        super().__init__(model, "chatcmpl", "chat.completion", "chat.completion.chunk")
        self._calls = 0

    def opening(self) -> Iterator[_Object]:
        yield self._delta({"role": "assistant", "content": ""})

    def pieces(self, event: Event) -> Iterator[_Object]:
        match event:
            case ThinkingDelta(text=text):
                yield self._delta({"reasoning_content": text})
            case TextDelta(text=text):
                yield self._delta({"content": text})
            case ToolCall():
                call = _call(event)
                arguments = call["function"].pop("arguments")
                call["function"]["arguments"] = ""
                more = {"index": self._calls, "function": {"arguments": arguments}}
                yield self._delta({"tool_calls": [{"index": self._calls, **call}]})
                yield self._delta({"tool_calls": [more]})
                self._calls += 1

    def closing(self, reply: Reply, *, tells_usage: bool = False) -> Iterator[_Piece]:
        if reply.logprobs is not None:
            yield self._delta({}, logprobs=_chat_logprobs(reply))
        yield self._delta({}, finish_reason=_reason(reply)) | {"qwen3_mlx": more(reply)}
        yield from self._end(reply, tells_usage)

    def whole(self, reply: Reply) -> _Object:
        calls = [_call(call) for call in reply.tool_calls]
        message: _Object = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.thinking:
            message["reasoning_content"] = reply.thinking
        if calls:
            message |= {"content": reply.text or None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": _reason(reply)}
        logprobs = None if reply.logprobs is None else _chat_logprobs(reply)
        return self._whole({**choice, "logprobs": logprobs}, reply)

    def _delta(self, delta: _Object, **more: Any) -> _Object:
        return self._piece([{"index": 0, "delta": delta, "finish_reason": None, **more}])


class TextForm(_Head):
    """Answers of /v1/completions.

    >>> [piece["choices"][0]["text"] for piece in TextForm("tiny").pieces(TextDelta("Four.", 1))]
    ['Four.']
    """

    def __init__(self, model: str) -> None:
        super().__init__(model, "cmpl", "text_completion", "text_completion")

    def opening(self) -> Iterator[_Object]:
        yield from ()

    def pieces(self, event: Event) -> Iterator[_Object]:
        if isinstance(event, TextDelta):
            yield self._piece([_text_choice(event.text, None, None)])

    def closing(self, reply: Reply, *, tells_usage: bool = False) -> Iterator[_Piece]:
        choice = _text_choice("", _reason(reply), _text_logprobs(reply))
        yield self._piece([choice], qwen3_mlx=more(reply))
        yield from self._end(reply, tells_usage)

    def whole(self, reply: Reply) -> _Object:
        return self._whole(_text_choice(reply.text, _reason(reply), _text_logprobs(reply)), reply)


def usage(reply: Reply) -> _Object:
    """The counts of tokens, in OpenAI's names; a thought is part of the completion.

    >>> usage(Reply("Four."))["total_tokens"]
    0
    """
    counted = reply.usage
    said = counted.thinking_tokens + counted.answer_tokens
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": counted.prompt_tokens + said,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counted.thinking_tokens},
    }


def _reason(reply: Reply) -> str:
    if reply.tool_calls and reply.finish_reason == "stop":
        return "tool_calls"
    return _REASONS.get(reply.finish_reason, "length")


def more(reply: Reply) -> _Object:
    """What OpenAI has no words for.

    >>> more(Reply("Four.", finish_reason="repetition"))
    {'finish_reason': 'repetition'}
    """
    told: _Object = {"finish_reason": reply.finish_reason}
    if reply.thought_ended_by:
        told["thought_ended_by"] = reply.thought_ended_by
    if reply.notices:
        told["notices"] = list(reply.notices)
    if reply.fits is not None:
        told["fits"] = reply.fits
    return told


def _call(call: ToolCall) -> _Object:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _of_the_answer(reply: Reply) -> Sequence[TokenLogprob]:
    """The tokens of the answer; those of the thought come before them."""
    said, count = reply.logprobs or (), reply.usage.answer_tokens
    answer = said[len(said) - count :] if count else ()
    if answer and answer[0].text.isspace() and not reply.text.startswith(answer[0].text):
        return answer[1:]  # what parts it from the thought
    return answer


def logprobs(reply: Reply) -> list[_Object]:
    """The tokens of the answer with their log probabilities.

    >>> logprobs(Reply("Four."))
    []
    """
    return [_token(each) for each in _of_the_answer(reply)]


def _chat_logprobs(reply: Reply) -> _Object:
    return {"content": logprobs(reply), "refusal": None}


def _token(token: TokenLogprob) -> _Object:
    top = [_entry(text, logprob) for _, text, logprob in token.top]
    return {**_entry(token.text, token.logprob), "top_logprobs": top}


def _entry(text: str, logprob: float) -> _Object:
    """A token that holds a part of a letter has no text of its own, and so no bytes here."""
    known = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": known}


def _text_choice(text: str, reason: str | None, logprobs: _Object | None) -> _Object:
    return {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}


def _text_logprobs(reply: Reply) -> _Object | None:
    if reply.logprobs is None:
        return None
    said, offsets, place = _of_the_answer(reply), [], 0
    for token in said:
        offsets.append(place)
        place += len(token.text)
    return {
        "tokens": [token.text for token in said],
        "token_logprobs": [token.logprob for token in said],
        "top_logprobs": [{text: value for _, text, value in token.top} for token in said],
        "text_offset": offsets,
    }
