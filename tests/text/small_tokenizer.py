"""A tokenizer of Qwen3's kind, trained in a few milliseconds, for tests without downloads."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|{name}_{end}|>" for name in ("object_ref", "box", "quad") for end in ("start", "end")),
    "<|vision_start|>",
    "<|vision_end|>",
    *(f"<|{name}_pad|>" for name in ("vision", "image", "video")),
]
NOT_SPECIAL = [
    "<tool_call>",
    "</tool_call>",
    *(f"<|fim_{name}|>" for name in ("prefix", "middle", "suffix", "pad")),
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and then it thinks about the answer.",
    "system user assistant tool think thinking tool_call tool_response name arguments",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 你好，世界。こんにちは",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 22))\n",
]
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def small_tokenizer(think_tokens: bool = True) -> Tokenizer:
    """A byte-level BPE of about 500 entries with the 26 control tokens at its end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Split(Regex(WORDS), "isolated"), pre.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SENTENCES * 3,
        trainers.BpeTrainer(
            vocab_size=500,
            show_progress=False,
            initial_alphabet=pre.ByteLevel.alphabet(),
        ),
    )
    later = NOT_SPECIAL if think_tokens else NOT_SPECIAL[:-2]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in later])
    return tokenizer


def write_small_tokenizer(folder: Path, think_tokens: bool = True) -> Path:
    """The two files of a checkpoint that `Tokenizer.from_folder` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    small_tokenizer(think_tokens).save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
