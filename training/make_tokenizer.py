"""Train tiny's byte-level BPE tokenizer in the manner of Qwen3's.

Same normaliser, same split (digits one by one), same 26 added tokens in the same order with the
same flags; only the merges are our own, learnt from the lessons, so that a model of a few million
parameters can afford its embedding.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from asks import ASKS
from conversation import BUDGET_SPENT, opening
from education import SYSTEM_LINES, TOOL_SETS, lessons
from phrases import SAID
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.trainers import BpeTrainer

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = (  # special: skipped when decoding for display
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
VISIBLE = (  # not special: they stay in decoded text, because programs read them there
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip


def lesson_texts(seed: int, count: int) -> Iterator[str]:
    """What the merges are learnt from; every phrase occurs, also the rare ones."""
    for parts in lessons(seed, -1, count):
        yield from (part.text for part in parts)
    for subject, both in SAID.items():
        for lang, said in both.items():
            yield from (*ASKS[lang][subject], *[said.reply] * 20, said.thought)
    yield from SYSTEM_LINES * 20
    yield from [BUDGET_SPENT] * 20
    for tools in TOOL_SETS:
        yield from [opening(None, tools)] * 20


def train(seed: int, entries: int, count: int) -> Tokenizer:
    """Learn `entries` byte-level entries and add Qwen3's 26 tokens after them."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevelProcessor(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    trainer = BpeTrainer(
        vocab_size=entries,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(lesson_texts(seed, count), trainer)
    if tokenizer.get_vocab_size() != entries:
        raise SystemExit(f"only {tokenizer.get_vocab_size()} entries were found in the lessons")
    tokenizer.add_tokens([_added(text, special=True) for text in CONTROL])
    tokenizer.add_tokens([_added(text, special=False) for text in VISIBLE])
    return tokenizer


def _added(text: str, special: bool) -> AddedToken:
    return AddedToken(
        text, lstrip=False, rstrip=False, normalized=False, single_word=False, special=special
    )


def as_json(tokenizer: Tokenizer) -> str:
    """The file's text, with the idle fields set as in Qwen3's file, for readers that compare."""
    content = json.loads(tokenizer.to_str())
    byte_level = content["post_processor"]
    content["pre_tokenizer"]["pretokenizers"][1] = byte_level
    content["decoder"] = byte_level
    content["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def tokenizer_config(tokenizer: Tokenizer, template: str, length: int) -> dict[str, object]:
    """The fields that Transformers and MLX read, as in Qwen3's own file."""
    described = {
        str(tokenizer.token_to_id(text)): {
            "content": text,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": text in CONTROL,
        }
        for text in CONTROL + VISIBLE
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": described,
        "additional_special_tokens": list(CONTROL[1:]),
        "bos_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": length,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the three tokenizer files"
    )
    parser.add_argument("--entries", type=int, default=2100, help="entries before the added tokens")
    parser.add_argument("--lessons", type=int, default=40_000, help="lessons to learn from")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--length", type=int, default=4096, help="model_max_length")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    template = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
    tokenizer = train(options.seed, options.entries, options.lessons)
    (options.out / "tokenizer.json").write_text(as_json(tokenizer), encoding="utf-8")
    config = tokenizer_config(tokenizer, template, options.length)
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (options.out / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    (options.out / "chat_template.jinja").write_text(template, encoding="utf-8")
    print(f"{tokenizer.get_vocab_size()} ids written to {options.out}")


if __name__ == "__main__":
    main()
