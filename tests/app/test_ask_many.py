"""`ask --jsonl`: one line for each question, in order, once, whatever happens in between."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from agent_stand import agent, until, where_signal_is
from hypothesis import given, settings
from hypothesis import strategies as st

import qwen3_mlx
from qwen3_mlx.errors import EngineError, OptionError
from qwen3_mlx.testing import Answer, Call, FakeModel
from qwen3_mlx_app.ask_inputs import from_lines
from qwen3_mlx_app.asking import Asker
from qwen3_mlx_app.cli import main
from qwen3_mlx_app.journal import Journal


class _Pipe(io.TextIOWrapper):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def pipe(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", _Pipe("".join(f"{line}\n" for line in lines).encode()))


def out(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_each_line_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, *(f"question {n}" for n in range(20)), "", "last")
    with agent():
        assert main(["ask", "-m", "tiny", "--jsonl", "Say:"]) == 0
    lines = out(capsys)
    assert [line["n"] for line in lines] == [*range(1, 22)]
    assert lines[3]["text"] == "SAY:\n\nQUESTION 3"
    assert lines[-1]["text"] == "SAY:\n\nLAST"
    assert set(lines[0]) == {"n", "key", "text", "finish_reason", "model", "usage"}


def test_objects_bring_wishes_and_ids_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(
        monkeypatch,
        '{"prompt": "a", "id": 7, "system": "be brief", "max_tokens": 3}',
        '{"messages": [{"role": "user", "content": "b"}], "id": "x"}',
        '"c \\n d"',
        '"quoted" is not JSON',
    )
    with agent() as server:
        assert main(["ask", "-m", "tiny", "--jsonl", "--seed", "5", "--parallel", "1"]) == 0
    lines = out(capsys)
    assert [line.get("id") for line in lines] == [7, "x", None, None]
    assert [line["text"] for line in lines] == ["A", "B", "C \n D", '"QUOTED" IS NOT JSON']
    assert [call.seed for call in server.model.calls] == [5] * 4
    assert (server.model.calls[0].system, server.model.calls[0].max_tokens) == ("be brief", 3)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"prompt": "a"', "begins as an object and is not JSON"),
        ('{"prompt": "a", "colour": 1}', "has 'colour', and may have: id, max_tokens"),
        ('{"prompt": 3}', 'needs "prompt", a text'),
        ('{"prompt": "a", "messages": []}', 'needs "prompt", a text'),
        ("{}", 'needs "prompt", a text'),
        ('{"prompt": "a", "max_tokens": "many"}', "max_tokens: 'many' is none of int"),
    ],
)
def test_a_line_that_cannot_be_used_gets_its_line_too(
    line: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(monkeypatch, "one", "", line, "three")
    with agent():
        assert main(["ask", "-m", "tiny", "--jsonl", "-q"]) == 2
    lines = out(capsys)
    assert [line.get("text") for line in lines] == ["ONE", None, "THREE"]
    assert sentence in lines[1]["error"]
    assert lines[1]["n"] == 2
    if "max_tokens: " not in sentence:
        assert "line 3 " in lines[1]["error"]  # blank lines count, as in an editor


def test_half_a_character_is_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.jsonl"
    for more in ([], ["--resume", str(path)]):
        pipe(monkeypatch, '{"prompt": "a", "id": "\\ud800"}', "b")
        with agent():
            assert main(["ask", "-m", "tiny", "--jsonl", *more]) == 0
    assert [line.get("id") for line in out(capsys)] == ["\ud800", None]
    assert [line.get("id") for line in read(path)] == ["\ud800", None]


def test_each_file_is_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt")]
    Path(paths[0]).write_text("aa")
    Path(paths[2]).write_bytes(b"\xff")
    with agent():
        assert main(["ask", "-m", "tiny", "--jsonl", "Name:", "-f", *paths]) == 2
    lines = out(capsys)
    assert [line["file"] for line in lines] == paths
    assert lines[0]["text"] == "NAME:\n\nAA"
    assert "cannot read" in lines[1]["error"]
    assert "not UTF-8" in lines[2]["error"]


def test_resume_goes_on_and_repairs_a_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, command = tmp_path / "out.jsonl", ["ask", "-m", "tiny", "--jsonl", "--resume"]
    questions = [f"q{n}" for n in range(6)]
    with agent() as server:
        pipe(monkeypatch, *questions)
        assert main([*command, str(path)]) == 0
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        for kept in (b"", lines[0], b"".join(lines[:3]) + lines[3][:20], whole[:-1], whole):
            path.write_bytes(kept)
            before = len(server.model.calls)
            pipe(monkeypatch, *questions)
            assert main([*command, str(path)]) == 0
            assert path.read_bytes() == whole
            assert len(server.model.calls) - before == 6 - kept.count(b"\n")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("0 answered, 6 were before\n")


def test_another_question_model_or_option_is_no_continuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, command = tmp_path / "out.jsonl", ["ask", "-m", "tiny", "--jsonl", "--resume"]
    with agent():
        pipe(monkeypatch, "a", "b")
        assert main([*command, str(path)]) == 0
        whole = path.read_bytes()
        for lines, more, sentence in (
            (("a", "c"), [], "line 2 of"),
            (("a", "b"), ["--seed", "1"], "line 1 of"),
            (("a", "b"), ["--kv-bits", "4"], "line 1 of"),
            (("a", "b"), ["--context", "16k"], "line 1 of"),
            (("a",), [], "there are only 1 questions"),
        ):
            pipe(monkeypatch, *lines)
            assert main([*command, str(path), *more]) == 2
            assert sentence in capsys.readouterr().err
            assert path.read_bytes() == whole


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for text in (
        "my notes\nand more\n",
        '{"n": 2, "key": "x"}\n{"n": 3, "key": "y"}\n',
        "one line\n",
        "no line",
        '{"a": "whole file of JSON"}',
        '{"n": 1, "key": "k"}\n{"n": 1, "key": "k"}\n',
    ):
        path.write_text(text)
        with pytest.raises(OptionError, match="nothing was changed"):
            Journal(str(path))
        assert path.read_text() == text


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    path = str(tmp_path / "out.jsonl")
    journal = Journal(path)
    with pytest.raises(OptionError, match="another run"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_a_full_disk_keeps_the_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    journal = Journal(str(path))
    journal.append({"n": 1, "key": "a"})
    writes = iter([5])

    def full(descriptor: int, data: bytes) -> int:
        for size in writes:
            return real(descriptor, data[:size])
        raise OSError(28, "No space left on device")

    real = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OptionError, match="No space left"):
        journal.append({"n": 2, "key": "b"})
    journal.close()
    assert read(path) == [{"n": 1, "key": "a"}]


@settings(max_examples=40)
@given(cut=st.integers(0, 400), lines=st.integers(1, 8))
def test_a_file_cut_anywhere_goes_on_from_its_last_whole_line(
    cut: int, lines: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "out.jsonl"
    rows = [{"n": n + 1, "key": f"k{n}", "text": "ä" * n} for n in range(lines)]
    data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    path.write_bytes(data[:cut])
    journal = Journal(str(path))
    assert journal.keys == [row["key"] for row in rows[: data[:cut].count(b"\n")]]
    for row in rows[journal.count :]:
        journal.append(row)
    journal.close()
    assert path.read_bytes() == data


def test_a_fault_stops_the_run_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, command = tmp_path / "out.jsonl", ["ask", "-m", "tiny", "--jsonl", "--resume"]
    tape = ["one", Answer(error=EngineError("the disk of experts is gone")), "two", "three"]
    with agent(tape):
        pipe(monkeypatch, "1", "2", "3")
        assert main([*command, str(path), "--parallel", "1"]) == 1
        assert [line["text"] for line in read(path)] == ["one"]
        pipe(monkeypatch, "1", "2", "3")
        assert main([*command, str(path), "--parallel", "1"]) == 0
    assert [line["text"] for line in read(path)] == ["one", "two", "three"]
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--resume", "x"], "--resume is for --jsonl"),
        (["--jsonl", "--json"], "--json is for one question"),
        (["--jsonl", "--copy"], "--copy is for one question"),
        (["--jsonl", "--save-prefix"], "--save-prefix is for one question"),
        (["--jsonl", "--parallel", "0"], "--parallel is 0"),
        (["--jsonl", "--resume", "/no/such/folder/x"], "cannot write"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe(monkeypatch, "a")
    assert main(["ask", "-m", "tiny", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_lines_are_read_as_they_come() -> None:
    lines = from_lines("", iter([b"one\n", b"\n", b"\xff\n"]), {})
    assert next(lines).prompt == "one"
    last = next(lines)
    assert (last.n, "not UTF-8" in last.error) == (2, True)


def test_an_answer_does_not_wait_for_the_next_question() -> None:
    """A program may write one question, and the next when it has the answer."""
    command = [sys.executable, "-m", "qwen3_mlx_app.cli", "ask", "-m", "tiny", "--jsonl", "-q"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with agent(["one", "two"]), subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        for text in ("one", "two"):
            process.stdin.write(b"a question\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdin.close()
        assert process.wait(300) == 0


def test_a_model_is_loaded_once_for_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the agent goes away under four questions."""
    loads: list[str] = []

    def load(name: str, **options: Any) -> FakeModel:
        loads.append(name)
        time.sleep(0.05)  # long enough for the others to come
        return FakeModel([])

    monkeypatch.setattr(qwen3_mlx, "load", load, raising=False)
    asker = Asker("tiny", {}, agent=False)
    threads = [threading.Thread(target=lambda: asker.model) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["tiny"]


def test_killed_and_resumed_every_question_is_answered_once(tmp_path: Path) -> None:
    """The small brother of scripts/check_resume.py: three kills, forty questions."""
    questions, path = tmp_path / "in.txt", tmp_path / "out.jsonl"
    questions.write_text("".join(f"question {n}\n" for n in range(40)))
    command = [sys.executable, "-m", "qwen3_mlx_app.cli", "ask", "-m", "tiny", "--jsonl"]
    limit = [0]

    def answer(call: Call) -> Answer:
        """No more than the limit is said, so that the killer cannot be too late."""
        holds = int(call.prompt.split()[1]) >= limit[0]
        return Answer(call.prompt.upper(), pause_after=0 if holds else None)

    with agent(answer):
        for lines in (5, 12, 20, 1000):
            limit[0] = lines
            with questions.open("rb") as stdin:
                process = subprocess.Popen(
                    [*command, "--resume", str(path)], stdin=stdin, stderr=subprocess.DEVNULL
                )
            if lines < 40:
                until(lambda: path.exists() and path.read_bytes().count(b"\n") == limit[0])
                process.kill()
            assert process.wait(300) == (-signal.SIGKILL if lines < 40 else 0)
    assert [line["n"] for line in read(path)] == [*range(1, 41)]
    assert [line["text"] for line in read(path)] == [f"QUESTION {n}" for n in range(40)]


def test_interrupted_it_ends_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "qwen3_mlx_app.cli", "ask", "-m", "tiny", "--jsonl"]
    with agent(["one", Answer("a b c", pause_after=1)]) as server:
        process = subprocess.Popen(
            [*where_signal_is(signal.SIG_DFL, signal.SIGINT), *command, "--resume", str(path),
             "--parallel", "1"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"1\n2\n")
        process.stdin.close()
        process.stdin = None
        # The second is asked when the first has been written and counted.
        until(lambda: len(server.model.calls) == 2 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert output == b""
    assert errors == b"1 answered; the same command goes on from there\n"
    assert [line["text"] for line in read(path)] == ["one"]
