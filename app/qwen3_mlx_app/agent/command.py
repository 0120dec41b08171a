"""`qwen3-mlx agent`: keep a model warm, as a process or as a service of the session."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import EngineError, OptionError
from qwen3_mlx.open_files import allow_files
from qwen3_mlx.warm import link, place
from qwen3_mlx_app import options

if TYPE_CHECKING:
    from qwen3_mlx_app.agent.server import Server

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]

_EXAMPLES = """\
examples:
  qwen3-mlx agent run -m 4b &            keep 4b warm until this session ends
  qwen3-mlx agent install -m 4b          the same at every login (launchd, or systemd --user)
  qwen3-mlx agent status                 which model, whether it is loaded, what runs
  qwen3-mlx agent uninstall

While an agent holds a model, `qwen3-mlx ask` and qwen3_mlx.load use it by themselves, and answer
without loading anything. It listens at a socket that only you can open, never at a port.

Exit status: 0 done, 1 there is no agent (status, stop), 2 the command cannot be carried out.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `agent` to the command line's subcommands."""
    parser = subparsers.add_parser(
        "agent",
        help="keep a model warm, so that answers begin at once",
        description="Keep a model warm behind a socket that only you can open.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, text, run in (
        ("run", "be the agent, until it is stopped", _run),
        ("install", "start the agent now and at every login", _install),
    ):
        action = actions.add_parser(name, help=text, description=text)
        _add_model(action)
        action.set_defaults(run=run)
    actions.choices["install"].add_argument(
        "--dry-run", action="store_true", help="print the file that would be written, and its path"
    )
    status = actions.add_parser("status", help="say what the agent does")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)
    actions.add_parser("stop", help="end the agent").set_defaults(run=_stop)
    remove = actions.add_parser("uninstall", help="end the agent, and do not start it at login")
    remove.set_defaults(run=_uninstall)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m", "--model", metavar="MODEL",
        help="the model to keep (default: the last one used, else tiny)",
    )  # fmt: skip
    parser.add_argument(
        "--idle", type=float, metavar="S", default=900.0,
        help="let the model go after S seconds without a question (default: 900); 0 never does",
    )  # fmt: skip
    options.add_memory(parser)
    options.add_speculation(parser)


def _run(args: argparse.Namespace) -> int:
    from qwen3_mlx_app.agent.identity import Identity

    _check_idle(args)
    identity = Identity(_fetched(options.chosen_model(args)), options.memory(args))
    allow_files(256 + 64)  # the clients that the agent takes, and its own
    server = _server(args, identity)
    if server is None:
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, lambda *_: server.stop())
    print(f"agent for {identity.name} at {place.socket_path()}", file=sys.stderr)
    if server.run() == "restart":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return 0


def _server(args: argparse.Namespace, identity: Any) -> Server | None:
    """The agent; None if one for this model runs already."""
    from qwen3_mlx_app.agent.holder import Holder
    from qwen3_mlx_app.agent.log import Log
    from qwen3_mlx_app.agent.server import Busy, Server

    log = Log(os.path.join(place.folder(), "agent.log"))

    def load(progress: Any) -> Any:
        import qwen3_mlx

        # agent=False: it would wait for itself.
        return qwen3_mlx.load(identity.name, progress=progress, agent=False, **identity.load)

    holder = Holder(load, idle_seconds=args.idle, signature=identity.signature, log=log)
    try:
        return Server(identity, holder, log)
    except Busy as busy:
        facts = _facts()
        if facts is None:
            raise OptionError(f"{busy}, and is just starting or ending: try again") from busy
        about = f"process {facts['pid']}, model {facts['model']}"
        if facts["folder"] != str(identity.folder) or facts["load"] != identity.load:
            raise OptionError(
                f"{busy} ({about}): end it with `qwen3-mlx agent stop`, or use its model"
            ) from busy
        print(f"{busy} ({about})", file=sys.stderr)
        return None


def _install(args: argparse.Namespace) -> int:
    from qwen3_mlx_app.agent import service

    _check_idle(args)
    name = link.key_of(options.chosen_model(args))
    words = ["agent", "run", "-m", name, "--idle", f"{args.idle:g}"]
    for option, value in options.memory(args).items():
        flag = f"--{option.replace('_', '-')}"
        words += [] if value is None else [flag] if value is True else [flag, str(value)]
    if args.dry_run:
        return _show(name, words)
    _fetched(name)  # now: what a service says, nobody sees
    facts = _facts()
    if facts is not None:  # of a terminal, or of another version; the service takes its place
        link.tell({"do": "stop"})
        _wait_for_end(facts["pid"])
    service.install(words)
    print(f"installed {service.installed_at()}: {name} will be warm at every login")
    return 0


def _show(name: str, words: list[str]) -> int:
    """Print what would be installed. Nothing is written, and nothing downloaded."""
    from qwen3_mlx import hub
    from qwen3_mlx_app.agent import service

    if hub.find(name) is None:
        print(f"{name} is not here: without --dry-run it is downloaded first", file=sys.stderr)
    print(service.definition(words).decode(), end="")
    print(f"to be written to {service.installed_at()}", file=sys.stderr)
    return 0


def _fetched(name: str) -> str:
    """The same name, of a model that is here by now; a download shows its progress."""
    from qwen3_mlx import hub

    if hub.find(name) is None:
        from qwen3_mlx_convert.fetching import fetch  # brings numpy and MLX

        fetch(name)
    return name


def _status(args: argparse.Namespace) -> int:
    facts = _facts()
    if args.json:
        print(json.dumps(facts, indent=2))
    elif facts is None:
        print("no agent runs: `qwen3-mlx agent run` or `qwen3-mlx agent install` starts one")
    else:
        print("\n".join(_lines(facts)))
    return 1 if facts is None else 0


def _stop(args: argparse.Namespace) -> int:
    facts = _facts()
    if facts is None or link.tell({"do": "stop"}) is None:
        raise EngineError("no agent runs")
    _wait_for_end(facts["pid"])
    return 0


def _uninstall(args: argparse.Namespace) -> int:
    from qwen3_mlx_app.agent import service

    path = service.installed_at()
    if not service.uninstall():
        raise OptionError(f"no agent is installed: there is no {path}")
    print(f"removed {path}")
    return 0


def _facts() -> dict[str, Any] | None:
    """What a running agent says of itself."""
    answer = link.tell({"do": "status"}, note=lambda text: print(text, file=sys.stderr))
    return None if answer is None else answer.get("status")


def _lines(facts: dict[str, Any]) -> list[str]:
    state = "loaded" if facts["loaded"] else "not loaded, the next question does that"
    lines = [
        f"model    {facts['model']} ({state})",
        f"answers  {facts['served']} given, {facts['running']} running",
        f"process  {facts['pid']}, version {facts['version']}, "
        f"up {facts['uptime_seconds']:.0f} s, loaded {facts['loads']} times",
        f"socket   {place.socket_path()}",
    ]
    if facts["load"]:
        lines.append("options  " + ", ".join(f"{k}={v}" for k, v in facts["load"].items()))
    if facts["log_lines_lost"]:
        lines.append(f"log      {facts['log_lines_lost']} lines were lost: is the disk full?")
    return lines


def _check_idle(args: argparse.Namespace) -> None:
    if not args.idle >= 0:
        raise OptionError(f"--idle is {args.idle:g} seconds, and must be 0 (never) or more")


def _wait_for_end(pid: int, seconds: float = 20.0) -> None:
    """Until the process is gone, or its socket is."""
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until and os.path.exists(place.socket_path()):
        time.sleep(0.05)
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except OSError:
            return
        time.sleep(0.05)
