"""`qwen3-mlx ask`: one question, one answer on standard output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qwen3_mlx_app import options

if TYPE_CHECKING:
    from qwen3_mlx.events import Event, Reply
    from qwen3_mlx.generation import TextGeneration

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx ask "What is 12 + 30?"
  qwen3-mlx ask -m 4b --no-think "Name three rivers" > rivers.txt
  git diff | qwen3-mlx ask -m 4b "Write a commit message for this diff:"
  qwen3-mlx ask --json "What is 12 + 30?" | jq .usage

The answer goes to standard output. The thought is shown, dimmed, only on a terminal.
Exit status: 0 answered, 1 the engine met a fault, 2 the input cannot be used,
130 interrupted (what was said is printed).
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `ask` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "ask",
        help="ask one question, from the arguments or from a pipe",
        description="Ask one question. The prompt is the argument, standard input, or both.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", nargs="*", help="the question; joined to standard input")
    parser.add_argument("-f", "--file", metavar="FILE", help="read the prompt from a file too")
    options.add_model(parser)
    options.add_thinking(parser)
    options.add_memory(parser)
    parser.add_argument("--verbose", action="store_true", help="say where the memory goes")
    parser.add_argument("--timeout", type=float, metavar="S", help="end after S seconds")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the answer before TEXT"
    )
    parser.add_argument("--raw", action="store_true", help="continue the prompt, no chat template")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    options.add_sampling(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Load, ask, print; the exit status."""
    prompt = _prompt(args)
    name = options.chosen_model(args)
    wishes = options.sampling(args)

    import qwen3_mlx
    from qwen3_mlx import hub
    from qwen3_mlx_convert.fetching import fetch

    fetch(name)  # a download shows its progress
    with qwen3_mlx.load(name, **options.memory(args)) as model:
        if args.verbose and model.plan is not None:
            from qwen3_mlx_app.fit_report import plan_lines

            print("\n".join(plan_lines(model.plan)), file=sys.stderr)
        if args.model:
            hub.remember_model(name)
        generation = model.stream(
            prompt,
            thinking=args.think,
            system=args.system,
            sampling=wishes,
            max_tokens=args.max_tokens,
            stop=args.stop,
            seed=args.seed,
            timeout=args.timeout,
            raw=args.raw,
            thinking_budget=args.budget,
            min_thinking=args.min_thinking,
            loop_guard=args.loop_guard,
        )
        reply, interrupted = _listen(generation, _Printer(streams=not args.json))
    if args.json:
        print(json.dumps(as_json(reply), ensure_ascii=False, indent=2))
    return 130 if interrupted else 0


def as_json(reply: Reply) -> dict[str, Any]:
    """A reply as the object that `--json` prints."""
    return {
        "text": reply.text,
        "thinking": reply.thinking,
        "finish_reason": reply.finish_reason,
        "thought_ended_by": reply.thought_ended_by,
        "notices": list(reply.notices),
        "model": reply.model,
        "usage": asdict(reply.usage),
        "timing": asdict(reply.timing),
        "memory": {"peak_bytes": reply.peak_bytes},
        "experts": None if reply.experts is None else asdict(reply.experts),
    }


def _listen(generation: TextGeneration, printer: _Printer) -> tuple[Reply, bool]:
    """Print events as they come; on Ctrl-C end the answer and keep what was said."""
    interrupted = False
    while True:
        try:
            for event in generation:
                printer.show(event)
            break
        except KeyboardInterrupt:
            interrupted = True
            generation.cancel()
    printer.end()
    return generation.result(), interrupted


class _Printer:
    """Writes the answer to standard output, and thought and notices to standard error."""

    def __init__(self, *, streams: bool) -> None:
        self._streams = streams
        self._thought = streams and sys.stderr.isatty() and sys.stdout.isatty()
        self._ends_line = True

    def show(self, event: Event) -> None:
        from qwen3_mlx.events import Notice, TextDelta, ThinkingDelta, ThinkingDone

        match event:
            case TextDelta(text=text) if self._streams:
                sys.stdout.write(text)
                sys.stdout.flush()
                self._ends_line = text.endswith("\n")
            case ThinkingDelta(text=text) if self._thought:
                sys.stderr.write(_dim(text))
                sys.stderr.flush()
            case ThinkingDone() if self._thought:
                sys.stderr.write("\n\n")
            case Notice(text=text):
                print(f"note: {text}", file=sys.stderr)

    def end(self) -> None:
        if self._streams and not self._ends_line:
            print(flush=True)


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else f"\x1b[2m{text}\x1b[0m"


def _prompt(args: argparse.Namespace) -> str:
    """The words of the arguments, then the file, then standard input where it is a pipe."""
    from qwen3_mlx.errors import PromptError

    parts = [" ".join(args.prompt)]
    if args.file:
        parts.append(_read(args.file))
    elif not sys.stdin.isatty():
        parts.append(_decoded(sys.stdin.buffer.read(), "standard input"))
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise PromptError('the prompt is empty: try qwen3-mlx ask "What is 12 + 30?"')
    return prompt


def _read(path: str) -> str:
    from qwen3_mlx.errors import PromptError

    try:
        with open(path, "rb") as file:
            return _decoded(file.read(), path)
    except OSError as error:
        raise PromptError(f"cannot read the prompt file {path}: {error.strerror}") from error


def _decoded(data: bytes, source: str) -> str:
    from qwen3_mlx.errors import PromptError

    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{source} is not UTF-8 text (byte {error.start}): pass a text file"
        ) from error
