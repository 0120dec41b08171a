"""A tokenizer as llguidance needs it: every token's bytes, sorted into a tree.

For Qwen3's 151,669 tokens that takes most of a second, so it happens on a thread of its own,
begun when the first grammar is asked for and never for plain answers. A second vocabulary,
of the 256 bytes alone, is for looking ahead: its masks cost microseconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from qwen3_mlx.errors import GrammarError
from qwen3_mlx.grammar.ending import quick_ending
from qwen3_mlx.grammar.grammar import Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Matchers", "Vocabulary"]

_END = 256  # of the byte vocabulary
_MOST_COMPILED = 64


class Matchers(NamedTuple):
    """A grammar at its start, over tokens and over bytes.

    `words` are texts of the grammar that an ending may need, `ending` is a short text that fits;
    None if none was found.
    """

    tokens: LLMatcher
    single: LLMatcher
    words: tuple[bytes, ...]
    ending: bytes | None


class Vocabulary:
    """The vocabulary of one tokenizer; grammars are compiled against it and kept.

    Args:
        tokenizer: whose tokens they are; none of its control tokens is ever part of a text.
        eos: ids that end a text.

    Raises:
        GrammarError: there are no such ids.
    """

    def __init__(self, tokenizer: Tokenizer, eos: Collection[int]) -> None:
        if not eos:
            raise GrammarError(
                "this model names no token that ends a text, and a grammar needs one: put its "
                "eos_token_id into generation_config.json"
            )
        self._tokenizer, self._eos = tokenizer, sorted(eos)
        self._lock = threading.Lock()
        self._built: Future[tuple[LLTokenizer, LLTokenizer]] | None = None
        self._compiled: OrderedDict[Grammar, Matchers] = OrderedDict()

    def start(self) -> None:
        """Begin to build, on a thread of its own; returns at once."""
        self._future()

    def matchers(self, grammar: Grammar) -> Matchers:
        """The grammar at its start, for one answer; waits until the vocabulary is built.

        Raises:
            GrammarError: the grammar cannot be used.
        """
        source = None if grammar in self._compiled else grammar.compiled()
        tokens, single_bytes = self._future().result()
        with self._lock:
            made = self._compiled.get(grammar)
            if made is None:
                source = source or grammar.compiled()
                made = _compile(source, grammar.words, tokens, single_bytes)
                self._compiled[grammar] = made
            self._compiled.move_to_end(grammar)
            while len(self._compiled) > _MOST_COMPILED:
                self._compiled.popitem(last=False)
            return made._replace(tokens=made.tokens.deep_copy(), single=made.single.deep_copy())

    def _future(self) -> Future[tuple[LLTokenizer, LLTokenizer]]:
        with self._lock:
            if self._built is None:
                future: Future[tuple[LLTokenizer, LLTokenizer]] = Future()
                self._built = future
                threading.Thread(
                    target=self._build, args=(future,), name="qwen3-mlx grammar", daemon=True
                ).start()
            return self._built

    def _build(self, future: Future[tuple[LLTokenizer, LLTokenizer]]) -> None:
        try:
            from llguidance import LLTokenizer

            tokens = LLTokenizer(_Tokens(self._tokenizer, self._eos), eos_token=self._eos)  # type: ignore[arg-type]
            single_bytes = LLTokenizer(_Bytes(), slices=[])  # type: ignore[arg-type]
            future.set_result((tokens, single_bytes))
        except BaseException as error:
            future.set_exception(error)


class _Tokens:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, eos: list[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos[0]
        self.tokens = [tokenizer.bytes_of(id, skip_special=False) for id in range(tokenizer.size)]
        self.special_token_ids = sorted(tokenizer.control_tokens.values())

    def __call__(self, text: str | bytes) -> list[int]:
        text = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return self._tokenizer.encode_plain(text)


class _Bytes:
    """The 256 bytes and an end."""

    is_tokenizer_wrapper = True
    bos_token_id, eos_token_id = None, _END

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(256)), b"<end>"]
        self.special_token_ids = [_END]

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _compile(
    source: str, words: tuple[bytes, ...], tokens: LLTokenizer, single_bytes: LLTokenizer
) -> Matchers:
    from llguidance import LLMatcher

    over_tokens, over_bytes = (
        LLMatcher(each, source, log_level=0) for each in (tokens, single_bytes)
    )
    for matcher in (over_tokens, over_bytes):
        if matcher.is_error():
            raise GrammarError(f"this grammar cannot be used: {matcher.get_error()}")
    return Matchers(over_tokens, over_bytes, words, quick_ending(over_bytes, words))
