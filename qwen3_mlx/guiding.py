"""From a wish for a form to what steers one answer; keeps the vocabulary that this takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from qwen3_mlx.errors import OptionError
from qwen3_mlx.grammar.grammar import Grammar
from qwen3_mlx.grammar.guide import AnswerGuide
from qwen3_mlx.grammar.vocabulary import Vocabulary
from qwen3_mlx.steering import Steering
from qwen3_mlx.text.thinking import ThinkingParser
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["Guides"]

_SPARE, _ANSWER_ROOM = 8, 512


class Guides:
    """Makes the steering of a model's answers.

    Args:
        tokenizer: the model's.
        eos: ids that end a text.
    """

    def __init__(self, tokenizer: Tokenizer, eos: Collection[int]) -> None:
        self._tokenizer, self._eos = tokenizer, [id for id in eos if id < tokenizer.size]
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None

    def free(self) -> Steering:
        """For an answer that may say anything."""
        return Steering.free(self._tokenizer)

    def answer(
        self,
        grammar: Grammar,
        *,
        parser: ThinkingParser | None,
        thinks: bool,
        most: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Steering:
        """For an answer that keeps to a grammar.

        Args:
            parser: tells thought from answer; None where there are no thoughts.
            thinks: whether a thought comes first.
            most: tokens that may be drawn, thought included.
            meanwhile: called once while the vocabulary is being built.

        Raises:
            GrammarError: the grammar cannot be used.
            OptionError: there is no room for any answer that fits.
        """
        vocabulary = self._started(meanwhile)
        guide = AnswerGuide(vocabulary.matchers(grammar), grammar, self._tokenizer)
        if not guide.make_room(most):
            raise OptionError(
                f"the shortest answer that fits the grammar has {guide.needs} tokens and "
                f"{most} may be said: raise max_tokens"
            )
        steering = Steering.free(self._tokenizer)
        steering.guide, steering.parser = guide, parser
        if parser is not None and not thinks:
            parser.close()
        elif parser is not None:
            steering.opening = self._opening(parser)
            steering.reserve = max(guide.needs + _SPARE, min(_ANSWER_ROOM, most // 2))
        return steering

    def _opening(self, parser: ThinkingParser) -> int | None:
        if self._tokenizer.think_open_id is None or self._tokenizer.think_close_id is None:
            raise OptionError(
                "this tokenizer has no tokens for <think> and </think>, so it cannot be told where "
                "the answer begins: pass thinking=False with a grammar"
            )
        return None if parser.inside else self._tokenizer.think_open_id

    def _started(self, meanwhile: Callable[[], None]) -> Vocabulary:
        with self._lock:
            if self._vocabulary is not None:
                return self._vocabulary
            self._vocabulary = Vocabulary(self._tokenizer, self._eos)
            self._vocabulary.start()
        meanwhile()
        return self._vocabulary
