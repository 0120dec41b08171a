"""`qwen3-mlx serve`: one model behind the interface of OpenAI, for programs of this computer."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from qwen3_mlx import places
from qwen3_mlx.errors import OptionError
from qwen3_mlx.open_files import allow_files
from qwen3_mlx_app import options

if TYPE_CHECKING:
    from qwen3_mlx.interface import ChatModel
    from qwen3_mlx_app.server.server import Server

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "names_of", "run"]

_KEY = "QWEN3_MLX_SERVE_KEY"
#: A client takes three files (its socket, and a pair that wakes its thread); 256 may be there.
_FILES = 3 * 256 + 64
_EXAMPLES = """\
examples:
  qwen3-mlx serve -m 4b
  curl http://127.0.0.1:8080/v1/chat/completions \\
      -d '{"messages": [{"role": "user", "content": "What is 12 + 30?"}]}'
  QWEN3_MLX_SERVE_KEY=… qwen3-mlx serve -m 4b --host 0.0.0.0

The interface is OpenAI's: /v1/chat/completions, /v1/responses, /v1/completions, /v1/embeddings
(with an embedding model), /v1/models; and /health. Any client of it works with
http://127.0.0.1:8080/v1 as its base URL. No other model is loaded on demand. Standard error has a
line for each request, without what was asked or answered.

Exit status: 0 ended with ^C, 2 the command cannot be carried out.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `serve` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "serve",
        help="answer programs through OpenAI's interface, on this computer",
        description="Serve one model through OpenAI's interface.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument(
        "-m", "--model", metavar="MODEL",
        help="the model to serve (default: the last one used, else tiny)",
    )  # fmt: skip
    parser.add_argument(
        "--parallel", type=int, metavar="N", default=4,
        help="requests that are answered at once (default: 4); others wait",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no line for each request")
    _add_door(parser)
    options.add_memory(parser)
    options.add_speculation(parser)
    parser.set_defaults(run=run)
    return parser


def _add_door(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may ask")
    group.add_argument(
        "--host", default="127.0.0.1",
        help="where to listen (default: 127.0.0.1, this computer only); others need a key",
    )  # fmt: skip
    group.add_argument(
        "--port", type=int, default=8080, help="which port (default: 8080); 0 is any that is free"
    )
    group.add_argument(
        "--key",
        help=f"what clients must send as their API key; {_KEY} is a better place, since other "
        "users of this computer can see the arguments of programs",
    )  # fmt: skip
    group.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[],
        help="a further name by which clients call this computer, such as host.docker.internal",
    )  # fmt: skip
    group.add_argument(
        "--allow-origin", metavar="URL", action="append", default=[],
        help="a site whose pages may ask, such as http://localhost:3000; by default none may",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Load, serve, and end with ^C; the exit status."""
    key = _checked_key(args)
    if args.parallel < 1:
        raise OptionError(f"--parallel is {args.parallel}, and must be at least 1")
    name = options.chosen_model(args)
    allow_files(_FILES)
    server = _server(args, name, key)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.desk.served.open()
        if args.model:
            places.remember_model(name)
        word = "the key" if key else "any text"
        print(
            f"{server.url} serves {server.desk.name}: the base URL for any OpenAI client, with "
            f"{word} as its API key; ^C ends it",
            flush=True,
        )
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
        signal.signal(signal.SIGTERM, before)
    return 0


def _origin(given: str) -> str:
    """A site as browsers name it: scheme, host and port, without a path."""
    site = given.rstrip("/")
    if not re.fullmatch(r"https?://[^/*?#@]+", site):
        raise OptionError(
            f"--allow-origin is {given!r}, and must be one site, such as http://localhost:3000"
        )
    return site.lower()


def names_of(name: str) -> list[str]:
    """What clients may call a model; first what it is called, which tells no folder.

    >>> names_of("4b")
    ['4b', 'Qwen/Qwen3-4B']
    """
    from qwen3_mlx import catalogue

    path = os.path.expanduser(name)
    last = os.path.basename(os.path.abspath(path))
    if os.path.exists(path) and name != "tiny":
        return list(dict.fromkeys([last, name, os.path.abspath(path)]))
    entry = catalogue.find(name)
    names = [name, last] if entry is None else [name, last, entry.name, entry.hub_id]
    return list(dict.fromkeys(each for each in names if each))


def _checked_key(args: argparse.Namespace) -> str:
    from qwen3_mlx_app.server.guard import is_loopback

    key: str = os.environ.get(_KEY, "") if args.key is None else args.key
    if args.key == "" or not key.isascii() or not key.isprintable() or " " in key:
        raise OptionError("a key is letters, digits and signs without spaces, at least one")
    if not key and not is_loopback(args.host):
        raise OptionError(
            f"--host {args.host} lets other computers ask: set {_KEY} to a key that they must know"
        )
    return key


def _server(args: argparse.Namespace, name: str, key: str) -> Server:
    from qwen3_mlx_app.server.desk import Desk
    from qwen3_mlx_app.server.gate import Gate
    from qwen3_mlx_app.server.guard import Guard
    from qwen3_mlx_app.server.served import Served
    from qwen3_mlx_app.server.server import Server

    def log(line: str) -> None:
        if not args.quiet:
            with suppress(OSError):  # nobody reads it any more
                print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    served = Served(_loader(args, name, log), probe=_touch, log=log)
    gate = Gate(args.parallel, waiting=16 * args.parallel)
    origins = [_origin(given) for given in args.allow_origin]
    guard = Guard(args.host, key, args.allow_host, origins)
    return Server(args.host, args.port, Desk(names_of(name), served, gate, guard), log)


def _loader(
    args: argparse.Namespace, name: str, log: Callable[[str], None]
) -> Callable[[], ChatModel]:
    def load() -> ChatModel:
        import qwen3_mlx
        from qwen3_mlx_convert.fetching import fetch

        fetch(name)  # a download shows its progress
        log(f"loading {name}")
        return qwen3_mlx.load(name, agent=False, **options.memory(args))

    return load


def _touch(model: ChatModel) -> None:
    """The least that the engine can do: read one token."""
    logits = getattr(model, "logits", None)  # scripted models have none
    if logits is not None:
        logits([0])
