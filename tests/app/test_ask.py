"""`qwen3-mlx ask` and the command line around it, as a user or a script meets them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agent_stand import agent
from checkpoints import write_checkpoint

from qwen3_mlx.engine.speculation import Gain
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.cli import main

CLI = [sys.executable, "-m", "qwen3_mlx_app.cli"]


def bash(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line, in which "$@" is `qwen3-mlx`."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}", "bash", *CLI],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | variables,
    )  # fmt: skip


class _Pipe(io.TextIOWrapper):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


@pytest.fixture(autouse=True)
def _no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Pipe(b""))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("ask") / "model"
    return str(write_checkpoint(folder, dtype="F32", tokenizer=True))


def test_the_answer_goes_to_stdout(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "-m", model, "--seed", "1", "--max-tokens", "5", "hi"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert err.count("\n") == 1
    assert "note: the answer was cut after 5 tokens: --max-tokens" in err


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer("1 2", finish_reason="length"), "the answer was cut after 2 tokens: --max-tokens"),
        (Answer("", finish_reason="timeout"), "cut after 0 tokens: --timeout was over"),
        (Answer("", thinking="well"), "the answer is empty: the model ended it after"),
        (Answer("12"), ""),
    ],
)
def test_an_answer_that_is_not_all_says_so(
    answer: Answer, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with agent(load=lambda tell: FakeModel([answer, answer])):
        assert main(["ask", "-m", "tiny", "hi"]) == 0
        err = capsys.readouterr().err
        assert main(["ask", "-m", "tiny", "--json", "hi"]) == 0
        assert capsys.readouterr().err == ""
    assert told in err
    assert err.count("\n") == bool(told)


def test_json_is_one_object(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "-m", model, "--seed", "1", "--max-tokens", "5", "--json", "hi"]) == 0
    reply = json.loads(capsys.readouterr().out)

    assert set(reply) == {
        "text", "thinking", "finish_reason", "thought_ended_by", "notices", "model", "usage",
        "timing", "memory", "experts",
    }  # fmt: skip
    assert set(reply["usage"]) == {
        "prompt_tokens", "thinking_tokens", "answer_tokens", "forced_tokens",
        "cached_tokens", "guessed_tokens",
    }  # fmt: skip
    assert set(reply["timing"]) == {
        "load_seconds", "ttft_seconds", "prefill_tokens_per_second", "decode_tokens_per_second",
    }  # fmt: skip
    assert reply["memory"]["peak_bytes"] > 0


def test_a_schema(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = '{"type": "array", "items": {"type": "boolean"}, "maxItems": 2}'
    (tmp_path / "schema.json").write_text(schema)
    for given in (schema, str(tmp_path / "schema.json")):
        assert main(["ask", "-m", model, "--no-think", "--seed", "1", "--schema", given, "x"]) == 0
        assert len(json.loads(capsys.readouterr().out)) <= 2
    for given, words in (
        ('{"not": {}}', "this schema cannot be used"),
        ("{", "--schema is not JSON"),
        (str(tmp_path / "nowhere.json"), "cannot read"),
    ):
        assert main(["ask", "-m", model, "--schema", given, "x"]) == 2
        assert words in capsys.readouterr().err


def test_the_prompt_is_argument_then_pipe(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tokens(*words: str, piped: bytes = b"") -> int:
        monkeypatch.setattr(sys, "stdin", _Pipe(piped))
        assert main(["ask", "-m", model, "--max-tokens", "1", "--json", *words]) == 0
        count: int = json.loads(capsys.readouterr().out)["usage"]["prompt_tokens"]
        return count

    both = tokens("translate:", piped="grüß dich".encode())
    assert (
        both
        == tokens("translate:\n\ngrüß dich")
        == tokens(piped="translate:\n\ngrüß dich".encode())
    )


def test_a_prompt_file(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompt.txt").write_text("hello")
    arguments = ["ask", "-m", model, "--max-tokens", "1", "--json"]
    assert main([*arguments, "-f", str(tmp_path / "prompt.txt")]) == 0
    from_file = json.loads(capsys.readouterr().out)["usage"]
    assert main([*arguments, "hello"]) == 0
    assert json.loads(capsys.readouterr().out)["usage"] == from_file


def test_the_last_model_is_the_default(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "-m", model, "--max-tokens", "1", "hi"]) == 0
    capsys.readouterr()
    assert main(["ask", "--max-tokens", "1", "--json", "hi"]) == 0
    out, err = capsys.readouterr()

    assert json.loads(out)["model"] == model
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the prompt is empty"),
        (["   "], "the prompt is empty"),
        (["-f", "{tmp}/absent.txt"], "cannot read the file"),
        (["-f", "{tmp}/latin.txt", "{tmp}/Compare:"], "is not UTF-8 text"),
        (["-f", "{model}/config.json", "Compare:"], "a question comes before -f"),
        (["--schema", "{tmp}/absent.json", "hi"], "cannot read the file"),
        (["--schema", "[1]", "hi"], "--schema is a list, and must be a JSON object"),
        (["--parallel", "2", "hi"], "--parallel is for --jsonl"),
        (["-f", "{tmp}/latin.txt"], "is not UTF-8 text (byte 1)"),
        (["-m", "{tmp}", "hi"], "no config.json"),
        (["-m", "gpt-5", "hi"], "qwen3-mlx models"),
        (["-m", "", "hi"], "-m is empty"),
        (["-m", "{model}", "--top-p", "7", "hi"], "top_p is 7.0"),
        (["-m", "{model}", "--max-tokens", "0", "hi"], "from 1 on"),
        (["-m", "{model}", "{long}"], "the context 4,096"),
        (["-m", "{model}", "--raw", "--think", "hi"], "raw prompt"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str],
    sentence: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "latin.txt").write_bytes("für".encode("latin-1"))
    words = {"{tmp}": str(tmp_path), "{model}": model, "{long}": "x" * 5000}
    for mark, word in words.items():
        arguments = [each.replace(mark, word) for each in arguments]

    assert main(["ask", *arguments]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("flag", [["--temperature", "warm"], ["--max-tokens", "1.5"], ["--wat"]])
def test_unknown_flag_values_are_status_2(
    flag: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["ask", *flag, "hi"])
    assert stop.value.code == 2
    assert "usage: qwen3-mlx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["ask", "--context", "1m"], "'1m' is no number of tokens: write 8192 or 32k"),
        (["bench", "--prompts", "abc"], "'abc' must be whole numbers: write 16,128"),
    ],
)
def test_numbers_that_are_none(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(flags)
    assert sentence in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("ask", "chat", "convert", "models", "examples:"))


def test_a_reader_that_leaves_ends_it_quietly(model: str) -> None:
    done = bash('"$@" ask -m "$MODEL" --seed 1 hi | head -c 1', MODEL=model)
    assert (done.stderr, len(done.stdout)) == ("", 1)
    assert done.returncode in (0, 141)


@pytest.mark.parametrize("words", ["--help", "completion bash", "fit 4b"])
def test_a_reader_that_takes_nothing_ends_it_quietly(words: str) -> None:
    """Text that is still in the buffer when the command ends, as with `… | true`."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(
            [*CLI, *words.split()], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE
        )
    assert done.stderr == b""
    assert done.returncode in (0, 141)  # argparse itself passes over it


def test_a_full_disk_is_one_sentence() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with agent():
        done = bash('"$@" ask -m tiny hi >/dev/full')
    assert (done.returncode, done.stderr) == (2, "qwen3-mlx: No space left on device\n")


def test_streams_that_are_closed() -> None:
    with agent():
        for closed, stdout in (("<&-", "HI\n"), (">&-", ""), ("2>&-", "HI\n")):
            done = bash(f'"$@" ask -m tiny hi {closed} {"" if "<" in closed else "</dev/null"}')
            assert (done.returncode, done.stdout, done.stderr) == (0, stdout, "")


def test_a_budget_on_the_command_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["ask", "-m", model, "--seed", "1", "--max-tokens", "40", "--json", "hi"]
    assert main([*asked, "--min-thinking", "9", "--budget", "9", "--no-loop-guard"]) == 0
    usage = json.loads(capsys.readouterr().out)["usage"]
    assert usage["thinking_tokens"] in (0, 9)  # a random model need not think at all

    assert main([*asked, "--budget", "-3"]) == 2
    assert "thinking_budget is -3" in capsys.readouterr().err


def test_what_was_read_of_a_system_prompt_is_kept(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["ask", "-m", model, "--seed", "1", "--max-tokens", "3", "--json", "--no-think"]
    system = ["--system", "You answer briefly. " * 9]
    cached = []
    for flags in (["--save-prefix"], [], ["--kv-bits", "8"]):
        assert main([*ask, *system, *flags, "hi"]) == 0
        reply = json.loads(capsys.readouterr().out)
        cached.append(reply["usage"]["cached_tokens"] > 150)
    assert cached == [True, True, False]
    assert main([*ask, "--save-prefix", "hi"]) == 2
    assert "--save-prefix keeps a system prompt" in capsys.readouterr().err


def test_guesses_are_an_option_of_dense_models(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Gain, "pays", True)
    monkeypatch.setattr(Gain, "guessed", lambda self, tokens, seconds: None)
    ask = ["ask", "-m", model, "--temperature", "0", "--max-tokens", "150", "--json", "hi hi hi"]
    replies = []
    for flags in ([], ["--speculate"]):
        assert main([*ask, *flags]) == 0
        replies.append(json.loads(capsys.readouterr().out))
    assert replies[0]["text"] == replies[1]["text"]
    assert replies[0]["thinking"] == replies[1]["thinking"]
    assert [reply["usage"]["guessed_tokens"] > 0 for reply in replies] == [False, True]
    assert main(["ask", "-m", "tiny", "--speculate", "hi"]) == 2
    assert "speculation is for dense models" in capsys.readouterr().err


def test_a_context_beyond_the_native_length_is_told(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["ask", "-m", model, "--seed", "1", "--max-tokens", "3", "hi", "--context"]
    assert main([*ask, "8k"]) == 0
    assert "YaRN is on with factor 2" in capsys.readouterr().err
    assert main([*ask, "20000"]) == 2
    err = capsys.readouterr().err
    assert "20,000 tokens, and must be from 1 to 16,384" in err
    assert "trained on 4,096" in err
    assert main([*ask, "64", "--overflow", "drop-oldest"]) == 0
