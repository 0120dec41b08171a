"""Text to token ids and back, for the byte-level BPE tokenizers that Qwen3 checkpoints ship.

Encoding is the `tokenizers` library's. Decoding is ours, by bytes: a byte-level token is
nothing but a few bytes, so a stream of ids is a stream of bytes, and an incremental UTF-8
decoder turns it into text at a constant cost per token, in pieces that are never taken back.
(`tokenizers.decoders.DecodeStream` cannot be flushed and loses what it holds at the end.)

Control tokens such as `<|im_end|>` are spelled with ordinary characters, so there are two
ways to encode: `encode` reads a spelling as the control token (for prompts that a template
wrote) and `encode_plain` never does (for text that a person wrote).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

import tokenizers
from tokenizers import decoders, models

from qwen3_mlx.errors import CheckpointError, PromptError
from qwen3_mlx.text.files import read_json, token_text

__all__ = ["StreamDecoder", "Tokenizer", "ends_every_text"]


class Tokenizer:
    """The tokenizer of one checkpoint.

    `vocab_size` is the model's, which is padded beyond the tokenizer's (151,936 against
    151,669 for Qwen3, which is `size`); the ids between the two have no text and are not drawn.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, vocab_size: int, eos_token: str | None = None
    ) -> None:
        _require_byte_level(backend)
        self._backend = backend
        self._added = {
            id: (token.content, token.special)
            for id, token in backend.get_added_tokens_decoder().items()
        }
        self._control_pattern = _any_of(content for content, _ in self._added.values())
        self._bytes: dict[int, bytes] = {}
        self.vocab_size = vocab_size
        self.size: int = backend.get_vocab_size(with_added_tokens=True)
        self.eos_id = None if eos_token is None else self.id_of(eos_token)
        self.think_open_id = self.id_of("<think>")
        self.think_close_id = self.id_of("</think>")

    @classmethod
    def from_folder(cls, path: str | Path, vocab_size: int) -> Tokenizer:
        """Read tokenizer.json, and from tokenizer_config.json the name of the eos token.

        Raises `CheckpointError` if the file is missing, damaged or not a byte-level BPE.
        """
        folder = Path(path)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise CheckpointError(
                f"{folder} has no tokenizer.json: download the checkpoint again, or copy the file"
                " from the model it was made of"
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception for every fault
            raise CheckpointError(
                f"{file} cannot be read ({error}): download the checkpoint again"
            ) from error
        config = read_json(folder / "tokenizer_config.json")
        return cls(backend, vocab_size, token_text(config.get("eos_token")))

    @property
    def control_tokens(self) -> dict[str, int]:
        """The added tokens by their spelling: the ones that plain text must never become."""
        return {content: id for id, (content, _) in self._added.items()}

    @property
    def closing_ids(self) -> list[int]:
        """What tokenizer.json puts behind every text: <|endoftext|> for Qwen3-Embedding."""
        return list(self._backend.encode("").ids)

    def id_of(self, token: str) -> int | None:
        """The id of a token given by its spelling in tokenizer.json, or None."""
        id: int | None = self._backend.token_to_id(token)
        return id

    def encode(self, text: str) -> list[int]:
        """Encode text in which a control token's spelling stands for the control token."""
        _require_characters(text)
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_plain(self, text: str, keep: Collection[str] = ()) -> list[int]:
        """Encode text that may spell control tokens but never contains one.

        `keep` names control tokens that are meant after all. Without any spelling in the
        text this equals `encode`.
        """
        if not self.spells_control(text, keep):
            return self.encode(text)
        ids: list[int] = []
        for piece in _any_of(keep).split(text):
            id = self.id_of(piece) if piece in keep else None
            ids += self._encode_bare(piece) if id is None else [id]
        return ids

    def spells_control(self, text: str, allowed: Collection[str] = ()) -> bool:
        """Whether `encode` would find a control token in the text other than the allowed."""
        _require_characters(text)
        return any(
            spelling not in allowed
            for form in (text, self._normalized(text))
            for spelling in self._control_pattern.findall(form)
        )

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of the ids; broken UTF-8 becomes U+FFFD, ids without text become ''.

        Special tokens (`<|im_end|>`) are left out unless `skip_special=False`; `<think>` and
        `<tool_call>` are not special in Qwen3's files and stay.
        """
        return b"".join(self.bytes_of(id, skip_special) for id in ids).decode("utf-8", "replace")

    def bytes_of(self, id: int, skip_special: bool = True) -> bytes:
        """What the id adds to the text, as bytes: perhaps only a part of a character."""
        added = self._added.get(id)
        if added is not None:
            content, special = added
            return b"" if special and skip_special else content.encode()
        if (known := self._bytes.get(id)) is None:
            known = self._bytes[id] = self._vocabulary_bytes(id)
        return known

    def stream(self, skip_special: bool = True, keep: Collection[str] = ()) -> StreamDecoder:
        """A new decoder for one stream of ids; `keep` names special tokens to show after all."""
        return StreamDecoder(self, skip_special, {self.id_of(token) for token in keep})

    def _vocabulary_bytes(self, id: int) -> bytes:
        token = self._backend.id_to_token(id) if 0 <= id < self.vocab_size else None
        return b"" if token is None else _token_bytes(token)

    def _normalized(self, text: str) -> str:
        normalizer = self._backend.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _encode_bare(self, text: str) -> list[int]:
        """Encode with the added tokens left out of it: normalise, cut into words, merge."""
        words = self._backend.pre_tokenizer.pre_tokenize_str(self._normalized(text))
        model = self._backend.model
        return [token.id for word, _ in words for token in model.tokenize(word)]


class StreamDecoder:
    """Ids one at a time into text that only ever grows.

    What `push` has returned so far is always a prefix of `Tokenizer.decode` of all ids, and
    with `flush` it is all of it: an incomplete character is held back until its last byte.
    """

    def __init__(
        self, tokenizer: Tokenizer, skip_special: bool = True, keep: Collection[int | None] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special, self._keep = skip_special, keep
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that this id completes, often one word, sometimes ''."""
        skips = self._skip_special and id not in self._keep
        return self._decoder.decode(self._tokenizer.bytes_of(id, skips))

    def push_bytes(self, data: bytes) -> str:
        """The text that these bytes complete."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """The end of the stream: U+FFFD for a character that was never completed, or ''."""
        return self._decoder.decode(b"", final=True)

    def drop(self) -> None:
        """Forget an incomplete character, as if its bytes had never come."""
        self._decoder.reset()

    @property
    def held_bytes(self) -> int:
        """How many bytes of an incomplete character are held back."""
        return len(self._decoder.getstate()[0])


def ends_every_text(folder: Path) -> bool:
    """Whether a folder's tokenizer does, which tells a model that makes vectors of texts.

    False where there is no tokenizer that can be read, which others tell.
    """
    try:
        return bool(Tokenizer.from_folder(folder, 0).closing_ids)
    except CheckpointError:
        return False


@lru_cache(maxsize=1)
def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: a printable character for each byte.

    The 188 bytes that are printable in Latin-1 stand for themselves, the others are the
    characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return alphabet


def _token_bytes(token: str) -> bytes:
    alphabet = _byte_of_char()
    try:
        return bytes(alphabet[char] for char in token)
    except KeyError:  # not in the alphabet: as is, which is what `tokenizers` does too
        return token.encode()


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    """A pattern that captures any of the spellings, the longest first; none never matches."""
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.compile("(" + ("|".join(map(re.escape, longest_first)) or "(?!)") + ")")


def _require_byte_level(backend: tokenizers.Tokenizer) -> None:
    if isinstance(backend.model, models.BPE) and isinstance(backend.decoder, decoders.ByteLevel):
        return
    raise CheckpointError(
        f"tokenizer.json is {type(backend.model).__name__} with the decoder"
        f" {type(backend.decoder).__name__}, and Qwen3's is a byte-level BPE: this folder is"
        " another model's, or its tokenizer.json was replaced"
    )


def _require_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the text has half of a surrogate pair at position {error.start}, which is no"
            " character: read its source as UTF-8, or remove it"
        ) from error
