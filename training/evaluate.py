"""Measure a finished tiny with Transformers: unseen problems in both modes, and fixed probes.

python evaluate.py --model OUT             greedy
python evaluate.py --model OUT --sample    with the sampling of generation_config.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import education
import torch
from education import Probe
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

Message = dict[str, str]


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    talks: list[list[Message]],
    thinking: bool,
    sample: bool,
) -> list[str]:
    """What the model writes after each conversation, thought included, up to the end token."""
    tokenizer.padding_side = "left"
    written: list[str] = []
    for start in range(0, len(talks), 50):
        inputs = tokenizer.apply_chat_template(
            talks[start : start + 50],
            add_generation_prompt=True,
            enable_thinking=thinking,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )
        choice = (
            {}
            if sample
            else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        )
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=200, **choice)
        for row in output[:, inputs["input_ids"].shape[1] :]:
            written.append(_until_end(tokenizer.decode(row, skip_special_tokens=False)))
    return written


def _until_end(text: str) -> str:
    """Cut at the end token; a reply that never ends is marked."""
    head, end, _ = text.partition("<|im_end|>")
    return head if end else f"{head}[no end]"


def accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    thinking: bool,
    sample: bool,
) -> tuple[float, list[str]]:
    """Share of unseen problems whose visible answer is exactly right, and some wrong ones."""
    questions = education.exam(2, count)
    talks = [[{"role": "user", "content": asked}] for asked, _ in questions]
    replies = answers(model, tokenizer, talks, thinking, sample)
    wrong = [
        f"{asked!r} -> {reply!r}"
        for reply, (asked, problem) in zip(replies, questions, strict=True)
        if reply.split("</think>")[-1].strip() != problem.answer
        or thinking != reply.startswith("<think>\n")
    ]
    return 1 - len(wrong) / count, wrong[:8]


def messages(probe: Probe) -> list[Message]:
    """A probe as chat messages."""
    talk = [{"role": "system", "content": probe.system}] if probe.system else []
    for asked, replied in probe.history:
        talk += [{"role": "user", "content": asked}, {"role": "assistant", "content": replied}]
    return [*talk, {"role": "user", "content": probe.user}]


def show_probes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, thinking: bool, sample: bool
) -> None:
    """Print each probe with its answer and whether the expected words are in it."""
    talks = [messages(probe) for probe in education.PROBES]
    replies = answers(model, tokenizer, talks, thinking, sample)
    good = 0
    for probe, reply in zip(education.PROBES, replies, strict=True):
        visible = reply.split("</think>")[-1]
        right = probe.expect in visible and "[no end]" not in visible
        good += right
        print(f"{'ok ' if right else 'BAD'} {probe.user!r} -> {reply!r}")
    print(f"probes, thinking {'on' if thinking else 'off'}: {good}/{len(replies)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--count", type=int, default=500, help="problems in each mode")
    parser.add_argument("--sample", action="store_true", help="sample instead of greedy decoding")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    for thinking in (False, True):
        mode = "on" if thinking else "off"
        share, wrong = accuracy(model, tokenizer, options.count, thinking, options.sample)
        print(f"thinking {mode}: {share:.1%} of {options.count} unseen problems")
        print("\n".join(f"    {line}" for line in wrong))
        show_probes(model, tokenizer, thinking, options.sample)


if __name__ == "__main__":
    main()
