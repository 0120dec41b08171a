"""A guide says what may come next in one answer, and how the answer can still be ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.grammar.ending import quick_ending, shortest_ending

if TYPE_CHECKING:
    from qwen3_mlx.grammar.grammar import Grammar
    from qwen3_mlx.grammar.vocabulary import Matchers
    from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["AnswerGuide", "Guide"]

# A token has several bytes, and each of them can open something that has to be closed.
_TOKEN_BYTES = 4


class Guide(Protocol):
    """Follows the tokens of one answer. All calls come from one thread."""

    @property
    def whole(self) -> bool:
        """Whether all of the answer has to fit, not only parts of it."""

    @property
    def demands(self) -> bool:
        """Whether there must be an answer, so that the text cannot end with its thought."""

    def allowed(self) -> bytes | None:
        """What may come next, one bit for each id, the lowest first; None for anything."""

    def take(self, token: int, left: int) -> bytes | None:
        """The next token, after which `left` more may follow.

        An answer that could not be ended any more forgets this token and ends with the bytes
        that are returned, in its place.
        """

    def frees(self, token: int) -> bool:
        """Whether with this token the answer becomes one that need not fit: it opens a call."""

    def end(self) -> bytes | None:
        """End here: bytes that make the answer whole; None where there are none."""

    @property
    def done(self) -> bool:
        """Whether nothing can follow."""

    @property
    def fits(self) -> bool:
        """Whether the text so far is whole."""

    @property
    def error(self) -> GrammarError | None:
        """What has gone wrong, if something has."""


class AnswerGuide:
    """Keeps a whole answer to a grammar, and able to end.

    The invariant: after each token there is an ending that fits into what is left. To search
    for it costs about a millisecond, so it is looked for again only when the tokens since
    could have made it too long.

    Args:
        matchers: the grammar at its start.
        grammar: where the matchers are from.
        tokenizer: counts the tokens of an ending.
    """

    whole = demands = True

    def __init__(self, matchers: Matchers, grammar: Grammar, tokenizer: Tokenizer) -> None:
        self._tokens, self._bytes, self._words, self._ending = matchers
        self._growth, self._tokenizer = grammar.growth * _TOKEN_BYTES, tokenizer
        self._slack, self._fresh = 0, True
        self._ended = False
        self.text = bytearray()
        self.error: GrammarError | None = None

    @property
    def needs(self) -> int:
        """Tokens of the ending that is known."""
        return self._count(self._ending or b"")

    @property
    def fits(self) -> bool:
        return self.error is None and (self._ended or self._tokens.is_accepting())

    @property
    def done(self) -> bool:
        return self._ended or self.error is not None or self._tokens.is_stopped()

    def make_room(self, left: int) -> bool:
        """Before the first token: whether so many tokens are enough for any answer at all."""
        if self._ending is not None and self._count(self._ending) > left:
            self._ending = shortest_ending(self._bytes, self._words)
        self._slack = left - self.needs
        return self._slack >= 0

    def allowed(self) -> bytes | None:
        if self.done:
            return None
        mask = self._tokens.compute_bitmask()
        if self._tokens.is_error():  # a limit of llguidance; the listener hears of it next
            self.error = GrammarError(
                f"the grammar became too complex after {len(self.text):,} bytes of the answer: "
                f"{self._tokens.get_error()}"
            )
            return None
        return bytes(mask)

    def take(self, token: int, left: int) -> bytes | None:
        if self.done:
            return None
        data = self._tokenizer.bytes_of(token, skip_special=False)
        known = self._ending if self._fresh else None
        if not self._tokens.consume_token(token):  # not drawn by the mask, so never part of it
            return self._end(quick_ending(self._bytes, self._words) if known is None else known)
        self._bytes.consume_tokens(list(data))
        if self._ending is not None and not self._can_end(data, left) and known is not None:
            return self._end(known)
        self.text += data
        return None

    def frees(self, token: int) -> bool:
        return False

    def end(self) -> bytes | None:
        return self._end(quick_ending(self._bytes, self._words))

    def _can_end(self, data: bytes, left: int) -> bool:
        """Whether there is an ending after this token too."""
        if self._fresh and data and (self._ending or b"").startswith(data):
            rest = (self._ending or b"")[len(data) :]
            if self._count(rest) > left:  # it was fewer tokens as a whole
                return False
            self._ending = rest
            return True
        if self._fresh:  # a thought may have used what there was when `make_room` counted
            self._slack = min(self._slack, left + 1 - self.needs)
        self._slack -= self._growth
        if self._slack > self._growth:
            self._fresh = False
            return True
        for search in (quick_ending, shortest_ending):
            ending = search(self._bytes, self._words)
            if ending is not None and (count := self._count(ending)) <= left:
                self._ending, self._slack, self._fresh = ending, left - count, True
                return True
        return False

    def _end(self, ending: bytes | None) -> bytes | None:
        """Write the ending; without one the answer just stops, and does not fit."""
        if ending is None:
            self.error = GrammarError("no ending of this answer was found that fits its grammar")
        self._ended = ending is not None
        self.text += ending or b""
        return ending

    def _count(self, data: bytes) -> int:
        """The tokens of a text that may begin within a character."""
        return len(self._tokenizer.encode_plain(data.decode("utf-8", "replace"))) if data else 0
