"""`qwen3-mlx embed`: vectors of lines or files, or those that are nearest to a question."""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import OptionError, PromptError
from qwen3_mlx_app import options, reading
from qwen3_mlx_app.journal import json_line

if TYPE_CHECKING:
    import numpy as np

    from qwen3_mlx.api import Qwen3

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_BLOCK = 256  # texts between two writes
_EXAMPLES = """\
examples:
  qwen3-mlx embed -m embedding-0.6b < lines.txt > vectors.jsonl
  qwen3-mlx embed -m embedding-0.6b notes/*.md --query "when is the meter read?"

Each line of standard input, or each FILE, is a text and gets a line of JSON with "n", "text" or
"file", and "embedding": numbers of length 1, so that a product of two is the cosine of their angle.
With --query the texts are ranked instead, a line each: the cosine, a tab, the text or the file.

Exit status: 0 all are read, 2 the command cannot be carried out, or some of the texts cannot be
used; the others are then written all the same.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `embed` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "embed",
        help="make vectors of texts, or find those that answer a question",
        description="Make vectors of texts with a Qwen3-Embedding model.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="texts, instead of stdin's lines")
    parser.add_argument(
        "-m", "--model", metavar="MODEL", required=True,
        help="embedding-0.6b, embedding-4b, embedding-8b, a hub id or a folder",
    )  # fmt: skip
    parser.add_argument("--query", metavar="TEXT", help="rank the texts by what they say of TEXT")
    parser.add_argument(
        "--task", metavar="TEXT",
        help="with --query: what is looked for, in an English sentence (default: passages that "
        "answer a web search)",
    )  # fmt: skip
    parser.add_argument(
        "--top", type=int, metavar="N", default=10, help="with --query: so many (default: 10)"
    )
    parser.add_argument(
        "--dimensions", type=int, metavar="N", help="keep the first N numbers of each vector"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    options.add_memory(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Load, read, write; the exit status."""
    if args.task is not None and args.query is None:
        raise OptionError("--task is for --query: add it, or leave it out")
    if args.top < 1:
        raise OptionError(f"--top is {args.top}, and must be at least 1")
    texts = _files(args.files) if args.files else _lines()
    total = len(args.files) or None
    import qwen3_mlx
    from qwen3_mlx_convert.fetching import fetch

    fetch(args.model)  # a download shows its progress
    with qwen3_mlx.load(args.model, agent=False, **options.memory(args)) as model:
        found = _embedded(model, texts, args.dimensions, _Progress(total, quiet=args.quiet))
        return _write(found) if args.query is None else _rank(model, found, args)


class _Text:
    """A text with the line or the file that it is from, or the reason why it cannot be read."""

    def __init__(self, about: dict[str, Any], text: str = "", error: str = "") -> None:
        self.about, self.text, self.error = about, text, error


def _lines() -> Iterator[_Text]:
    """Those of standard input that are not blank."""
    filled = (line for line in sys.stdin.buffer if line.strip())
    for number, line in enumerate(filled, 1):
        try:
            text = reading.decoded(line, f"line {number}").strip()
        except PromptError as error:
            yield _Text({"n": number}, error=str(error))
        else:
            yield _Text({"n": number, "text": text}, text)


def _files(paths: Sequence[str]) -> Iterator[_Text]:
    for number, path in enumerate(paths, 1):
        about = {"n": number, "file": path}
        try:
            yield _Text(about, reading.file(path))
        except PromptError as error:
            yield _Text(about, error=str(error))


def _embedded(
    model: Qwen3, texts: Iterator[_Text], dimensions: int | None, progress: _Progress
) -> Iterator[tuple[_Text, np.ndarray | None]]:
    """The texts in their order, each with its vector (D,) or, if it has an error, None."""
    model.embed([], dimensions=dimensions)  # refuses another model before a text is read
    try:
        while block := list(islice(texts, _BLOCK)):
            for each in block:
                each.error = each.error or _trouble(model, each.text)
            good = [each.text for each in block if not each.error]
            vectors = iter(model.embed(good, dimensions=dimensions, progress=progress.within))
            progress.add(len(good))
            yield from ((each, None if each.error else next(vectors)) for each in block)
    finally:
        progress.end()


def _trouble(model: Qwen3, text: str) -> str:
    """Why a text cannot be read, or ""."""
    if not text.strip():
        return "the text is empty"
    tokens, context = len(model.encode(text)) + 1, model.info.context
    if tokens > context:
        return f"{tokens:,} tokens and the context holds {context:,}: cut the text into parts"
    return ""


def _write(found: Iterator[tuple[_Text, np.ndarray | None]]) -> int:
    """A line of JSON for each; the exit status."""
    status = 0
    told: dict[str, Any]
    for each, vector in found:
        if vector is None:
            told, status = {"error": each.error}, 2
        else:
            told = {"embedding": [float(f"{value:.7g}") for value in vector]}
        sys.stdout.write(json_line(each.about | told))
        sys.stdout.flush()
    return status


def _rank(
    model: Qwen3, found: Iterator[tuple[_Text, np.ndarray | None]], args: argparse.Namespace
) -> int:
    """The nearest texts, a line each; the exit status."""
    asked = model.embed([args.query], query=args.task or True, dimensions=args.dimensions)[0]
    best: list[tuple[float, int, str]] = []
    status = 0
    for each, vector in found:
        name = _name(each.about)
        if vector is None:
            print(f"qwen3-mlx: {name}: {each.error}", file=sys.stderr)
            status = 2
            continue
        entry = (float(vector @ asked), -each.about["n"], name)
        (heapq.heappush if len(best) < args.top else heapq.heappushpop)(best, entry)
    for score, _, name in sorted(best, reverse=True):
        print(f"{score:.4f}\t{name}")
    return status


def _name(about: dict[str, Any]) -> str:
    """What a text is called; names of files may have bytes that are no characters."""
    name = str(about.get("file") or about.get("text") or f"line {about['n']}")
    return name.encode(errors="replace").decode()


class _Progress:
    """How many texts are read, on a terminal's standard error."""

    def __init__(self, total: int | None, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._of = "" if total is None else f" of {total:,}"
        self._done = 0

    def within(self, done: int, _total: int) -> None:
        """So many of the present block."""
        if self._shown:
            sys.stderr.write(f"\r{self._done + done:,}{self._of} texts\x1b[K")
            sys.stderr.flush()

    def add(self, count: int) -> None:
        """The block is read."""
        self._done += count

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
