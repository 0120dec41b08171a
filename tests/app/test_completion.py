"""Shell completion: made from the parser, and understood by the shells that are here."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from qwen3_mlx_app.cli import full_parser
from qwen3_mlx_app.completion_command import commands, script

FOUND = list(commands(full_parser()))


def test_it_knows_every_command_and_flag() -> None:
    by_words = {command.words: command for command in FOUND}
    assert {"ask", "agent", "chat", "completion", "convert"} <= set(by_words[()].subcommands)
    assert set(by_words[("agent",)].subcommands) == {
        "run",
        "install",
        "status",
        "stop",
        "uninstall",
    }
    assert {"--jsonl", "--resume", "-f"} <= set(by_words[("ask",)].flags)
    assert by_words[("chat",)].values["--theme"] == ("dark", "light")
    assert "--jsonl" not in by_words[("ask",)].values


def bash(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    program = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _qwen3_mlx"
    done = subprocess.run(
        ["bash", "-c", f'source /dev/stdin; {program}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        input=script("bash", FOUND), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_bash() -> None:
    assert bash("qwen3-mlx", "ag") == ["agent"]
    assert bash("qwen3-mlx", "agent", "in") == ["install"]
    assert bash("qwen3-mlx", "agent", "run", "--mem") == ["--memory-limit"]
    assert bash("qwen3-mlx", "ask", "--js") == ["--json", "--jsonl"]
    assert bash("qwen3-mlx", "chat", "--theme", "") == ["dark", "light"]
    assert bash("qwen3-mlx", "ask", "-f", "") == []  # files: the shell's own completion


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_help_is_shown_as_argparse_shows_it(shell: str) -> None:
    assert "8 % more" in script(shell, FOUND)
    assert "%%" not in script(shell, FOUND)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_good_syntax(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script(shell, FOUND), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_fish() -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    done = subprocess.run(
        ["fish", "--no-config", "-c", 'source -; complete -C"qwen3-mlx agent ins"'],
        input=script("fish", FOUND), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\t")[0] == "install"
