"""Every example runs, with the embedded model, as its header says."""

from __future__ import annotations

import json
import os
import plistlib
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from stubs import program, stub

from qwen3_mlx.testing import Answer, FakeModel

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, stdin: str = "", status: int = 0) -> str:
    runner = [sys.executable] if name.endswith(".py") else ["bash"]
    done = subprocess.run(
        [*runner, str(EXAMPLES / name), *arguments],
        input=stdin, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _own_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """A git hook that runs the tests names its own repository."""
    for name in [each for each in os.environ if each.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that comes first, with qwen3-mlx in it."""
    folder = tmp_path / "programs"
    program(folder, "qwen3-mlx", sys.executable, "-m", "qwen3_mlx_app.cli")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_hello() -> None:
    assert "42" in run("hello.py", "What is 12 + 30?")


def test_stream_thoughts() -> None:
    output = run("stream_thoughts.py", "What is 123 + 456?")
    assert "579" in output
    assert "thought" in output


def test_summarise_folder(tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text("hello")
    (tmp_path / "sum.md").write_text("what is 1 + 2?")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    run("summarise_folder.py", str(tmp_path))
    index = (tmp_path / "INDEX.md").read_text()

    assert index.startswith(f"# {tmp_path.name}\n")
    assert [line.split(":")[0] for line in index.splitlines()[2:]] == [
        "- **greeting.txt**",
        "- **sum.md**",
    ]


def test_sort_downloads_moves_only_after_a_yes(tmp_path: Path) -> None:
    for name in ("one.txt", "two.md"):
        (tmp_path / name).write_text("hello")
    (tmp_path / "picture.png").write_bytes(b"")
    command = ["sort_downloads.py", str(tmp_path), "--into", "Here", "There"]
    run(*command, stdin="n\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt", "picture.png", "two.md"]
    run(*command, stdin="y\n")
    moved = {path.name: path.parent.name for path in tmp_path.glob("*/*")}
    assert set(moved) == {"one.txt", "two.md"}
    assert set(moved.values()) <= {"Here", "There"}


def test_triage_mail(tmp_path: Path) -> None:
    mail = b"From: a@b.example\nSubject: Invoice\nContent-Type: text/plain\n\nPlease pay."
    (tmp_path / "one.eml").write_bytes(mail)
    (tmp_path / "odd.eml").write_bytes(mail.replace(b"text/plain", b"text/plain; charset=x-no"))
    mails = [str(tmp_path / name) for name in ("odd.eml", "one.eml")]
    odd, told = map(json.loads, run("triage_mail.py", *mails).splitlines())
    assert odd["file"] == "odd.eml"
    assert set(told) == {"file", "subject", "kind", "urgent"}
    assert told["subject"] == "Invoice"
    assert isinstance(told["urgent"], bool)


def test_rewrite_clipboard(programs: Path) -> None:
    stub(programs, "pbpaste", "what is 1 + 2?")
    copied = stub(programs, "pbcopy")
    output = run("rewrite_clipboard.sh", "Say:")
    assert copied()[0]["stdin"] == output.removesuffix("\n") != ""


def test_commit_message(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    assert run("commit_message.sh") == ""
    (tmp_path / "sum.txt").write_text("1 + 2 = 3\n")
    subprocess.run(["git", "add", "sum.txt"], check=True)
    assert run("commit_message.sh").strip()
    (tmp_path / "MESSAGE").write_text("# git's own words\n")
    run("commit_message.sh", "MESSAGE")
    assert (tmp_path / "MESSAGE").read_text().endswith("\n# git's own words\n")
    (tmp_path / "MESSAGE").write_text("mine\n")
    run("commit_message.sh", "MESSAGE", "message")
    assert (tmp_path / "MESSAGE").read_text() == "mine\n"


def test_commit_message_never_keeps_anybody_from_committing(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "MESSAGE").write_text("mine\n")
    # More than a pipe holds, and no UTF-8.
    (tmp_path / "sum.txt").write_bytes("für one two three\n".encode("latin-1") * 9_000)
    subprocess.run(["git", "add", "sum.txt"], check=True)
    asked = stub(programs, "qwen3-mlx", "Count\n")
    run("commit_message.sh", "MESSAGE")
    assert (tmp_path / "MESSAGE").read_text() == "Count\nmine\n"
    assert "+fr one two three\n" in asked()[0]["stdin"]
    assert 5_000 < len(asked()[0]["stdin"]) <= 6_001
    stub(programs, "qwen3-mlx", status=2)
    run("commit_message.sh", "MESSAGE")
    run("commit_message.sh", status=1)


def test_shortcut(programs: Path) -> None:
    answer = run("shortcut.sh", stdin="What is 12 + 30?")
    assert "42" in answer
    assert "tiny" not in answer  # what is said beside the answer, to a first-time user
    told = stub(programs, "osascript")
    run("shortcut.sh", "--top-p", "7", stdin="hi", status=1)
    [call] = told()
    assert "top_p is 7.0" in call["argv"][-1]
    assert apple_script(call["argv"]).splitlines()[0] == "on run argv"


def test_services_menu(programs: Path) -> None:
    told = stub(programs, "osascript", "Shorter\n")
    assert run("services_menu.sh", stdin="What is 12 + 30?").strip()
    assert told()[0]["argv"][-5:] == [
        "Shorter", "Friendlier", "Fix spelling", "To English", "As a list",
    ]  # fmt: skip
    assert "choose from list argv" in apple_script(told()[0]["argv"])
    stub(programs, "osascript", "false\n")
    assert run("services_menu.sh", stdin="as it was") == "as it was"


@pytest.mark.parametrize("what", ["reminder", "note"])
def test_reminders_notes(what: str, programs: Path) -> None:
    told = stub(programs, "osascript")
    text = 'Call "Anna"; $(rm -rf) \\'
    shown = run("reminders_notes.py", what, stdin=text)
    assert told() == []
    assert shown.startswith("osascript -e 'on run argv'")
    run("reminders_notes.py", what, "--do-it", stdin=text)
    [call] = told()
    assert call["argv"][-1] == text
    assert what.capitalize() in apple_script(call["argv"])


def test_watch_folder(tmp_path: Path) -> None:
    (tmp_path / "sum.txt").write_text("What is 12 + 30?")
    (tmp_path / "empty.txt").touch()
    assert "sum.txt" in run("watch_folder.py", str(tmp_path))
    assert "42" in (tmp_path / "sum.answer.md").read_text()
    assert not (tmp_path / "empty.answer.md").exists()
    (tmp_path / "empty.txt").unlink()
    assert run("watch_folder.py", str(tmp_path)) == ""
    job = plistlib.loads(run("watch_folder.py", str(tmp_path), "--plist").encode())
    assert job["WatchPaths"] == [str(tmp_path)]
    assert job["ProgramArguments"][-3:] == [str(tmp_path), "-m", "tiny"]


def test_nightly_report(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    subprocess.run(["git", "init", "-q", str(tmp_path / "code")], check=True)
    words = [str(tmp_path / "code"), "-o", str(tmp_path / "report.md")]
    run("nightly_report.py", *words)
    assert (tmp_path / "report.md").read_text() == "# Today\n\n- **code**: Nothing.\n"
    job = plistlib.loads(run("nightly_report.py", *words, "--plist").encode())
    assert job["StartCalendarInterval"] == {"Hour": 23, "Minute": 30}
    assert Path(job["ProgramArguments"][1]).name == "nightly_report.py"


def test_tidy_with_tools_answers(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert "calls)" in run("tidy_with_tools.py", str(tmp_path), "Hello!", stdin="n\n" * 20)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_tidy_with_tools_moves_only_after_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    moves = [
        ("move_file", {"name": name, "into": into})
        for name, into in (("a.txt", "Old"), ("b.txt", "Old"), ("c.txt", "../Old"))
    ]
    model = FakeModel([Answer(calls=[("list_files", {})]), Answer(calls=moves), "Done."])
    said = iter(["y", "I need it", "y"])
    monkeypatch.setattr("builtins.input", lambda question: next(said))
    example = runpy.run_path(str(EXAMPLES / "tidy_with_tools.py"))
    example["main"](model, tmp_path, "Tidy up.")

    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt")} == {
        "Old/a.txt", "b.txt", "c.txt",
    }  # fmt: skip
    told = [str(each["content"]) for each in model.calls[-1].messages if each["role"] == "tool"]
    assert '"a.txt"' in told[0]
    assert told[1] == "moved"
    assert "I need it" in told[2]
    assert "not inside" in told[3]


def apple_script(argv: list[str]) -> str:
    """The script of an osascript call, checked as far as that goes without a Mac: each block
    that is opened is closed, quotes and brackets are in pairs, and no text of the user is code."""
    lines = [argv[n + 1] for n, word in enumerate(argv) if word == "-e"]
    assert (lines[0], lines[-1]) == ("on run argv", "end run")
    for line in lines:
        assert line.count('"') % 2 == 0
        assert all(line.count(one) == line.count(two) for one, two in ("()", "{}"))
    return "\n".join(lines)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_shell_examples_are_good_and_short(path: Path) -> None:
    """bash 3.2, which macOS has, understands no more than this; most of the file is how-to."""
    subprocess.run(["bash", "-n", str(path)], check=True)
    own = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert len(own) <= 40
    assert "On a Mac" in path.read_text() or "a Mac" in path.read_text()
    assert not [word for word in ("mapfile", "declare -A", "${,,}") if word in path.read_text()]


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir() if f'"{path.name}"' not in text} == set()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    """At most 40 lines of its own: what is not the header comment or blank."""
    body = path.read_text().split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 40
