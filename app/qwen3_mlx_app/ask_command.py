"""`qwen3-mlx ask`: questions from arguments and pipes, answers on standard output.

What is imported here is all that a warm answer costs beside the agent's own time, so every
import that only some flags need stands in its function.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from qwen3_mlx import places
from qwen3_mlx.errors import IncompleteError, OptionError
from qwen3_mlx.warm import link
from qwen3_mlx_app import options
from qwen3_mlx_app.asking import Answer, Asker, note

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 3 ms to import
    from collections.abc import Mapping
    from typing import Any

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx ask "What is 12 + 30?"
  qwen3-mlx ask -m 4b --no-think "Name three rivers" > rivers.txt
  git diff | qwen3-mlx ask -m 4b "Write a commit message for this diff:"
  qwen3-mlx ask "Compare these:" -f old.txt new.txt
  qwen3-mlx ask --paste --copy "Make this text friendlier:"
  qwen3-mlx ask --json "What is 12 + 30?" | jq .usage
  qwen3-mlx ask --schema '{"type": "array", "items": {"type": "string"}}' "Three rivers"
  qwen3-mlx ask --jsonl --resume out.jsonl "Translate:" < lines.txt

The answer goes to standard output, everything else to standard error. The thought is shown,
dimmed, only on a terminal. With --jsonl each line of standard input, or each FILE, is a question
of its own and gets one line of output; a line may be text, or an object with "prompt" or
"messages", and "id", "system", "max_tokens" and other wishes.

Exit status: 0 answered, 1 the engine met a fault, 2 the input cannot be used (with --jsonl: some
of the lines, the others are answered), 130 interrupted (what was said is printed), 141 the
reader of the output has left.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `ask` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "ask",
        help="ask one question, or many, from the arguments or from a pipe",
        description="Ask. The prompt is the arguments, then files or standard input.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("prompt", nargs="*", help="the question; what is read comes after it")
    _add_input(parser)
    options.add_model(parser)
    options.add_thinking(parser)
    options.add_overflow(parser)
    options.add_memory(parser)
    options.add_speculation(parser)
    options.add_agent(parser)
    parser.add_argument(
        "--save-prefix", action="store_true",
        help="keep what was read of the --system text on disk, for every later call with it",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="say where the memory goes")
    parser.add_argument("--timeout", type=float, metavar="S", help="end after S seconds")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the answer before TEXT"
    )
    parser.add_argument("--raw", action="store_true", help="continue the prompt, no chat template")
    parser.add_argument(
        "--schema",
        metavar="FILE|{…}",
        help="answer in JSON that keeps to this JSON Schema, given as a file or as text",
    )
    options.add_sampling(parser)
    parser.set_defaults(run=run)
    return parser


def _add_input(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "-f", "--file", metavar="FILE", nargs="+", action="extend", default=[],
        help="read files instead of standard input",
    )  # fmt: skip
    group.add_argument("--paste", action="store_true", help="read the clipboard instead")
    group.add_argument("--copy", action="store_true", help="put the answer on the clipboard too")
    group.add_argument("--json", action="store_true", help="print one JSON object at the end")
    group.add_argument(
        "--jsonl", action="store_true",
        help="a question for each input line or FILE, an answer for each as a line of JSON",
    )  # fmt: skip
    group.add_argument(
        "--resume", metavar="OUT",
        help="with --jsonl: write to OUT, and go on where an earlier run ended",
    )  # fmt: skip
    group.add_argument(
        "--parallel", type=int, metavar="N",
        help="with --jsonl: questions that are answered at once (default: 4)",
    )  # fmt: skip
    group.add_argument(
        "-q", "--quiet", action="store_true", help="with --jsonl: no progress on standard error"
    )


def run(args: argparse.Namespace) -> int:
    """Read, ask, print; the exit status."""
    if args.jsonl:
        from qwen3_mlx_app.ask_many import run_many

        return run_many(args, wishes(args))
    if args.resume is not None:
        raise OptionError("--resume is for --jsonl: add it, or write to a file with > OUT")
    if args.parallel is not None:
        raise OptionError("--parallel is for --jsonl: there is one question to answer here")
    if args.copy or args.paste:
        from qwen3_mlx_app import clipboard

        clipboard.check(copies=args.copy, pastes=args.paste)
    prompt, asked = _prompt(args), wishes(args)
    name = options.chosen_model(args)
    keeps = args.save_prefix
    if keeps and (args.raw or not args.system):
        raise OptionError('--save-prefix keeps a system prompt: add --system "…", without --raw')
    own = args.verbose or keeps
    with Asker(name, options.memory(args), agent=args.agent and not own) as asker:
        if args.verbose:
            _tell_plan(asker)
        if keeps:
            asker.model.save_prefix(system=args.system)
        reply, interrupted = _listen(Answer(asker, prompt, asked), streams=not args.json)
    if args.json:
        print(json.dumps(as_json(reply), ensure_ascii=False, indent=2), flush=True)
    elif not interrupted and (said := _cut_short(reply)):
        note(said)
    if args.copy and not interrupted and reply["fits"] is not False:
        clipboard.copy(reply["text"])
    if args.model:
        places.remember_model(name)
    if reply["fits"] is False and not interrupted:
        raise IncompleteError(
            f"the answer ended with {reply['finish_reason']!r} before it was whole: give it more "
            "time or --max-tokens",
            None,
        )
    return 130 if interrupted else 0


def wishes(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Qwen3.stream` that the flags state, in plain form."""
    stated = {
        "thinking": args.think,
        "system": args.system,
        "sampling": options.sampling_wishes(args) or None,
        "max_tokens": args.max_tokens,
        "stop": args.stop or None,
        "seed": args.seed,
        "timeout": args.timeout,
        "raw": args.raw or None,
        "thinking_budget": args.budget,
        "min_thinking": args.min_thinking or None,
        "loop_guard": None if args.loop_guard else False,
        "overflow": None if args.overflow == "error" else args.overflow,
        "grammar": None if args.schema is None else _grammar(args.schema),
    }
    return {name: value for name, value in stated.items() if value is not None}


def as_json(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply's fields as the object that `--json` prints."""
    left_out = ["peak_bytes", "logprobs", "tool_calls"]  # no flag asks for the last two
    if reply["fits"] is None:
        left_out.append("fits")
    shown = {name: value for name, value in reply.items() if name not in left_out}
    return shown | {"memory": {"peak_bytes": reply["peak_bytes"]}}


def _cut_short(reply: Mapping[str, Any]) -> str:
    """What a script would not see in the text alone: that it is not all, or that it is none."""
    usage = reply["usage"]
    said = f"{usage['thinking_tokens'] + usage['answer_tokens']:,} tokens"
    if reply["finish_reason"] == "length":
        return f"the answer was cut after {said}: --max-tokens, or the context, allows no more"
    if reply["finish_reason"] == "timeout":
        return f"the answer was cut after {said}: --timeout was over"
    if not reply["text"].strip():
        return f"the answer is empty: the model ended it after {said} of a thought"
    return ""


def _tell_plan(asker: Asker) -> None:
    if asker.model.plan is not None:
        from qwen3_mlx_app.fit_report import plan_lines

        print("\n".join(plan_lines(asker.model.plan)), file=sys.stderr)


def _grammar(text: str) -> dict[str, str]:
    """The schema of `--schema`, from the text or from a file, in plain form and checked."""
    from qwen3_mlx.errors import GrammarError
    from qwen3_mlx.grammar.grammar import Grammar
    from qwen3_mlx_app import reading

    source = text if text.lstrip().startswith(("{", "[")) else reading.file(text)
    try:
        schema = json.loads(source)
    except ValueError as error:
        raise GrammarError(f"--schema is not JSON: {error}") from error
    if not isinstance(schema, dict | bool):
        raise GrammarError(f"--schema is a {type(schema).__name__}, and must be a JSON object")
    grammar = Grammar.json(schema)
    grammar.compiled()  # before the model is loaded
    return {"kind": grammar.kind, "source": grammar.source}


def _listen(answer: Answer, *, streams: bool) -> tuple[dict[str, Any], bool]:
    """Print events as they come; Ctrl-C ends the answer and keeps what was said."""
    import signal

    printer, interrupted = _Printer(streams=streams), False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        answer.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for event in answer:
            printer.show(event)
            if event["event"] == "Done":
                return event["reply"], interrupted
            if event["event"] == "Failed":
                raise link.error_of(event["error"])
    except OSError:  # nobody takes the answer
        answer.cancel()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        printer.end()
    raise AssertionError("an answer ends with Done or Failed")


class _Printer:
    """Writes the answer to standard output, and thought and notices to standard error."""

    def __init__(self, *, streams: bool) -> None:
        self._streams = streams
        self._thought = streams and sys.stderr.isatty() and sys.stdout.isatty()
        self._ends_line = True

    def show(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "TextDelta" if self._streams:
                sys.stdout.write(event["text"])
                sys.stdout.flush()
                self._ends_line = event["text"].endswith("\n")
            case "ThinkingDelta" if self._thought:
                sys.stderr.write(_dim(event["text"]))
                sys.stderr.flush()
            case "ThinkingDone" if self._thought:
                sys.stderr.write("\n\n")
            case "Notice":
                self._end_shown_line()
                note(event["text"])

    def _end_shown_line(self) -> None:
        """On a terminal a note begins a line of its own; in a file the answer is left alone."""
        if self._streams and not self._ends_line and sys.stdout.isatty() and sys.stderr.isatty():
            sys.stderr.write("\n")
            self._ends_line = True

    def end(self) -> None:
        if self._streams and not self._ends_line:
            self._ends_line = True
            print(flush=True)


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else f"\x1b[2m{text}\x1b[0m"


def _prompt(args: argparse.Namespace) -> str:
    """The words of the arguments, then the clipboard, the files, or standard input if piped."""
    from qwen3_mlx.errors import PromptError
    from qwen3_mlx_app import reading

    parts = [" ".join(args.prompt)]
    if args.paste:
        from qwen3_mlx_app import clipboard

        parts.append(clipboard.paste())
    if args.file:
        hint = "; a question comes before -f" if len(args.file) > 1 and not args.prompt else ""
        parts += [reading.file(path, hint) for path in args.file]
    elif not args.paste and not sys.stdin.isatty():
        parts.append(reading.decoded(sys.stdin.buffer.read(), "standard input"))
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise PromptError('the prompt is empty: try qwen3-mlx ask "What is 12 + 30?"')
    return prompt
