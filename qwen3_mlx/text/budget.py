"""How a thought is ended from outside: the ids that do it, and where in the text they go.

Qwen's technical report (arXiv 2505.09388, section 4.3) ends a thought that has used up its
budget with a sentence, after which the model answers from what it has thought. The model
was not trained for it; that it works emerged from training for both modes. A bare `</think>`
in the middle of a sentence would be something that the model never saw.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["EARLY_STOP", "EarlyStop", "empty_thought"]

#: The sentence of the report, with the spacing of Qwen's documentation; 24 tokens.
EARLY_STOP = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the"
    " thinking directly now.\n</think>\n\n"
)
_MOST_CUT = 3  # tokens: an incomplete character of UTF-8 has at most three bytes
_MOST_AGAIN = 8


class EarlyStop:
    """The early stop in one tokenizer's ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.ids = tokenizer.encode(EARLY_STOP)

    def __len__(self) -> int:
        """How many ids to keep room for; `after` gives no more."""
        return len(self.ids) + _MOST_AGAIN

    def after(self, last: Sequence[int], held: int) -> tuple[list[int], int]:
        """The ids to put into the text, and how many of the last tokens to forget first.

        `last` are the last drawn tokens and `held` the bytes at their end that are only the
        beginning of a character. A token that holds more than such bytes is forgotten too,
        and what it said before them is said again by the ids.
        """
        if not held:
            return self.ids, 0
        tail = b""
        for cut, token in enumerate(reversed(last[-_MOST_CUT:]), start=1):
            tail = self._tokenizer.bytes_of(token) + tail
            if len(tail) >= held and tail[0] & 0xC0 != 0x80:
                again = self._tokenizer.encode_plain(tail[:-held].decode())
                return ([*again, *self.ids], cut) if len(again) <= _MOST_AGAIN else (self.ids, 0)
        return self.ids, 0  # bytes that are no character: they are shown as U+FFFD


def empty_thought(prompt: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """A prompt that ends in an open think block, with the block closed and empty.

    As the templates of the hybrid models write it for a model that shall not think.
    """
    opening = tokenizer.encode("<think>")
    ids = list(prompt)
    for end in range(len(ids), len(opening) - 1, -1):
        if ids[end - len(opening) : end] == opening:
            return [*ids[:end], *tokenizer.encode("\n\n</think>\n\n")]
    raise ValueError("the prompt opens no thought")
