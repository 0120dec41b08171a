"""Thought and answer, in a table of replies; every way to cut them gives the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import write_small_tokenizer

from qwen3_mlx.text.budget import EarlyStop
from qwen3_mlx.text.thinking import (
    Segment,
    ThinkingParser,
    prompt_opens_block,
    soft_switch,
    strip_thinking,
)
from qwen3_mlx.text.tokenizer import Tokenizer

OPEN_ID, CLOSE_ID, WORD_ID = 90, 91, 7


@dataclass(frozen=True)
class Case:
    """A reply. In replies by id, ⟪ and ⟫ stand for the control tokens of the two tags."""

    name: str
    reply: str
    thinking: str
    answer: str
    opened: bool = False


# Tags are found in the text: a tokenizer without tokens for them.
BY_TEXT = [
    Case("convention", "<think>\nab\n</think>\n\nxy", "ab", "xy"),
    Case("no newlines", "<think>ab</think>xy", "ab", "xy"),
    Case("many newlines", "<think>\n\n\nab\n\n\n</think>\n\n\n\nxy", "ab", "xy"),
    Case("inner newlines", "<think>\na\n\nb\n</think>\n\nx\n\ny", "a\n\nb", "x\n\ny"),
    Case("trailing newlines of the answer", "<think>\na\n</think>\n\nx\n\n", "a", "x"),
    Case("empty block", "<think>\n\n</think>\n\nxy", "", "xy"),
    Case("empty block on one line", "<think></think>xy", "", "xy"),
    Case("blank block", "<think> \n\t </think>\n\nxy", "", "xy"),
    Case("only an empty block", "<think>\n\n</think>\n\n", "", ""),
    Case("only an opening", "<think>", "", ""),
    Case("only an opening and newline", "<think>\n", "", ""),
    Case("only a closing", "</think>", "", ""),
    Case("closing first", "</think>\n\nxy", "", "xy"),
    Case("blank and closing first", "\n \n</think>\n\nxy", "", "xy"),
    Case("empty reply", "", "", ""),
    Case("only newlines", "\n\n", "", ""),
    Case("no tags", "xy", "", "xy"),
    Case("no tags, newlines around", "\n\nxy\n", "", "xy"),
    Case("no tags, an indented answer", "    x = 1", "", "    x = 1"),
    Case("cut in the thought", "<think>\nab", "ab", ""),
    Case("cut after a newline of the thought", "<think>\nab\n", "ab", ""),
    Case("cut in the opening", "<thi", "", "<thi"),
    Case("cut in the closing", "<think>\nab\n</thi", "ab\n</thi", ""),
    Case("cut after the closing", "<think>\nab\n</think>", "ab", ""),
    Case("space before the opening", "  <think>\nab\n</think>\n\nxy", "ab", "xy"),
    Case("newlines before the opening", "\n\n<think>\nab\n</think>\n\nxy", "ab", "xy"),
    Case("indented thought", "<think>\n  ab\n</think>\n\nxy", "  ab", "xy"),
    Case("indented answer", "<think>\nab\n</think>\n\n    x = 1", "ab", "    x = 1"),
    Case("opening after text", "x <think> y", "", "x <think> y"),
    Case("both after text", "x <think>a</think> y", "", "x <think>a</think> y"),
    Case("a second opening", "<think>\n<think>\nab\n</think>\n\nxy", "ab", "xy"),
    Case("opening inside", "<think>\na <think> b\n</think>\n\nxy", "a <think> b", "xy"),
    Case("two closings", "<think>\na\n</think>\n\nx </think> y", "a", "x </think> y"),
    Case("two blocks", "<think>a</think>x<think>b</think>y", "a", "x<think>b</think>y"),
    Case("block after block", "<think>a</think><think>b</think>y", "a", "<think>b</think>y"),
    Case("other tags", "<think>a<b></think>x</b>", "a<b>", "x</b>"),
    Case("nearly closing", "<think>\na</thinkb</think>x", "a</thinkb", "x"),
    Case("nearly closing twice", "<think>a</</think>x", "a</", "x"),
    Case("nearly opening", "<<think>a</think>x", "", "<<think>a</think>x"),
    Case("capital letters", "<THINK>a</THINK>x", "", "<THINK>a</THINK>x"),
    Case("other reasoning tag", "<thinking>a</thinking>x", "", "<thinking>a</thinking>x"),
    Case(
        "code fence in the answer",
        "<think>\na\n</think>\n\n```xml\n<think>\n</think>\n```",
        "a",
        "```xml\n<think>\n</think>\n```",
    ),
    Case(
        "code fence without a thought",
        "```\n<think>a</think>\n```",
        "",
        "```\n<think>a</think>\n```",
    ),
    Case("code fence in the thought", "<think>\n```\na\n```\n</think>\n\nx", "```\na\n```", "x"),
    Case(
        "tool call after the thought",
        '<think>\na\n</think>\n\n<tool_call>\n{"name": "f"}\n</tool_call>',
        "a",
        '<tool_call>\n{"name": "f"}\n</tool_call>',
    ),
    Case(
        "tool call without a thought",
        "<tool_call>\n{}\n</tool_call>",
        "",
        "<tool_call>\n{}\n</tool_call>",
    ),
    Case(
        "tool call mentioned in the thought",
        "<think>\n<tool_call>\n</think>\n\nx",
        "<tool_call>",
        "x",
    ),
    Case("emoji and Chinese", "<think>\n嗯🙂\n</think>\n\n你好👩‍👧", "嗯🙂", "你好👩‍👧"),
    Case("carriage returns stay", "<think>\r\na\r\n</think>\r\nx", "\r\na\r", "\r\nx"),
    Case("paper's early stop", "<think>\na\n\nnow.\n</think>.\n\nx", "a\n\nnow.", ".\n\nx"),
    Case("prompt opened", "ab\n</think>\n\nxy", "ab", "xy", opened=True),
    Case("prompt opened, newline first", "\nab\n</think>\n\nxy", "ab", "xy", opened=True),
    Case("prompt opened, nothing thought", "\n</think>\n\nxy", "", "xy", opened=True),
    Case("prompt opened, closing at once", "</think>xy", "", "xy", opened=True),
    Case("prompt opened, opened again", "<think>\nab\n</think>\n\nxy", "ab", "xy", opened=True),
    Case("prompt opened, cut", "ab\n\n", "ab", "", opened=True),
    Case("prompt opened, cut in the closing", "ab\n</think", "ab\n</think", "", opened=True),
    Case("prompt opened, nothing at all", "", "", "", opened=True),
    Case("prompt opened, tag in the answer", "a</think>x<think>y", "a", "x<think>y", opened=True),
    Case("prompt opened, mention inside", "a <think> b</think>x", "a <think> b", "x", opened=True),
]

# Tags are tokens; a tag that is spelled by other tokens is text.
BY_ID = [
    Case("convention", "⟪\nab\n⟫\n\nxy", "ab", "xy"),
    Case("no newlines", "⟪ab⟫xy", "ab", "xy"),
    Case("empty block", "⟪\n\n⟫\n\nxy", "", "xy"),
    Case("blank block", "⟪ \n ⟫\n\nxy", "", "xy"),
    Case("no tags", "xy", "", "xy"),
    Case("no tags, newlines around", "\n\nxy\n\n", "", "xy"),
    Case("empty reply", "", "", ""),
    Case("only blank", " \n", "", " "),
    Case("cut in the thought", "⟪\nab\n", "ab", ""),
    Case("cut after the closing", "⟪\nab\n⟫", "ab", ""),
    Case("space before the opening", " \n⟪\nab\n⟫\n\nxy", "ab", "xy"),
    Case("closing first", "\n⟫\n\nxy", "", "xy"),
    Case("a second opening", "⟪\n⟪\nab\n⟫\n\nxy", "ab", "xy"),
    Case("opening inside is dropped", "⟪\na⟪b\n⟫\n\nxy", "ab", "xy"),
    Case("later tags are dropped", "⟪a⟫x⟪y⟫z", "a", "xyz"),
    Case("tags in an answer without thought are dropped", "x⟪y⟫z", "", "xyz"),
    Case("a dropped tag between newlines", "⟪a⟫x\n⟫\ny", "a", "x\n\ny"),
    Case("two closings", "⟪\na\n⟫\n⟫\n\nx", "a", "x"),
    Case("spelled closing in the thought", "⟪\na </think> b\n⟫\n\nx", "a </think> b", "x"),
    Case("spelled opening in the thought", "⟪\na <think> b\n⟫\n\nx", "a <think> b", "x"),
    Case("spelled tags in the answer", "⟪a⟫<think>x</think>", "a", "<think>x</think>"),
    Case("spelled block first", "<think>\na\n</think>\n\nx", "", "<think>\na\n</think>\n\nx"),
    Case("code fence in the answer", "⟪a⟫```\n<think>\n```", "a", "```\n<think>\n```"),
    Case("tool call after the thought", "⟪\na\n⟫\n\n<tool_call>\n{}", "a", "<tool_call>\n{}"),
    Case("prompt opened", "ab\n⟫\n\nxy", "ab", "xy", opened=True),
    Case("prompt opened, opened again", "\n⟪\nab\n⟫\n\nxy", "ab", "xy", opened=True),
    Case("prompt opened, nothing thought", "⟫\n\nxy", "", "xy", opened=True),
    Case("prompt opened, cut", "ab\n", "ab", "", opened=True),
    Case("prompt opened, closed twice", "a⟫x⟫y", "a", "xy", opened=True),
    Case("broken character before the closing", "⟪a\ufffd⟫x", "a\ufffd", "x"),
]
EVERY = [(case, False) for case in BY_TEXT] + [(case, True) for case in BY_ID]
NAMES = [f"{'id' if by_id else 'text'}: {case.name}" for case, by_id in EVERY]


def pieces_of(reply: str, cuts: set[int], by_id: bool) -> list[tuple[int | None, str]]:
    """The reply cut into (token id, text); control tokens of tags are pieces of their own."""
    pieces: list[tuple[int | None, str]] = []
    text = ""
    for place, char in enumerate(reply):
        tag = {"⟪": (OPEN_ID, "<think>"), "⟫": (CLOSE_ID, "</think>")}.get(char) if by_id else None
        if (place in cuts or tag) and text:
            pieces.append((WORD_ID, text))
            text = ""
        if tag:
            pieces.append(tag)
        else:
            text += char
    return [*pieces, (WORD_ID, text)]


def parse(
    pieces: list[tuple[int | None, str]], by_id: bool, opened: bool
) -> tuple[str, str, list[Segment]]:
    parser = ThinkingParser(*((OPEN_ID, CLOSE_ID) if by_id else (None, None)), opened)
    segments = [segment for id, text in pieces for segment in parser.feed(id, text)]
    segments += parser.finish()
    thinking, answer = (
        "".join(segment.text for segment in segments if segment.kind == kind)
        for kind in ("thinking", "text")
    )
    return thinking, answer, segments


def outcome(case: Case, by_id: bool, cuts: set[int]) -> tuple[str, str]:
    """Thought and answer of the reply, cut at these places."""
    pieces = pieces_of(case.reply, cuts, by_id)
    thinking, answer, segments = parse(pieces, by_id, case.opened)
    assert all(segment.text for segment in segments)
    kinds = [segment.kind for segment in segments]
    assert kinds == sorted(kinds, reverse=True)  # first the thought, then the text
    return thinking, answer


def test_the_table_is_long_enough() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 60


@pytest.mark.parametrize(("case", "by_id"), EVERY, ids=NAMES)
def test_table(case: Case, by_id: bool) -> None:
    places = range(len(case.reply))
    for cuts in (set[int](), set(places), *({place} for place in places)):
        assert outcome(case, by_id, cuts) == (case.thinking, case.answer)


@given(st.sampled_from(EVERY), st.sets(st.integers(1, 60)))
@settings(max_examples=150)
def test_every_split_gives_the_same(chosen: tuple[Case, bool], cuts: set[int]) -> None:
    case, by_id = chosen
    assert outcome(case, by_id, cuts) == (case.thinking, case.answer)


def reference(reply: str, opened: bool) -> tuple[str, str]:
    """The rules of the module once more, for a whole text."""
    if not opened:
        if closing := re.match(r"\s*</think>", reply):
            return "", reply[closing.end() :].strip("\n")
        if not re.match(r"\s*<think>", reply):
            return "", reply.strip("\n")
    while opening := re.match(r"\s*<think>", reply):
        reply = reply[opening.end() :]
    thought, closed, answer = reply.partition("</think>")
    if closed and not thought.strip():
        thought = ""
    return thought.strip("\n"), answer.strip("\n")


PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<thi", "nk>", "</", "think>", "\n", " ", "a", "🙂", "<"]
    )
)


@given(PIECES, st.booleans(), st.integers(1, 9))
@settings(max_examples=200)
def test_any_text_follows_the_rules(words: list[str], opened: bool, width: int) -> None:
    reply = "".join(words)
    chunks = [reply[at : at + width] for at in range(0, len(reply), width)]
    for texts in (words, chunks, [reply]):
        pieces: list[tuple[int | None, str]] = [(None, text) for text in texts]
        assert parse(pieces, False, opened)[:2] == reference(reply, opened)


@given(PIECES, st.booleans())
@settings(max_examples=150)
def test_what_is_emitted_is_never_taken_back(words: list[str], opened: bool) -> None:
    """At any token the reply may end, and what had been emitted is a prefix of all that."""
    parser, emitted = ThinkingParser(None, None, opened), {"thinking": "", "text": ""}
    whole = dict(zip(("thinking", "text"), reference("".join(words), opened), strict=True))
    for word in words:
        for kind, text in parser.feed(None, word):
            emitted[kind] += text
        assert whole["thinking"].startswith(emitted["thinking"])
        assert whole["text"].startswith(emitted["text"])


def test_text_streams_without_delay() -> None:
    parser = ThinkingParser(OPEN_ID, CLOSE_ID)
    assert parser.feed(OPEN_ID, "<think>") == []
    assert parser.feed(WORD_ID, "\n") == []
    assert parser.feed(WORD_ID, "Hm") == [("thinking", "Hm")]
    assert parser.feed(WORD_ID, ".\n\n") == [("thinking", ".")]
    assert parser.feed(WORD_ID, "So") == [("thinking", "\n\nSo")]
    assert parser.inside
    assert parser.feed(CLOSE_ID, "</think>") == []
    assert (parser.inside, parser.closed) == (False, True)
    assert parser.feed(WORD_ID, "\n\n") == []
    assert parser.feed(WORD_ID, "4") == [("text", "4")]
    assert parser.finish() == []


def test_inside_follows_the_tags() -> None:
    parser = ThinkingParser(OPEN_ID, CLOSE_ID)
    assert (parser.inside, parser.closed) == (False, False)
    parser.feed(WORD_ID, "\n")
    assert (parser.inside, parser.closed) == (False, False)
    parser.feed(WORD_ID, "x")
    assert (parser.inside, parser.closed) == (False, True)
    assert ThinkingParser(OPEN_ID, CLOSE_ID, prompt_opened_block=True).inside


def test_a_tag_may_come_with_the_end_of_a_broken_character() -> None:
    parser = ThinkingParser(OPEN_ID, CLOSE_ID, prompt_opened_block=True)
    assert parser.feed(CLOSE_ID, "\ufffd</think>") == [("thinking", "\ufffd")]
    assert parser.feed(WORD_ID, "x") == [("text", "x")]


def test_a_tag_that_decodes_to_nothing() -> None:
    parser = ThinkingParser(OPEN_ID, CLOSE_ID)
    segments = [
        *parser.feed(OPEN_ID, ""),
        *parser.feed(WORD_ID, "a"),
        *parser.feed(CLOSE_ID, ""),
        *parser.feed(WORD_ID, "x"),
    ]
    assert segments == [("thinking", "a"), ("text", "x")]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<think>\na\n</think>\n\nx", ("a", "x")),
        ("a\n</think>\n\nx", ("a", "x")),
        ("<think>\na", ("a", "")),
        ("x", ("", "x")),
        ("Write <think>a</think> for a thought.", ("", "Write <think>a</think> for a thought.")),
    ],
)
def test_strip_thinking(reply: str, expected: tuple[str, str]) -> None:
    assert strip_thinking(reply) == expected


PROMPTS = [
    ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", False),
    ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n", True),
    ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
    ("<|im_start|>assistant\n<think>\nSo far I", True),
    ("<|im_start|>assistant\n<think>\na<|im_end|>\n<|im_start|>assistant\n", False),
    ("<think>\nraw", True),
    ("", False),
]


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS)
def test_prompt_opens_block(small: Tokenizer, prompt: str, expected: bool) -> None:
    assert prompt_opens_block(small.encode(prompt), small) is expected


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS)
def test_prompt_opens_block_spelled_in_text(tmp_path: Path, prompt: str, expected: bool) -> None:
    tokenizer = Tokenizer.from_folder(write_small_tokenizer(tmp_path, think_tokens=False), 600)
    assert tokenizer.think_open_id is None
    assert prompt_opens_block(tokenizer.encode(prompt), tokenizer) is expected


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("user", "hi")], None),
        ([("user", "hi /no_think")], False),
        ([("user", "hi /think")], True),
        ([("system", "/no_think"), ("user", "hi")], False),
        ([("system", "/no_think"), ("user", "hi /think")], True),
        ([("user", "/think"), ("assistant", "ok /no_think"), ("user", "go on")], True),
        ([("user", "/think a"), ("assistant", "b"), ("user", "c /no_think")], False),
        ([("user", "/think or rather /no_think")], False),
        ([("user", "/no_think.")], False),
        ([("user", "你好/no_think")], False),
        ([("tool", "/no_think")], None),
        ([("user", "see src/think and /think/x and http://a.b/think /thinking")], None),
        ([("user", None)], None),
    ],
)
def test_soft_switch(turns: list[tuple[str, str | None]], expected: bool | None) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    assert soft_switch(messages) is expected


def test_soft_switch_reads_parts() -> None:
    parts = [{"type": "text", "text": "hi"}, {"type": "text", "text": " /no_think"}]
    assert soft_switch([{"role": "user", "content": parts}]) is False


def test_the_early_stop_is_24_official_tokens(official: Tokenizer) -> None:
    ids = EarlyStop(official).ids
    assert ids[:4] == [271, 82796, 279, 7199]
    assert (len(ids), ids[-3:]) == (24, [624, 151668, 271])
