"""Measure tiny through the library: unseen problems in both modes, and fixed probes.

    python training/evaluate.py qwen3_mlx/tiny build/tiny
    python training/evaluate.py qwen3_mlx/tiny --sample --probes

Prints a Markdown table with one row for each folder, for the model card. The problems are those
of `education.exam`: no lesson has ever held one of them. Runs without PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import sqrt

import education
from education import Probe

import qwen3_mlx
from qwen3_mlx import Reply, Sampling

Message = dict[str, str]
SEED = 2  # of the exam: any but the ones that training looked at


def replies(
    model: qwen3_mlx.Qwen3, talks: Sequence[list[Message]], thinking: bool, sample: bool
) -> list[Reply]:
    """What the model says to each conversation; the engine runs them in batches."""
    sampling = None if sample else Sampling(temperature=0)
    running = [
        model.stream(talk, thinking=thinking, sampling=sampling, max_tokens=250, seed=number)
        for number, talk in enumerate(talks)
    ]
    return [generation.result() for generation in running]


def accuracy(model: qwen3_mlx.Qwen3, count: int, thinking: bool, sample: bool) -> float:
    """Share of unseen problems whose visible answer is exactly right, in the mode asked for."""
    questions = education.exam(SEED, count)
    talks = [[{"role": "user", "content": asked}] for asked, _ in questions]
    right = [
        reply.text == problem.answer
        and reply.finish_reason == "stop"
        and bool(reply.thinking) == thinking
        for reply, (_, problem) in zip(
            replies(model, talks, thinking, sample), questions, strict=True
        )
    ]
    return sum(right) / count


def messages(probe: Probe) -> list[Message]:
    """A probe as chat messages."""
    talk = [{"role": "system", "content": probe.system}] if probe.system else []
    for asked, replied in probe.history:
        talk += [{"role": "user", "content": asked}, {"role": "assistant", "content": replied}]
    return [*talk, {"role": "user", "content": probe.user}]


def probes(model: qwen3_mlx.Qwen3, thinking: bool, sample: bool, show: bool) -> int:
    """How many of the fixed probes get an answer with the expected words, and an end."""
    asked = education.PROBES
    said = replies(model, [messages(probe) for probe in asked], thinking, sample)
    good = [
        probe.expect in reply.text and reply.finish_reason == "stop"
        for probe, reply in zip(asked, said, strict=True)
    ]
    for probe, reply, right in zip(asked, said, good, strict=True):
        if show:
            print(f"{'ok ' if right else 'BAD'} {probe.user!r} -> {reply.text!r}")
    return sum(good)


def share(value: float, count: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    z = 1.96
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    spread = z * sqrt(value * (1 - value) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return f"{value:.1%} ({middle - spread:.1%} to {min(middle + spread, 1):.1%})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="+", help="model folders, or tiny")
    parser.add_argument("--count", type=int, default=500, help="problems in each mode")
    parser.add_argument("--sample", action="store_true", help="sample instead of greedy decoding")
    parser.add_argument("--probes", action="store_true", help="show every probe's answer")
    parser.add_argument("--dtype", default="float32", help="to compute in")
    options = parser.parse_args()
    print("| model | direct | thinking | probes, direct | probes, thinking |")
    print("| --- | --- | --- | --- | --- |")
    for folder in options.folders:
        with qwen3_mlx.load(folder, dtype=options.dtype) as model:
            name = f"{folder.rpartition('/')[2]}, {model.info.quantization}"
            cells = [
                share(accuracy(model, options.count, thinking, options.sample), options.count)
                for thinking in (False, True)
            ]
            cells += [
                f"{probes(model, thinking, options.sample, options.probes)} of "
                f"{len(education.PROBES)}"
                for thinking in (False, True)
            ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
