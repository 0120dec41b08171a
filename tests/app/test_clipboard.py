"""The clipboard, with stand-ins for the programs of each system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from agent_stand import agent
from stubs import stub

from qwen3_mlx.errors import OptionError
from qwen3_mlx_app import ask_command, clipboard
from qwen3_mlx_app.cli import main


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


_XCLIP = ["xclip", "-selection", "clipboard"]


@pytest.mark.parametrize(
    ("variable", "copy", "paste"),
    [
        ("", ["pbcopy"], ["pbpaste"]),
        ("WAYLAND_DISPLAY", ["wl-copy"], ["wl-paste", "--no-newline"]),
        ("DISPLAY", _XCLIP, [*_XCLIP, "-o"]),
    ],
)  # fmt: skip
def test_each_system_has_its_own(
    variable: str,
    copy: list[str],
    paste: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv(variable, "0")
    calls = [
        stub(tmp_path / "bin", name, "grüß dich") for name in dict.fromkeys([copy[0], paste[0]])
    ]
    clipboard.check(copies=True, pastes=True)
    clipboard.copy("4 × 2")
    assert clipboard.paste() == "grüß dich"
    first, *_ = calls[0]()
    assert (first["argv"], first["stdin"]) == (copy, "4 × 2")
    assert calls[-1]()[-1]["argv"] == paste


def test_no_clipboard_is_told_before_anything_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "-m", "tiny", "--copy", "hi"]) == 2
    assert "there is no clipboard" in capsys.readouterr().err


def test_a_clipboard_that_fails_is_told(tmp_path: Path) -> None:
    stub(tmp_path / "bin", "pbcopy", status=3)
    with pytest.raises(OptionError, match="pbcopy failed"):
        clipboard.copy("x")


def test_half_an_answer_does_not_take_the_place_of_the_clipboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = stub(tmp_path / "bin", "pbcopy")
    stub(tmp_path / "bin", "pbpaste", "some words")
    listen = ask_command._listen
    stop = lambda answer, streams: (listen(answer, streams=streams)[0], True)  # noqa: E731
    monkeypatch.setattr(ask_command, "_listen", stop)
    with agent():
        assert main(["ask", "-m", "tiny", "--paste", "--copy", "Louder:"]) == 130
    assert copied() == []


def test_ask_from_and_to_the_clipboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = stub(tmp_path / "bin", "pbcopy")
    stub(tmp_path / "bin", "pbpaste", "some words")
    with agent():
        assert main(["ask", "-m", "tiny", "--paste", "--copy", "Louder:"]) == 0
    assert capsys.readouterr().out == "LOUDER:\n\nSOME WORDS\n"
    assert copied()[0]["stdin"] == "LOUDER:\n\nSOME WORDS"
    assert sys.stdout.writable()
