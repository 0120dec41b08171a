"""Problems that ship, and when a reply is right."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx import OptionError
from qwen3_mlx.evaluation.problems import Problem, parse_calls, read_problems, select

CALL = '<tool_call>\n{"name": "clock", "arguments": {"city": "Paris"}}\n</tool_call>'
WANTED = {"name": "clock", "arguments": {"city": "Paris"}}


def test_the_examination() -> None:
    problems = read_problems()
    counts = Counter(problem.skill for problem in problems)

    assert counts.pop("talk") == 40
    assert len(counts) == 8
    assert set(counts.values()) == {500}
    assert {problem.language for problem in problems} == {"en", "zh"}


def test_what_is_right() -> None:
    assert Problem("s", "en", (), answer="4").is_right("4")
    assert not Problem("s", "en", (), answer="4").is_right("44")
    assert Problem("s", "en", (), contains="tiny").is_right("I am tiny.")
    assert Problem("s", "en", (), calls=(WANTED,)).is_right(CALL)
    assert not Problem("s", "en", (), calls=(WANTED, WANTED)).is_right(CALL)
    assert Problem("s", "en", (), calls=(WANTED, WANTED)).is_right(f"{CALL}\n{CALL}")


@pytest.mark.parametrize(
    "reply",
    ["", "Paris", f"Well: {CALL}", CALL[:-1], "<tool_call>\n{}\n</tool_call>",
     "<tool_call>\n[1\n</tool_call>", CALL.replace("{", "[")],
)  # fmt: skip
def test_malformed_calls(reply: str) -> None:
    assert parse_calls(reply) is None


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_can_be_judged(text: str) -> None:
    assert not Problem("s", "en", (), calls=(WANTED,)).is_right(text)
    parse_calls(f"<tool_call>\n{text}\n</tool_call>")


def test_selecting() -> None:
    problems = [Problem(skill, "en", ()) for skill in "aababc"]

    assert [one.skill for one in select(problems, (), 2)] == list("aabbc")
    assert [one.skill for one in select(problems, ("c", "a"), 1)] == ["c", "a"]
    with pytest.raises(OptionError, match="choose from a, b, c"):
        select(problems, ("d",), 2)
    with pytest.raises(OptionError, match="at least"):
        select(problems, (), 0)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"no", gzip.compress(json.dumps([]).encode()))):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(OptionError, match="no file of problems"):
            read_problems(path)
