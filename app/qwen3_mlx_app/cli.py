"""The command line: `qwen3-mlx ask | chat | serve | convert | models` and so on.

Commands import what they need when they run, so that `ask` starts without the app's
libraries, and every mistake of the caller ends in one sentence and exit status 2.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from qwen3_mlx.errors import EngineError, Qwen3Error
from qwen3_mlx.version import __version__
from qwen3_mlx_app import options

__all__ = ["full_parser", "main"]

_DESCRIPTION = "Run Qwen3 on this machine: privately, offline, from 0.6B to 480B."
# In the order of the help text; each module has add_parser(subparsers).
_COMMANDS = {
    "agent": "qwen3_mlx_app.agent.command",
    "ask": "qwen3_mlx_app.ask_command",
    "bench": "qwen3_mlx_app.bench.command",
    "chat": "qwen3_mlx_app.chat_command",
    "completion": "qwen3_mlx_app.completion_command",
    "convert": "qwen3_mlx_convert.command",
    "doctor": "qwen3_mlx_app.doctor.command",
    "embed": "qwen3_mlx_app.embed_command",
    "eval": "qwen3_mlx_app.exam.command",
    "fit": "qwen3_mlx_app.fit_command",
    "models": "qwen3_mlx_app.models_command",
    "pack": "qwen3_mlx_app.pack_command",
    "pull": "qwen3_mlx_app.pull_command",
    "quality": "qwen3_mlx_convert.quality_command",
    "rm": "qwen3_mlx_app.rm_command",
    "serve": "qwen3_mlx_app.server.command",
    "unpack": "qwen3_mlx_app.unpack_command",
    "verify": "qwen3_mlx_convert.verify_command",
}
_EXAMPLES = """\
examples:
  qwen3-mlx chat                         talk to the last model used, at first to tiny
  qwen3-mlx ask "What is 12 + 30?"       one answer on standard output
  qwen3-mlx fit                          which models fit this machine, and how fast they are
  qwen3-mlx models                       names, sizes, what is on this machine
  qwen3-mlx convert Qwen/Qwen3-4B --q4   Hugging Face weights to 4-bit MLX
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit status."""
    argv = sys.argv[1:] if argv is None else argv
    _open_streams()
    try:
        try:
            args = _parser(argv).parse_args(argv)
            return int(args.run(args))
        finally:
            sys.stdout.flush()  # here, where a reader that has left can still be told apart
    except Qwen3Error as error:
        print(f"qwen3-mlx: {error}", file=sys.stderr)
        return 1 if isinstance(error, EngineError) else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has left (`… | head`)
        _drop_stdout()
        return 141
    except OSError as error:  # a disk that is full, a folder that others own
        _drop_stdout()
        where = f"{error.filename}: " if error.filename else ""
        print(f"qwen3-mlx: {where}{error.strerror or error}", file=sys.stderr)
        return 2


def _open_streams() -> None:
    """Let no stream be missing, and no letter that one cannot say be an error.

    Where a stream was closed (`<&-`), Python has None and its number is free for any file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Keep Python from complaining once more at exit, where nobody takes the output."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def full_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    return _parser([])


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; it imports only the command that was named, or all of them for help."""
    parser = argparse.ArgumentParser(
        prog="qwen3-mlx",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qwen3-mlx {__version__}")
    commands = parser.add_subparsers(prog="qwen3-mlx", metavar="COMMAND", required=True)
    named = argv[0] if argv else ""
    for name in [named] if named in _COMMANDS else _COMMANDS:
        importlib.import_module(_COMMANDS[name]).add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
