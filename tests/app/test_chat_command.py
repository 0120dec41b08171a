"""`qwen3-mlx chat`: its flags, the choice between screen and lines, and a whole screen."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen3_mlx.errors import ModelNotFoundError, OptionError
from qwen3_mlx.interface import Sampling
from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app import chat_command, clipboard
from qwen3_mlx_app.tui import language
from qwen3_mlx_app.tui.screens.turns import copy_to_system
from qwen3_mlx_app.tui.settings import Settings, write_settings
from qwen3_mlx_app.tui.stderr import log_path, stderr_to


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    yield
    language.use("en")


def parse(*argv: str) -> argparse.Namespace:
    """Parse as the command line does."""
    parser = argparse.ArgumentParser()
    chat_command.add_parser(parser.add_subparsers())
    return parser.parse_args(["chat", *argv])


def test_every_flag_reaches_the_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
    model = FakeModel(["Hello."])
    flags = "--system Brief. --no-think --temperature 0.5 --top-k 3 --max-tokens 9 --seed 4 --plain"
    args = parse("-m", "tiny", *flags.split())
    assert args.run(args, load=lambda progress: model) == 0
    (call,) = model.calls
    assert (call.system, call.thinking, call.max_tokens, call.seed) == ("Brief.", False, 9, 4)
    assert call.sampling == Sampling(temperature=0.5, top_k=3)
    assert "qwen3: Hello." in capsys.readouterr().out


def test_a_pipe_needs_no_flag_and_a_first_user_gets_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hi \xff\n"), "utf-8"))
    model = FakeModel(["Hello."])
    args = parse()
    assert chat_command.run(args, load=lambda progress: model) == 0
    captured = capsys.readouterr()
    assert "note: This is tiny" in captured.err
    assert captured.out.startswith("you: hi \ufffd\n")


def test_plain_is_in_the_language_of_the_person_and_a_pipe_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    for flags, label in (["--plain"], "qwen3：Hello."), ([], "qwen3: Hello."):
        language.use("en")
        monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
        model = FakeModel(["Hello."])
        assert chat_command.run(parse("-m", "tiny", *flags), load=lambda progress: model) == 0  # noqa: B023
        assert label in capsys.readouterr().out


def test_plain_keeps_to_the_settings_and_a_pipe_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chat_command._settings_path()
    write_settings(path, Settings(thinking=False, max_tokens=4, system="Be brief."))
    with path.open("a", encoding="utf-8") as file:
        file.write("colour = 3\n")
    asked = []
    for flags in ["--plain"], ["--plain", "--system", "", "--think"], []:
        monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
        model = FakeModel(["Hello."])
        assert chat_command.run(parse("-m", "tiny", *flags), load=lambda progress: model) == 0  # noqa: B023
        (call,) = model.calls
        asked.append((call.thinking, call.max_tokens, call.system))
        assert ("not used: " in capsys.readouterr().err) == bool(flags)
    assert asked == [(False, 4, "Be brief."), (True, 4, None), (True, None, None)]


def test_an_answer_of_no_tokens_is_refused() -> None:
    with pytest.raises(OptionError, match="--max-tokens is 0"):
        chat_command.run(parse("-m", "tiny", "--plain", "--max-tokens", "0"))


def test_a_terminal_that_knows_few_letters_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sink, "ascii"))
    args = parse("-m", "tiny", "--plain")
    assert args.run(args, load=lambda progress: FakeModel(["你 Hello."])) == 0
    sys.stdout.flush()
    assert b"qwen3: ? Hello." in sink.getvalue()


def test_a_wrong_name_ends_before_the_screen() -> None:
    with pytest.raises(ModelNotFoundError):
        chat_command.run(parse("-m", "no-such-model"))
    with pytest.raises(OptionError):
        chat_command.run(parse("-m", ""))


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "--plain" in text


@pytest.fixture
def own_stderr() -> Iterator[None]:
    """Tests may move file descriptor 2; pytest gets it back as it was."""
    kept = os.dup(2)
    yield
    os.dup2(kept, 2)
    os.close(kept)


@pytest.mark.usefixtures("own_stderr")
def test_file_descriptor_2_is_pointed_at_the_log(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "chat.log"
    screen, before = sys.__stderr__, os.fstat(2)
    with stderr_to(log):
        os.write(2, b"from C\n")
        assert sys.__stderr__ is not screen
        assert sys.__stderr__ is not None
        assert os.path.sameopenfile(sys.__stderr__.fileno(), 2) is False
    assert log.read_text() == "from C\n"
    assert sys.__stderr__ is screen
    assert os.fstat(2) == before


@pytest.mark.usefixtures("own_stderr")
def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with stderr_to(tmp_path / "file" / "chat.log"):
        os.write(2, b"lost\n")


def test_where_the_log_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert log_path() == tmp_path / "qwen3-mlx" / "chat.log"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert log_path().parts[-4:] == ("Library", "Logs", "qwen3-mlx", "chat.log")


def test_a_system_without_a_clipboard_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError):
        clipboard.copy("text")
    copy_to_system("text")  # says nothing: the terminal may have taken the text


def test_the_command_and_the_app_import_no_more_than_they_need() -> None:
    code = (
        "import sys; import qwen3_mlx_app.chat_command; assert 'textual' not in sys.modules;"
        "qwen3_mlx_app.chat_command._find('tiny');"
        "import qwen3_mlx_app.tui.app; heavy = {'mlx_lm', 'transformers', 'numpy', 'mlx.core',"
        "'huggingface_hub', 'markdown_it'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
