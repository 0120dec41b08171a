"""`qwen3-mlx completion`: words after the Tab key, made from the command line's own parser."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Command", "add_parser", "commands", "script"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_EXAMPLES = """\
examples:
  eval "$(qwen3-mlx completion bash)"           in ~/.bashrc
  source <(qwen3-mlx completion zsh)            in ~/.zshrc, after compinit
  qwen3-mlx completion fish | source            in ~/.config/fish/config.fish
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A command's words, and what may follow: subcommands and flags with their help.

    `values` are the flags that take a value, with the choices where those are known.
    """

    words: tuple[str, ...]
    subcommands: dict[str, str]
    flags: dict[str, str]
    values: dict[str, tuple[str, ...]]


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add `completion` to the command line's subcommands."""
    from qwen3_mlx_app import options

    parser = subparsers.add_parser(
        "completion",
        help="print a script that completes commands and flags in a shell",
        description="Print a script that completes commands and flags.",
        epilog=_EXAMPLES,
        formatter_class=options.HelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=_run)
    return parser


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Every command of a parser, the parser itself first."""
    below: dict[str, argparse.ArgumentParser] = {}
    helps: dict[str, str] = {}
    flags: dict[str, str] = {}
    values: dict[str, tuple[str, ...]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below.update(action.choices)
            helps.update({each.dest: each.help or "" for each in action._choices_actions})
        text = (action.help or "").replace("%%", "%")  # which argparse would do
        text = text.partition("(default")[0].partition(";")[0].strip()
        for flag in action.option_strings:
            flags[flag] = " ".join(text.split())
            if action.nargs != 0:
                values[flag] = tuple(map(str, action.choices or ()))
    yield Command(words, {name: helps.get(name, "") for name in below}, flags, values)
    for name, child in below.items():
        yield from commands(child, (*words, name))


def script(shell: str, found: list[Command]) -> str:
    """The script for a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](found)


def _run(args: argparse.Namespace) -> int:
    from qwen3_mlx_app.cli import full_parser

    print(script(args.shell, list(commands(full_parser()))), end="")
    return 0


def _bash(found: list[Command]) -> str:
    cases = []
    for command in found:
        choices = "".join(
            f" {flag}) words={shlex.quote(' '.join(each))} ;;"
            for flag, each in command.values.items()
            if each
        )
        free = [flag for flag, each in command.values.items() if not each]
        files = f" {'|'.join(free)}) return ;;" if free else ""
        words = shlex.quote(" ".join([*command.subcommands, *command.flags]))
        cases.append(
            f"    {shlex.quote(' '.join(command.words))})\n"
            f'      case "$previous" in{choices}{files} *) words={words} ;; esac ;;\n'
        )
    return f"""# bash completion of qwen3-mlx; files complete where no word fits
_qwen3_mlx() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  local path="" words="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$path $word" in
{_bash_steps(found)}    esac
  done
  case "$path" in
{"".join(cases)}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _qwen3_mlx qwen3-mlx
"""


def _bash_steps(found: list[Command]) -> str:
    steps = (command.words for command in found if command.words)
    return "".join(
        f"      {shlex.quote(' '.join(words[:-1]) + ' ' + words[-1])}) "
        f"path={shlex.quote(' '.join(words))} ;;\n"
        for words in steps
    )


def _zsh(found: list[Command]) -> str:
    body = []
    for command in found:
        below = [f"{name}:{text}" for name, text in command.subcommands.items()]
        flags = [f"{flag}:{text}" for flag, text in command.flags.items()]
        lines = [f"    {shlex.quote(' '.join(command.words))})"]
        if below:
            lines.append(f"      commands=({' '.join(map(shlex.quote, below))})")
        lines.append(f"      flags=({' '.join(map(shlex.quote, flags))})")
        lines += ["      case $words[CURRENT-1] in"]
        for flag, choices in command.values.items():
            does = f"compadd -- {' '.join(map(shlex.quote, choices))}" if choices else "_files"
            lines.append(f"        {flag}) {does}; return ;;")
        body.append("\n".join([*lines, "      esac ;;\n"]))
    return f"""#compdef qwen3-mlx
_qwen3_mlx() {{
  local place="" word
  local -a commands flags
  for word in ${{words[2,CURRENT-1]}}; do
    case "$place $word" in
{_bash_steps(found).replace("path=", "place=")}    esac
  done
  case $place in
{"".join(body)}  esac
  (( $#commands )) && _describe command commands
  _describe flag flags
  (( $#commands )) || _files
}}
compdef _qwen3_mlx qwen3-mlx
"""


def _fish(found: list[Command]) -> str:
    lines = ["# fish completion of qwen3-mlx"]
    for command in found:
        here = _fish_place(command)
        for name, text in command.subcommands.items():
            lines.append(f"complete -c qwen3-mlx -n {here} -f -a {name} -d {_fish_quoted(text)}")
        for flag, text in command.flags.items():
            kind = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            choices = command.values.get(flag)
            value = "" if choices is None else " -r"
            value += f" -f -a {_fish_quoted(' '.join(choices))}" if choices else ""
            lines.append(f"complete -c qwen3-mlx -n {here} {kind}{value} -d {_fish_quoted(text)}")
    return "\n".join(lines) + "\n"


def _fish_place(command: Command) -> str:
    """A condition: these words were given, and none of the words that would lead further."""
    tests = [f"__fish_seen_subcommand_from {word}" for word in command.words]
    if command.subcommands:
        tests.append(f"not __fish_seen_subcommand_from {' '.join(command.subcommands)}")
    return _fish_quoted("; and ".join(tests))


def _fish_quoted(text: str) -> str:
    return "'" + re.sub(r"(['\\])", r"\\\1", text) + "'"
