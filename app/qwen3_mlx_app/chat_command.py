"""`qwen3-mlx chat`: the conversation on a screen, or in plain lines for pipes."""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx import places
from qwen3_mlx.errors import OptionError
from qwen3_mlx.interface import Sampling
from qwen3_mlx_app import options
from qwen3_mlx_app.tui import language
from qwen3_mlx_app.tui.settings import Settings, read_settings

if TYPE_CHECKING:
    from qwen3_mlx.events import Loading
    from qwen3_mlx.interface import ChatModel
    from qwen3_mlx.tools.functions import Tool
    from qwen3_mlx_app.tui.session import Session
    from qwen3_mlx_app.tui.store import Store
    from qwen3_mlx_app.tui.worker import Loader

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  qwen3-mlx chat                      talk to the last model used, at first to tiny
  qwen3-mlx chat -m 4b --no-think     a bigger model that answers at once
  qwen3-mlx chat --system "Answer in Chinese."
  qwen3-mlx chat --plain              whole lines without a screen, for screen readers
  qwen3-mlx chat --web                the same in a browser on this computer
  qwen3-mlx chat -m 4b --tools my_tools.py   the model may call its functions, if you say yes
  printf '2 + 2?\\nand + 3?\\n' | qwen3-mlx chat      one turn for each line

In the chat, F1 lists the keys and / the commands.
"""

_TINY_HINT = "This is tiny, a demonstration model. qwen3-mlx chat -m 4b gets a real one."


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `chat` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "chat",
        help="talk with a model in the terminal",
        description="Talk with a model in the terminal. Everything stays on this computer.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_model(parser)
    options.add_budget(parser)
    options.add_overflow(parser)
    options.add_memory(parser)
    options.add_speculation(parser)
    parser.add_argument(
        "--plain",
        action="store_true",
        help="no screen: labelled lines (also where input or output is no terminal)",
    )
    parser.add_argument(
        "--web", action="store_true", help="show the chat in a browser on this computer"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="N",
        help="with --web: the port (default: a free one)",
    )
    parser.add_argument(
        "--tools",
        action="append",
        default=[],
        metavar="FILE.py",
        help="let the model call the functions of a Python file; each call waits for your yes "
        "(may be given more than once)",
    )
    parser.add_argument("--private", action="store_true", help="do not save this chat")
    parser.add_argument(
        "--theme", choices=("dark", "light"), help="the colours (default: as in the settings)"
    )
    options.add_sampling(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace, load: Loader | None = None) -> int:
    """Chat until the person leaves; the exit status. `load` replaces the model, for tests."""
    tools = _tools(args)
    if args.port and not args.web:
        raise OptionError("--port is for --web: add it, or leave --port out")
    if args.web and not _served():
        return _serve(args)
    plain = args.plain or not _on_screen()
    name, hint = _model_name(args)
    # A script that reads a pipe gets the same answers everywhere.
    script = plain and not args.plain
    settings, problems = (Settings(), []) if script else read_settings(_settings_path())
    for problem in problems:
        print(f"qwen3-mlx: not used: {problem}", file=sys.stderr)
    if load is None:
        _find(name)
        wishes = settings.memory() | _memory_flags(args)
        load = _loader(name, wishes, remember=bool(args.model))
    if plain:
        if args.plain:
            language.use(settings.language)
        return _run_plain(_session(args, load, settings, tools), hint)
    return _run_screen(args, load, name, hint, settings, tools)


def _tools(args: argparse.Namespace) -> tuple[Tool, ...]:
    """The functions that the model may call; their files are read before all else."""
    if not args.tools:
        return ()
    from qwen3_mlx_app.tool_files import read_tools

    return read_tools(args.tools)


def _served() -> bool:
    """Whether a browser is the screen: `--web` starts this command again with such a driver."""
    return "web_driver" in os.environ.get("TEXTUAL_DRIVER", "")


def _on_screen() -> bool:
    return _served() or (sys.stdin.isatty() and sys.stdout.isatty())


def _serve(args: argparse.Namespace) -> int:
    """Find the model here, where its download can be seen, and wait for a browser."""
    if args.plain:
        raise OptionError("--plain has no screen that --web could show: leave one of them out")
    try:
        from qwen3_mlx_app.web.serve import serve
    except ImportError as error:
        raise OptionError(
            f"--web needs the web extra ({error}): pip install 'qwen3-mlx[web]'"
        ) from error
    _find(_model_name(args)[0])
    return serve(sys.argv[1:], args.port)


def _run_plain(session: Session, hint: str) -> int:
    from qwen3_mlx_app.tui.plain import PlainChat

    if isinstance(sys.stdin, io.TextIOWrapper):
        # A pipe may hold anything; a stray byte should cost one character, not the chat.
        sys.stdin.reconfigure(errors="replace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer letters than a model
    if hint:
        print(language.t("note: ") + language.t(hint), file=sys.stderr)
    return PlainChat(session, sys.stdin, sys.stdout).run()


def _run_screen(
    args: argparse.Namespace,
    load: Loader,
    name: str,
    hint: str,
    settings: Settings,
    tools: tuple[Tool, ...],
) -> int:
    """The app. What is written to file descriptor 2 meanwhile goes to a log."""
    from qwen3_mlx_app.tui.stderr import log_path, stderr_to

    language.use(settings.language)
    log = log_path()
    gc.disable()  # a sixth of the start is spent on looking for garbage that is not there
    with stderr_to(log):
        from qwen3_mlx_app.tui.app import ChatApp
        from qwen3_mlx_app.tui.screens.choices import Environment

        app = ChatApp(
            _session(args, load, settings, tools),
            os.path.basename(name),
            theme=args.theme or settings.theme,
            hint=hint,
            world=Environment(
                lambda name, memory: _loader(
                    name, {**memory, **_memory_flags(args)}, remember=True
                ),
                settings,
                _settings_path(),
                name,
            ),
        )
        app.run()
    if app.return_code:
        print(f"qwen3-mlx: the chat ended with a fault; the log is {log}", file=sys.stderr)
    return app.return_code or 0


def _settings_path() -> Path:
    from qwen3_mlx import hub

    return hub.data_dir() / "settings.toml"


def _memory_flags(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of memory comes before the settings."""
    return {name: value for name, value in options.memory(args).items() if value is not None}


def _session(
    args: argparse.Namespace, load: Loader, settings: Settings, tools: tuple[Tool, ...]
) -> Session:
    """The flags of the command line come before the settings."""
    if args.max_tokens is not None and args.max_tokens < 1:
        raise OptionError(f"--max-tokens is {args.max_tokens}, and must be at least 1")
    from qwen3_mlx_app.tui.session import ChatOptions, Session
    from qwen3_mlx_app.tui.state import VIEWS

    flags = options.sampling(args)
    chosen = ChatOptions(
        system=(settings.system if args.system is None else args.system) or None,
        thinking=settings.thinking if args.think is None else args.think,
        sampling=settings.sampling() if flags == Sampling() else flags,
        max_tokens=args.max_tokens or settings.max_tokens or None,  # 0 in the settings: no bound
        seed=args.seed,
        overflow=args.overflow,
        tools=tools,
    )
    store, trouble, reopen = _store(args)
    session = Session(load, chosen, store=store, trouble=trouble, reopen=reopen)
    session.state.budget = settings.budget or None if args.budget is None else args.budget
    session.state.view = next(view for view in VIEWS if view == settings.thoughts)
    return session


def _store(
    args: argparse.Namespace,
) -> tuple[Store | None, str, Callable[[], Store] | None]:
    """The chats on disk, or why there are none, and how to try again.

    A pipe without --plain is a script: not kept.
    """
    from qwen3_mlx import hub
    from qwen3_mlx_app.tui.store import Store, StoreError

    if args.private:
        return None, language.t("--private was given"), None
    if not args.plain and not _on_screen():
        return None, "", None
    opened = partial(Store, hub.data_dir() / "chats.db")
    try:
        return opened(), "", opened
    except StoreError as error:
        return None, str(error), opened


def _model_name(args: argparse.Namespace) -> tuple[str, str]:
    """The model, and for a first-time user the way to a real one.

    `options.chosen_model` would print that, and a screen would cover it at once.
    """
    if args.model is None and places.last_model() is None:
        return "tiny", _TINY_HINT
    return options.chosen_model(args), ""


def _find(name: str) -> None:
    """Find the model now, so that a wrong name ends here and a download shows its progress."""
    from qwen3_mlx import hub

    if hub.find(name) is None:
        # Brings numpy and MLX, a third of what the first frame would wait for.
        from qwen3_mlx_convert.fetching import fetch

        fetch(name)


def _loader(name: str, memory: dict[str, Any], *, remember: bool) -> Loader:
    """Reads the model later, off the screen's thread."""

    def load(progress: Callable[[Loading], None]) -> ChatModel:
        import qwen3_mlx

        model = qwen3_mlx.load(name, progress=progress, **memory)
        if remember:
            places.remember_model(name)
        return model

    return load
