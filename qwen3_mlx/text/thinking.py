"""Thought and answer told apart while they stream: a pure state machine.

Qwen3 writes ``<think>\\n…\\n</think>\\n\\nanswer``. As in Qwen's own quickstart the two halves
are cut at the tags and stripped of newlines on both sides, so the thought is ``…`` and the
answer is ``answer``. While streaming, trailing newlines are held back until more text proves
that they belong, so that everything emitted is a prefix of the final thought or answer.

Rules, in the order in which a reply meets them:

1. Before anything else, blank space and ``<think>`` open a thought; ``</think>`` alone is an
   empty one; any other text is the answer, and there is no thought.
2. If the prompt opened the block (2507-Thinking ends its prompt with ``<think>\\n``), the
   reply begins inside the thought, and a repeated ``<think>`` at its start is dropped.
3. The first ``</think>`` ends the thought. Without one, everything is thought.
4. The answer has no control tokens of thinking in it: later ones are dropped. Text that
   merely spells a tag, by ordinary tokens, stays.

A tag is known by its token id. Only for tokenizers that lack a single token for it, the tags
are searched for in the text, however it is cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from qwen3_mlx.text.messages import flatten_content
from qwen3_mlx.text.stops import overlap

if TYPE_CHECKING:
    from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = [
    "Segment",
    "ThinkingParser",
    "prompt_opens_block",
    "soft_switch",
    "strip_thinking",
]

OPEN, CLOSE = "<think>", "</think>"
Kind: TypeAlias = Literal["thinking", "text"]


class Segment(NamedTuple):
    """A piece of the thought or of the answer; never empty."""

    kind: Kind
    text: str


class ThinkingParser:
    """Feed it what the stream decoder returns; it says what is thought and what is answer.

    `open_id` and `close_id` are the tokenizer's, or None where it has no such token: then the
    tags are found in the text. `prompt_opened_block` is `prompt_opens_block` of the prompt.

    >>> parser = ThinkingParser(None, None)
    >>> pieces = ["<thi", "nk>\\nSum", " it.\\n", "</think>\\n\\n", "It is 4."]
    >>> [tuple(s) for piece in pieces for s in parser.feed(None, piece)] + parser.finish()
    [('thinking', 'Sum'), ('thinking', ' it.'), ('text', 'It is 4.')]
    """

    def __init__(
        self, open_id: int | None, close_id: int | None, prompt_opened_block: bool = False
    ) -> None:
        by_text = open_id is None or close_id is None
        self._tag_of_id = {} if by_text else {open_id: OPEN, close_id: CLOSE}
        self._by_text = by_text
        self._state: Literal["start", "thought", "answer"] = "start"
        self._at_start = True  # of the reply or of the thought: only blank space so far
        self._pending = ""  # blank space or the beginning of a tag, not yet decided
        self._trim = _Trimmer()
        if prompt_opened_block:
            self._state = "thought"

    @property
    def inside(self) -> bool:
        """Whether the thought is open now, so that the next token is part of it."""
        return self._state == "thought"

    @property
    def closed(self) -> bool:
        """Whether a thought has been there and is over, or the answer has begun."""
        return self._state == "answer"

    def feed(self, token_id: int | None, text: str) -> list[Segment]:
        """Take one token and the text that it completed (see `StreamDecoder.push`)."""
        tag = self._tag_of_id.get(token_id)
        if tag is None:
            return _joined(self._text(text))
        # The text before the tag is a character that the tag cut short.
        segments = self._text(text.removesuffix(tag))
        self._tag(tag)
        self._pending = ""  # at most blank space, which goes with the tag
        return _joined(segments)

    def close(self) -> list[Segment]:
        """End the open thought from outside; what was held back and belongs to it."""
        pending, self._pending = self._pending, ""
        segments = [] if self._at_start and not pending.strip() else self._emit(pending)
        self._tag(CLOSE)
        return _joined(segments)

    def finish(self) -> list[Segment]:
        """The end of the reply, however it came: what was held back and is text after all."""
        pending, self._pending = self._pending, ""
        return _joined(self._emit(pending))

    def _text(self, text: str) -> list[Segment]:
        if self._state == "answer" or not text:
            return self._emit(text)
        self._pending += text
        return self._search_tags() if self._by_text else self._leave_start()

    def _leave_start(self) -> list[Segment]:
        """With tags known by id, text only has to be kept while it is blank at a start."""
        if self._at_start and not self._pending.strip():
            return []
        return self._release(len(self._pending))

    def _search_tags(self) -> list[Segment]:
        segments: list[Segment] = []
        while self._state != "answer":
            tag, place = self._next_tag()
            if tag is None:
                return segments + self._release(place)
            segments += self._release(place)
            self._pending = self._pending[len(tag) :]
            self._tag(tag)
        pending, self._pending = self._pending, ""
        return segments + self._emit(pending)

    def _next_tag(self) -> tuple[str | None, int]:
        """The next tag that counts and its place; or None and how much is surely no tag."""
        if self._at_start:
            blank = len(self._pending) - len(self._pending.lstrip())
            rest = self._pending[blank:]
            for tag in (OPEN, CLOSE):
                if rest.startswith(tag):
                    return tag, blank
            if OPEN.startswith(rest) or CLOSE.startswith(rest):
                return None, 0
        if self._state == "start":
            return None, len(self._pending)
        place = self._pending.find(CLOSE)
        if place >= 0:
            return CLOSE, place
        return None, len(self._pending) - overlap(self._pending, CLOSE)

    def _release(self, length: int) -> list[Segment]:
        """Emit the first `length` pending characters; text that is not blank ends a start."""
        text, self._pending = self._pending[:length], self._pending[length:]
        if self._at_start:
            if not text.strip():
                return []  # blank space before a tag
            self._at_start = False
            if self._state == "start":
                self._state = "answer"
        return self._emit(text)

    def _tag(self, tag: str) -> None:
        """Cross a tag: it opens a thought only at the start, and ends it only once."""
        if tag == OPEN and self._at_start and self._state == "start":
            self._state = "thought"
        elif tag == CLOSE and self._state != "answer":
            self._state, self._trim = "answer", _Trimmer()

    def _emit(self, text: str) -> list[Segment]:
        kind: Kind = "thinking" if self._state == "thought" else "text"
        text = self._trim.push(text)
        return [Segment(kind, text)] if text else []


class _Trimmer:
    """A streaming ``strip("\\n")``: leading newlines go, trailing ones wait."""

    def __init__(self) -> None:
        self._started = False
        self._newlines = ""

    def push(self, text: str) -> str:
        if not self._started:
            text = text.lstrip("\n")
        body = text.rstrip("\n")
        if not body:
            self._newlines += text if self._started else ""
            return ""
        self._started = True
        out, self._newlines = self._newlines + body, text[len(body) :]
        return out


def strip_thinking(text: str) -> tuple[str, str]:
    """Cut a whole reply into thought and answer.

    A reply that closes a block which it did not open is taken to be one whose prompt did.

    >>> strip_thinking("<think>\\n2 and 2\\n</think>\\n\\n4")
    ('2 and 2', '4')
    >>> strip_thinking("2 and 2\\n</think>\\n\\n4")
    ('2 and 2', '4')
    """
    before, close, _ = text.partition(CLOSE)
    opened = bool(close) and OPEN not in before
    parser = ThinkingParser(None, None, prompt_opened_block=opened)
    segments = [*parser.feed(None, text), *parser.finish()]
    thought = "".join(segment.text for segment in segments if segment.kind == "thinking")
    return thought, "".join(segment.text for segment in segments if segment.kind == "text")


def prompt_opens_block(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Whether the prompt ends inside an open think block, so that the reply begins in it.

    Only the last turn counts: it is searched backwards for the first tag.
    """
    open_id, close_id = tokenizer.think_open_id, tokenizer.think_close_id
    turn_id = tokenizer.id_of("<|im_start|>")
    if open_id is None or close_id is None:
        start = next((i for i in reversed(range(len(ids))) if ids[i] == turn_id), 0)
        turn = tokenizer.decode(ids[start:])
        return turn.rfind(OPEN) > turn.rfind(CLOSE)
    for id in reversed(ids):
        if id in (open_id, close_id, turn_id):
            return id == open_id
    return False


# A path or a URL ("src/think", "/think/x") is no switch; a neighbour in Chinese is fine.
_SWITCH = re.compile(r"(?<![A-Za-z0-9_/.:~-])/(no_)?think(?![A-Za-z0-9_/-])")


def soft_switch(messages: Iterable[Mapping[str, Any]]) -> bool | None:
    """The latest /think (True) or /no_think (False) in user and system turns, or None.

    For display only: the 2504 models read the words themselves, other models ignore them.

    >>> soft_switch([{"role": "user", "content": "How many r in strawberry? /no_think"}])
    False
    """
    latest: bool | None = None
    for message in messages:
        if message.get("role") in ("user", "system"):
            for match in _SWITCH.finditer(flatten_content(message.get("content"))):
                latest = match[1] is None
    return latest


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbours of one kind become one segment."""
    joined: list[Segment] = []
    for segment in segments:
        if joined and joined[-1].kind == segment.kind:
            segment = Segment(segment.kind, joined.pop().text + segment.text)
        joined.append(segment)
    return joined
