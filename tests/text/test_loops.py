"""The loop guard: what goes round in circles is found, what only looks alike is not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx.text.loops import LoopGuard
from qwen3_mlx.text.tokenizer import Tokenizer

WINDOW, GRAM, SEEN = 256, 16, 3


def found(tokens: Iterable[int], window: int = WINDOW) -> int | None:
    """After how many tokens the guard raises an alarm."""
    guard = LoopGuard(window)
    for place, token in enumerate(tokens, start=1):
        guard.push(token)
        if guard.looping:
            return place
    return None


@given(st.lists(st.integers(0, 151_935), min_size=1, max_size=600), st.integers(0, 300))
@settings(max_examples=60)
def test_every_cycle_is_found_soon_and_only_after_it_came_back(cycle: list[int], lead: int) -> None:
    draws = random.Random(lead)
    start = [draws.randrange(151_936) for _ in range(lead)]
    repeats = -(-(SEEN * len(cycle) + WINDOW + GRAM) // len(cycle)) + 1
    place = found(start + cycle * repeats)

    assert place is not None
    # The run of tokens must have been there SEEN times, and then fill nearly the whole window.
    assert place <= lead + SEEN * len(cycle) + WINDOW + GRAM
    assert place >= 0.97 * WINDOW


@given(st.integers(17, 256), st.integers(0, 99))
@settings(max_examples=40)
def test_rows_with_one_new_token_are_no_cycle(width: int, seed: int) -> None:
    draws = random.Random(seed)
    frame = [draws.randrange(1000) for _ in range(width)]
    place = seed % width
    rows = ([*frame[:place], 10_000 + n, *frame[place + 1 :]] for n in range(40))

    assert found(token for row in rows for token in row) is None


@given(st.integers(50, 3000), st.integers(0, 99))
@settings(max_examples=20)
def test_a_text_may_quote_itself_twice(length: int, seed: int) -> None:
    draws = random.Random(seed)
    text = [draws.randrange(151_936) for _ in range(length)]
    assert found(text * 3) is None


def _tables() -> dict[str, str]:
    return {
        "powers": "".join(f"| {n} | {n * n} | {n**3} |\n" for n in range(400)),
        "flags": "".join(f"| item {n} | yes | no | no | no | yes | yes |\n" for n in range(300)),
        "json": "".join(
            f'  {{"id": {n}, "name": "", "tags": [], "zip": "", "score": 0.0, "on": true}},\n'
            for n in range(200)
        ),
        "tasks": "".join(f"- [ ] Task {n}: to be done\n" for n in range(500)),
        "counting": " ".join(map(str, range(1500))),
        "beer": "".join(
            f"{n} bottles of beer on the wall, {n} bottles of beer. Take one down and pass it"
            f" around, {n - 1} bottles of beer on the wall.\n"
            for n in range(99, 0, -1)
        ),
        "sql": "".join(
            f"INSERT INTO t (id, a, b, c) VALUES ({n}, NULL, NULL, NULL);\n" for n in range(200)
        ),
        "rules": ("-" * 80 + "\nsection\n") * 5,
        "derivation": "".join(
            f"Step {n}: add {n} to {n * (n - 1) // 2}, which gives {n * (n + 1) // 2}. "
            for n in range(1, 200)
        ),
    }


@pytest.mark.parametrize("name", _tables())
def test_tables_and_lists_are_no_alarm(name: str, tokenizer: Tokenizer) -> None:
    assert found(tokenizer.encode(_tables()[name])) is None


def test_code_is_no_alarm(tokenizer: Tokenizer) -> None:
    """The standard library, tables of character sets among it."""
    import encodings
    import html.entities
    import keyword
    import token as tokens

    files = [
        *sorted(Path(encodings.__file__).parent.glob("cp12*.py")),
        *(Path(str(module.__file__)) for module in (html.entities, keyword, tokens)),
    ]
    for file in files:
        text = file.read_text(encoding="utf-8")[:60_000]
        assert found(tokenizer.encode(text)) is None, file


@pytest.mark.parametrize(
    "text",
    [
        "Wait, let me check that again. ",
        "\n\nWait, no. The sum is 12, so the answer must be 12. But is it? Let me recompute it.",
        "ha",
        "\n",
        "你好，世界。",
    ],
)
def test_circles_in_words_are_found(text: str, tokenizer: Tokenizer) -> None:
    cycle: Sequence[int] = tokenizer.encode(text) * 400
    place = found(cycle[:4000])
    assert place is not None
    assert place < 2 * WINDOW + SEEN * len(tokenizer.encode(text))


def test_a_line_that_was_asked_for_a_hundred_times_is_no_alarm_in_an_answer(
    tokenizer: Tokenizer,
) -> None:
    ids = tokenizer.encode("I will not talk.\n" * 100)
    assert found(ids[:1024], window=1024) is None
