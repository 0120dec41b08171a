"""Flags that several commands share, and what they mean to the library."""

from __future__ import annotations

import argparse
import os
import sys

from qwen3_mlx import places
from qwen3_mlx.errors import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and dataclasses would be a third of what a warm `ask` takes
    from typing import Any

    from qwen3_mlx.interface import Sampling

__all__ = [
    "HelpFormatter",
    "add_agent",
    "add_budget",
    "add_length",
    "add_memory",
    "add_model",
    "add_overflow",
    "add_sampling",
    "add_speculation",
    "add_thinking",
    "chosen_model",
    "memory",
    "numbers",
    "sampling",
    "sampling_wishes",
    "tokens",
]

_NUMBERS = (
    ("--temperature", float, "T", "0 is greedy; higher is more varied"),
    ("--top-k", int, "K", "draw from the K likeliest tokens; 0 is off"),
    ("--top-p", float, "P", "draw from the likeliest tokens that make up P; 1 is off"),
    ("--min-p", float, "P", "drop tokens less likely than P times the likeliest; 0 is off"),
    ("--repetition-penalty", float, "R", "divide the logits of what was said by R; 1 is off"),
    ("--presence-penalty", float, "X", "subtract X from the logits of what was said"),
    ("--frequency-penalty", float, "X", "subtract X for each time it was said"),
)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the examples.

    argparse makes a formatter for every argument, and to find its width imports shutil with all
    its archive formats; here the width is known.
    """

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, width=_columns() - 2, **more)


def _columns() -> int:
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


def add_model(parser: argparse.ArgumentParser) -> None:
    """-m, --system, --think, --max-tokens and --seed."""
    parser.add_argument(
        "-m", "--model", metavar="MODEL",
        help='"tiny", a name from `qwen3-mlx models`, a hub id or a folder '
        "(default: the last one used, else tiny)",
    )  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", help="a system prompt")
    parser.add_argument(
        "--think", action=argparse.BooleanOptionalAction, default=None,
        help="think before answering, or not; for models that have both modes",
    )  # fmt: skip
    parser.add_argument("--max-tokens", type=int, metavar="N", help="end after N tokens")
    parser.add_argument("--seed", type=int, metavar="N", help="make the answer repeatable")


def add_memory(parser: argparse.ArgumentParser) -> None:
    """--memory-limit, --context, --slots and --kv-bits."""
    group = parser.add_argument_group(
        "memory", "Experts that do not fit stay on disk; the answers are the same."
    )
    group.add_argument(
        "--memory-limit", metavar="SIZE", help="use at most so much memory, such as 10GB"
    )
    add_length(group)
    group.add_argument(
        "--slots", type=int, metavar="N",
        help="experts of each layer to keep in memory, instead of what the limit allows",
    )  # fmt: skip


def add_speculation(parser: argparse.ArgumentParser) -> None:
    """--speculate."""
    parser.add_argument(
        "--speculate", action="store_true",
        help="guess what the text repeats and check several tokens at once, where that is faster; "
        "for dense models",
    )  # fmt: skip


def add_length(parser: argparse._ActionsContainer) -> None:
    """--context and --kv-bits."""
    parser.add_argument(
        "--context", type=tokens, metavar="N",
        help="tokens that the conversation may have, such as 8192 or 32k (default: the model's, "
        "8192 under a limit); beyond the native length YaRN is on, up to four times of it",
    )  # fmt: skip
    parser.add_argument(
        "--kv-bits", type=int, choices=(8, 4),
        help="keep the KV cache in 8 or 4 bits: less memory for long texts",
    )  # fmt: skip


def tokens(text: str) -> int:
    """A number of tokens as people write it.

    >>> tokens("8192"), tokens("32k")
    (8192, 32768)

    Raises:
        ArgumentTypeError: it is none.
    """
    number, unit = (text[:-1], 1024) if text[-1:].lower() == "k" else (text, 1)
    try:
        return int(number) * unit
    except ValueError:
        told = f"{text!r} is no number of tokens: write 8192 or 32k"
        raise argparse.ArgumentTypeError(told) from None


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    >>> numbers("16, 128")
    (16, 128)

    Raises:
        ArgumentTypeError: one is none.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        told = f"{text!r} must be whole numbers: write 16,128"
        raise argparse.ArgumentTypeError(told) from None


def add_agent(parser: argparse.ArgumentParser) -> None:
    """--no-agent."""
    parser.add_argument(
        "--no-agent", dest="agent", action="store_false",
        help="load the model here, also where a warm agent holds it (or set QWEN3_MLX_AGENT=0)",
    )  # fmt: skip


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `load` that the flags of `add_memory` and `add_speculation` state."""
    stated = {name: getattr(args, name) for name in ("memory_limit", "context", "slots", "kv_bits")}
    return stated | {"speculate": True} if getattr(args, "speculate", False) else stated


def add_thinking(parser: argparse.ArgumentParser) -> None:
    """--budget, --min-thinking and --no-loop-guard."""
    add_budget(parser)
    parser.add_argument(
        "--min-thinking", type=int, metavar="N", default=0,
        help="do not let the thought end before N tokens",
    )  # fmt: skip
    parser.add_argument(
        "--no-loop-guard", dest="loop_guard", action="store_false",
        help="let a text that goes round in circles go on",
    )  # fmt: skip


def add_budget(parser: argparse.ArgumentParser) -> None:
    """--budget."""
    parser.add_argument(
        "--budget", type=int, metavar="N",
        help="end the thought after N tokens and answer from it; 0 does not think",
    )  # fmt: skip


def add_overflow(parser: argparse.ArgumentParser) -> None:
    """--overflow."""
    parser.add_argument(
        "--overflow", choices=("error", "drop-oldest"), default="error",
        help="what happens to a conversation that is too long for the context: an error "
        "(default), or its oldest turns are left out, which a note tells",
    )  # fmt: skip


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """The flags of `Sampling`."""
    group = parser.add_argument_group(
        "drawing tokens", "Left alone, these follow the checkpoint and Qwen's settings."
    )
    for flag, kind, metavar, text in _NUMBERS:
        group.add_argument(flag, type=kind, metavar=metavar, help=text)


def sampling(args: argparse.Namespace) -> Sampling:
    """The wishes that the flags of `add_sampling` state."""
    from qwen3_mlx.interface import Sampling

    return Sampling(**sampling_wishes(args))


def sampling_wishes(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `Sampling` that the flags of `add_sampling` state."""
    names = (flag.removeprefix("--").replace("-", "_") for flag, *_ in _NUMBERS)
    stated = {name: getattr(args, name) for name in names}
    return {name: value for name, value in stated.items() if value is not None}


def chosen_model(args: argparse.Namespace) -> str:
    """The model to use. A first-time user is told once how to get a real one."""
    if args.model == "":
        raise OptionError("-m is empty: name a model, such as tiny or 4b")
    name: str | None = args.model or places.last_model()
    if name is None:
        print(
            "using tiny, the embedded demonstration model; "
            "`-m 4b` gets a real one, `qwen3-mlx models` lists them",
            file=sys.stderr,
        )
        return "tiny"
    return name
