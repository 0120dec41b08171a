"""The shortest way to bring a text to an end that its grammar accepts.

llguidance says which bytes may come next, not how far the end is, so this searches, over
bytes. First greedily: what closes something goes first, and of equals the one that leads to
the state seen least, which leaves circles. That finds a short ending in some dozens of steps.
Where it must be shorter, the search goes by length, and of several ways to the same state one
is enough. Words of the grammar itself ("foo" of /.*foo/) are tried as a whole, since no single
one of their letters shows that it leads anywhere.
"""

from __future__ import annotations

import heapq
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["quick_ending", "shortest_ending"]

_MOST_STEPS, _MOST_STATES = 600, 300
_WIDE = 48  # so many bytes are allowed inside strings only
_ALIKE = 3  # letters, or digits, that are tried where more are allowed
_PATIENCE = 8  # times in the same state before a less likely byte is tried


class _Edge(NamedTuple):
    order: int
    text: bytes


class _State(NamedTuple):
    """After an edge and what it forces; states with the same mark are taken to be the same."""

    matcher: LLMatcher
    forced: bytes
    mask: bytes

    @property
    def mark(self) -> bytes:
        return self.mask + self.forced


def quick_ending(matcher: LLMatcher, words: tuple[bytes, ...] = ()) -> bytes | None:
    """A short ending of the text so far, b"" if it is whole; None if the search gave up.

    Args:
        matcher: over single bytes; it is left as it was.
        words: texts of the grammar that may have to occur.
    """
    state = _state(matcher.deep_copy())
    text = bytearray(state.forced)
    seen: Counter[bytes] = Counter()
    loops: dict[bytes, _Edge] = {}
    for _ in range(_MOST_STEPS):
        if state.matcher.is_accepting():
            return bytes(text)
        found = _best(state, words, seen, loops)
        if found is None:
            return None
        edge, state = found
        text += edge.text + state.forced
    return None


def shortest_ending(matcher: LLMatcher, words: tuple[bytes, ...] = ()) -> bytes | None:
    """The shortest ending of the text so far, as far as the search reaches.

    It visits 300 states at most; then the quick ending has to do. None if there is none.
    """
    quick = quick_ending(matcher, words)
    if quick == b"":
        return quick
    begin, number = _state(matcher.deep_copy()), 0
    queue = [(len(begin.forced), number, begin.forced, begin)]
    seen: set[tuple[int, bytes]] = set()
    for _ in range(_MOST_STATES):
        if not queue or (quick is not None and queue[0][0] >= len(quick)):
            break
        length, _number, text, state = heapq.heappop(queue)
        if state.matcher.is_accepting():
            return text
        for edge in _edges(state.mask, words):
            child = _follow(state, edge)
            if child is None or (length, child.mark) in seen:
                continue
            seen.add((length, child.mark))
            number += 1
            longer = text + edge.text + child.forced
            heapq.heappush(queue, (len(longer), number, longer, child))
    return quick


def _best(
    state: _State, words: tuple[bytes, ...], seen: Counter[bytes], loops: dict[bytes, _Edge]
) -> tuple[_Edge, _State] | None:
    """The edge to take, by its order and by how often the state behind it was seen."""
    if state.mark in loops:
        edge = loops[state.mark]
        child = _follow(state, edge)
        return None if child is None else (edge, child)
    best: tuple[int, int, int, _Edge, _State] | None = None
    same = True
    for place, edge in enumerate(_edges(state.mask, words)):
        child = _follow(state, edge)
        if child is None:
            continue
        same = same and child.mark == state.mark
        times = seen[child.mark]
        score = (edge.order + min(times // _PATIENCE, 5), times, place, edge, child)
        if best is None or score[:3] < best[:3]:
            best = score
        if times == 0 and edge.order < 6:
            same = False
            break
    if best is None:
        return None
    *_, edge, child = best
    seen[child.mark] += 1
    if same:  # wherever it goes nothing changes: something is being counted
        loops[state.mark] = edge
    return edge, child


def _state(matcher: LLMatcher) -> _State:
    """Consume what can only come next, unless the text is whole already."""
    forced = b"" if matcher.is_accepting() else matcher.compute_ff_bytes()
    if forced:
        matcher.consume_tokens(list(forced))
    return _State(matcher, forced, b"" if matcher.is_accepting() else matcher.compute_bitmask())


def _follow(state: _State, edge: _Edge) -> _State | None:
    ids = list(edge.text)
    child = state.matcher.deep_copy()
    if len(ids) > 1 and child.validate_tokens(ids) < len(ids):
        return None
    if not child.consume_tokens(ids):
        return None
    made = _state(child)
    return None if child.is_error() else made


@lru_cache(maxsize=512)
def _edges(mask: bytes, words: tuple[bytes, ...]) -> list[_Edge]:
    """What may come next, what closes something first; of many like each other only a few."""
    allowed = _bytes_of(mask)
    wide = len(allowed) > _WIDE
    tried = [_Edge(5, each) for each in words if each[0] in allowed]
    alike: Counter[int] = Counter()
    for byte in allowed:
        order = _order(byte, wide)
        alike[order] += 1
        if order < 2 or alike[order] <= _ALIKE or len(allowed) <= 12:
            tried.append(_Edge(order, bytes([byte])))
    return sorted(tried)


def _bytes_of(mask: bytes) -> list[int]:
    return [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]


def _order(byte: int, wide: bool) -> int:
    """How soon a byte is tried: closers, separators, digits, letters, the rest, openers."""
    char = chr(byte)
    if char == '"' or (char in "}]" and not wide):
        return 0
    if char == "," and not wide:
        return 1
    if byte >= 0x80:
        return 10
    if char == "\\" or byte < 0x20:
        return 9
    if char in "[{":
        return 6
    if char.isalnum():
        return 2 if char.isdigit() else 3 if char.islower() else 4
    return 5
