"""Thoughts that end when they must: by a budget, on demand, in circles, in a full context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from script import held, scripted

import qwen3_mlx
from qwen3_mlx import Done, OptionError, Qwen3, Reply, Sampling, TextDelta, ThinkingDelta, hub
from qwen3_mlx.events import Event, ThinkingDone, Usage
from qwen3_mlx.generation import TextGeneration
from qwen3_mlx.text.budget import EARLY_STOP

THOUGHT = "\n" + "".join(f"{n} and {n} is {2 * n}. " for n in range(200))
ANSWER = "It is 4."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("budget") / "model", dtype="F32", tokenizer=True
    )


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Qwen3]:
    with qwen3_mlx.load(str(folder)) as model:
        yield model


@pytest.fixture(scope="module")
def always(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qwen3]:
    """Like 2507-Thinking: the prompt opens the block, and nothing switches it off."""
    copy = write_checkpoint(
        tmp_path_factory.mktemp("always") / "model", dtype="F32", tokenizer=True
    )
    (copy / "chat_template.jinja").write_text(
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + "
        "'<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
    )
    with qwen3_mlx.load(str(copy)) as model:
        yield model


def end(model: Qwen3) -> int:
    return next(iter(sorted(model._parts.eos_ids, reverse=True)))


def spelled(model: Qwen3, ids: Sequence[int]) -> str:
    return model._tokenizer.decode(ids, skip_special=False)


def read(generation: TextGeneration) -> tuple[list[Event], Reply]:
    events = list(generation)
    assert isinstance(events[-1], Done)
    return events, events[-1].reply


@pytest.mark.parametrize("budget", [1, 16, 64, 256, None])
def test_the_thought_has_exactly_its_budget(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch, budget: int | None
) -> None:
    thought = model.encode("<think>" + THOUGHT[:400])
    answer = [*model.encode(ANSWER), end(model)]
    whole = [*thought, *model.encode("\n</think>\n\n"), *answer]
    requests = scripted(model, monkeypatch, thought if budget else whole, answer)
    events, reply = read(model.stream("?", thinking_budget=budget))
    sentence = model.encode(EARLY_STOP)

    assert reply.text == ANSWER
    assert reply.thinking == THOUGHT[: budget or 400].strip("\n")
    assert reply.usage.thinking_tokens == (budget or 401)
    assert reply.usage.forced_tokens == (len(sentence) if budget else 0)
    assert reply.thought_ended_by == ("budget" if budget else "model")
    assert occurrences(sentence, requests[0].said) == (1 if budget else 0)
    done = [event for event in events if isinstance(event, ThinkingDone)]
    assert [each.ended_by for each in done] == ([reply.thought_ended_by] if reply.thinking else [])
    streamed_equals_final(events, reply)


def occurrences(part: list[int], whole: list[int]) -> int:
    return sum(whole[n : n + len(part)] == part for n in range(len(whole)))


def streamed_equals_final(events: list[Event], reply: Reply) -> None:
    thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    answer = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert (thought, answer) == (reply.thinking, reply.text)
    assert "<think>" not in reply.text
    assert "</think>" not in reply.text


@pytest.mark.parametrize("thinking", [None, True])
def test_a_budget_of_0_is_the_empty_block(model: Qwen3, thinking: bool | None) -> None:
    generation = model.stream("?", thinking=thinking, thinking_budget=0, max_tokens=5, seed=1)
    direct = model.ask("?", thinking=False, max_tokens=5, seed=1)
    _, reply = read(generation)

    assert generation.request is not None
    prompt = model.render([{"role": "user", "content": "?"}], thinking=False)
    assert generation.request.prompt == model.encode(prompt)
    assert (reply.text, reply.thinking, reply.usage) == (direct.text, "", direct.usage)


def test_a_budget_of_0_closes_a_block_that_cannot_be_switched_off(
    always: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = scripted(always, monkeypatch, [*always.encode(ANSWER), end(always)])
    _, reply = read(always.stream("?", thinking_budget=0))

    assert spelled(always, requests[0].prompt).endswith("assistant\n<think>\n\n</think>\n\n")
    assert (reply.text, reply.thinking, reply.thought_ended_by) == (ANSWER, "", "budget")
    closing = len(always.encode("\n\n</think>\n\n"))
    assert reply.usage.forced_tokens == closing
    assert reply.usage.prompt_tokens == len(requests[0].prompt) - closing


def test_a_thought_that_the_prompt_opened_is_counted_from_its_first_token(
    always: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(always, monkeypatch, always.encode(THOUGHT), [*always.encode(ANSWER), end(always)])
    _, reply = read(always.stream("?", thinking_budget=16))

    assert reply.thinking == THOUGHT[:16].strip("\n")
    assert (reply.usage.thinking_tokens, reply.thought_ended_by) == (16, "budget")


@pytest.mark.parametrize("letters", ["aé", "a你", "a🙂", "🙂"])
@pytest.mark.parametrize("budget", range(1, 12))
def test_an_incomplete_character_is_cut_back(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch, letters: str, budget: int
) -> None:
    thought = (letters * 12).encode()
    answer = [*model.encode(ANSWER), end(model)]
    requests = scripted(model, monkeypatch, model.encode("<think>" + letters * 12), answer)
    events, reply = read(model.stream("?", thinking_budget=budget))

    expected = thought[:budget].decode(errors="ignore")
    assert (reply.thinking, reply.text) == (expected, ANSWER)
    assert reply.usage.thinking_tokens == len(expected.encode())
    assert spelled(model, requests[0].said) == "<think>" + expected + EARLY_STOP + ANSWER
    streamed_equals_final(events, reply)


def test_the_text_before_an_incomplete_character_stays(official_like: EarlyStopCase) -> None:
    ids, cut = official_like.stop.after(official_like.last, official_like.held)

    assert cut == 2
    assert official_like.text(ids) == " " + EARLY_STOP


class EarlyStopCase:
    """A tokenizer with a token that ends one character and begins another: b" \\xf0"."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        from qwen3_mlx.text import budget
        from qwen3_mlx.text import tokenizer as text

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        space, first = "Ġ", "ð"
        vocab = {letter: n for n, letter in enumerate([*alphabet, space + first])}
        backend = Tokenizer(models.BPE(vocab=vocab, merges=[(space, first)]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        self.tokenizer = text.Tokenizer(backend, 300)
        self.stop = budget.EarlyStop(self.tokenizer)
        self.last = self.tokenizer.encode("x 🙂")[:3]
        assert [self.tokenizer.bytes_of(id) for id in self.last] == [b"x", b" \xf0", b"\x9f"]
        self.held = 2

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)


@pytest.fixture
def official_like() -> EarlyStopCase:
    return EarlyStopCase()


def test_answer_now_from_another_thread(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [*model.encode(ANSWER), end(model)]
    scripted(model, monkeypatch, model.encode("<think>" + THOUGHT), answer)
    go = held(model, monkeypatch)
    generation = model.stream("?")
    thinks, told = threading.Event(), threading.Event()
    end_thought = generation._end_thought

    def and_wait(token: int) -> object:
        if generation._thinking_tokens == 20:
            thinks.set()
            told.wait(60)
        return end_thought(token)

    monkeypatch.setattr(generation, "_end_thought", and_wait)
    go()
    assert thinks.wait(60)
    generation.answer_now()
    told.set()
    reply = generation.result()

    assert (reply.text, reply.thought_ended_by) == (ANSWER, "user")
    assert (reply.thinking, reply.usage.thinking_tokens) == (THOUGHT[:20].strip("\n"), 20)


def test_answer_now_before_the_thought_and_in_the_answer(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = [*model.encode(ANSWER), end(model)]
    scripted(model, monkeypatch, model.encode("<think>" + THOUGHT), answer)
    go = held(model, monkeypatch)
    early = model.stream("?")
    early.answer_now()
    go()
    reply = early.result()
    assert (reply.text, reply.thinking) == (ANSWER, "")
    assert reply.thought_ended_by == "user"

    monkeypatch.undo()
    scripted(model, monkeypatch, answer)
    go = held(model, monkeypatch)
    late = model.stream("?", thinking=False)
    late.answer_now()
    go()
    reply = late.result()
    assert (reply.text, reply.thought_ended_by, reply.usage.forced_tokens) == (ANSWER, "", 0)


def _clock() -> str:
    """Tell the time."""
    return "noon"


@pytest.mark.parametrize("tools", [[], [_clock]], ids=["free", "guided"])
@pytest.mark.parametrize("minimum", [1, 2, 3, 17, 40])
def test_think_more_refuses_an_early_end(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch, minimum: int, tools: list[Callable[[], str]]
) -> None:
    """The script wants to end its thought from its first token on; x comes instead."""
    close = model.encode("</think>")
    ids = [*model.encode("<think>"), *close * 200]
    scripted(model, monkeypatch, ids, instead=model.encode("x")[0])
    reply = model.ask("?", min_thinking=minimum, max_tokens=2 * minimum + 8, tools=tools)

    assert reply.thinking == "x" * minimum
    assert reply.usage.thinking_tokens == minimum
    assert reply.thought_ended_by == "model"


def test_think_more_while_it_thinks(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [*model.encode("<think>abcdefgh"), *model.encode("</think>") * 300]
    scripted(model, monkeypatch, ids, instead=model.encode("x")[0])
    go = held(model, monkeypatch)
    generation = model.stream("?", max_tokens=80)
    generation.think_more(50)
    go()
    reply = generation.result()

    assert reply.thinking == "abcdefgh" + "x" * 42
    with pytest.raises(OptionError, match="no thought"):
        model.stream("x", raw=True, max_tokens=1).think_more(3)


def test_tags_after_a_forced_end_are_forbidden(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = model.encode("</think><think>4</think>")
    scripted(model, monkeypatch, model.encode("<think>" + THOUGHT), [*tags, end(model)],
             instead=model.encode("!")[0])  # fmt: skip
    reply = model.ask("?", thinking_budget=16)

    assert reply.text == "!!4!"


def test_stop_strings_after_a_forced_end(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = model.encode("one two stop three")
    scripted(model, monkeypatch, model.encode("<think> stop " + THOUGHT), answer)
    events, reply = read(model.stream("?", thinking_budget=32, stop=["stop"]))

    assert (reply.text, reply.finish_reason) == ("one two ", "stop")
    assert "stop" in reply.thinking
    streamed_equals_final(events, reply)


def small_context(path: Path, tokens: int) -> Qwen3:
    folder = write_checkpoint(
        path / "model", dtype="F32", tokenizer=True, max_position_embeddings=tokens
    )
    return qwen3_mlx.load(str(folder))


def test_a_full_context_closes_the_thought_and_keeps_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_context(tmp_path, 600) as model:
        long = model.encode("<think>" + THOUGHT)
        scripted(model, monkeypatch, long, [*model.encode(ANSWER), end(model)])
        reply = model.ask("?", loop_guard=False)
        cut = model.ask("?", max_tokens=40)
        short = model.ask("?", max_tokens=3)

    assert (reply.text, reply.thought_ended_by, reply.finish_reason) == (ANSWER, "context", "stop")
    assert (
        600
        - sum((reply.usage.prompt_tokens, reply.usage.thinking_tokens, reply.usage.forced_tokens))
        >= 600 // 8
    )
    # So does max_tokens: a quarter of it is for the answer.
    assert (cut.text, cut.thought_ended_by, cut.finish_reason) == (ANSWER, "length", "stop")
    assert cut.usage.thinking_tokens == 40 - 40 // 4 - 1
    assert (short.finish_reason, short.thought_ended_by, short.text) == ("length", "", "")


def test_a_sentence_that_does_not_fit_ends_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_context(tmp_path, 60) as model:
        scripted(model, monkeypatch, model.encode("<think>" + THOUGHT))
        reply = model.ask("?", thinking_budget=8)

    assert reply.finish_reason == "length"
    assert reply.usage.thinking_tokens <= 8


def test_cancel_while_the_sentence_is_forced(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(model, monkeypatch, model.encode("<think>" + THOUGHT), model.encode(ANSWER))
    go = held(model, monkeypatch)
    generation = model.stream("?", thinking_budget=16)
    end_thought = generation._end_thought

    def and_cancel(token: int) -> object:
        wish = end_thought(token)
        if wish is not None:
            generation.cancel()
        return wish

    monkeypatch.setattr(generation, "_end_thought", and_cancel)
    go()
    reply = generation.result()

    assert reply.finish_reason == "cancelled"
    assert (reply.text, reply.usage.thinking_tokens) == ("", 16)
    assert reply.thinking == THOUGHT[:16].strip("\n")


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=2, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_budgets_in_company_are_as_alone(model: Qwen3, asked: list[tuple[int, bool]]) -> None:
    """A random model that is made to think: nobody's forced sentence disturbs the others."""

    def ask(number: int, budget: int, penalised: bool) -> TextGeneration:
        sampling = Sampling(temperature=1.0, presence_penalty=0.7 if penalised else 0.0)
        return model.stream(
            f"{number}", seed=number, max_tokens=budget + 20, thinking_budget=budget,
            min_thinking=budget, sampling=sampling,
        )  # fmt: skip

    running = [ask(n, *each) for n, each in enumerate(asked)]
    together = [generation.result() for generation in running]
    alone = [ask(n, *each).result() for n, each in enumerate(asked)]

    assert [said(reply) for reply in together] == [said(reply) for reply in alone]


def said(reply: Reply) -> tuple[str, str, Usage]:
    """All but what was found in the cache, which depends on who came before."""
    return reply.text, reply.thinking, replace(reply.usage, cached_tokens=0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"thinking_budget": -1}, "thinking_budget is -1"),
        ({"min_thinking": -1}, "min_thinking is -1"),
        ({"min_thinking": 9, "thinking_budget": 8}, "to the budget of 8"),
        ({"raw": True, "thinking_budget": 8}, "raw prompt"),
        ({"raw": True, "min_thinking": 8}, "raw prompt"),
    ],
)
def test_impossible_limits(model: Qwen3, arguments: dict[str, int], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        model.ask("?", **arguments)  # type: ignore[arg-type]


def test_a_budget_without_a_thought_says_so(model: Qwen3) -> None:
    reply = model.ask("?", thinking=False, thinking_budget=5, max_tokens=1)
    assert reply.notices == ("thinking is off: thinking_budget=5 changes nothing",)


CIRCLE = "Wait, let me see. "


def test_a_thought_that_goes_round_is_ended(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [*model.encode(ANSWER), end(model)]
    thought = model.encode("<think>" + THOUGHT[:100] + CIRCLE * 200)
    scripted(model, monkeypatch, thought, answer)
    events, reply = read(model.stream("?"))

    assert (reply.text, reply.thought_ended_by, reply.finish_reason) == (ANSWER, "loop", "stop")
    assert 256 < reply.usage.thinking_tokens < 100 + 256 + 5 * len(CIRCLE)
    streamed_equals_final(events, reply)


def test_an_answer_that_goes_round_ends(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(model, monkeypatch, model.encode(ANSWER + CIRCLE * 200))
    reply = model.ask("?", thinking=False)

    assert reply.finish_reason == "repetition"
    assert reply.text.startswith(ANSWER + CIRCLE * 20)
    assert reply.usage.answer_tokens < 1024 + 5 * len(CIRCLE)


def test_the_loop_guard_can_be_turned_off(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(model, monkeypatch, model.encode("<think>" + CIRCLE * 200), [end(model)])
    # Longer than the guard, which the two tests above measure, would have let them go on.
    thought = model.ask("?", loop_guard=False, max_tokens=500)
    raw = model.ask("?", raw=True, loop_guard=False, max_tokens=1200)

    assert (thought.thought_ended_by, thought.usage.thinking_tokens) == ("length", 374)
    assert (raw.finish_reason, raw.usage.answer_tokens) == ("length", 1200)


@pytest.mark.parametrize("budget", [0, 16, 64, 256, None])
def test_budgets_of_thoughts_that_tiny_thinks(tiny: Qwen3, budget: int | None) -> None:
    generation = tiny.stream(
        "What is 1234 + 5678?", thinking_budget=budget, sampling=Sampling(temperature=0)
    )
    events, reply = read(generation)
    thinks = budget != 0
    sentence, request = tiny.encode(EARLY_STOP), generation.request

    assert request is not None
    assert (reply.usage.thinking_tokens > 0) == thinks
    assert reply.usage.thinking_tokens <= (budget if budget is not None else 1000)
    cut = reply.thought_ended_by == "budget" and thinks
    assert cut or budget != 16  # its thoughts about a sum are longer than that
    assert occurrences(sentence, request.said) == cut
    assert reply.usage.forced_tokens == (len(sentence) if cut else 0)
    assert reply.finish_reason == "stop"
    streamed_equals_final(events, reply)


@pytest.fixture(scope="module")
def tiny() -> Iterator[Qwen3]:
    if not (hub.TINY / "model.safetensors").exists():
        pytest.skip("tiny is not part of this checkout")
    with qwen3_mlx.load("tiny") as model:
        yield model


def test_what_was_known_is_never_more_than_the_prompt(always: Qwen3) -> None:
    """The end of a thought that is not wanted is forced, and is known too the second time."""
    for _ in range(2):
        reply = always.ask("hello", thinking_budget=0, max_tokens=3)
    assert 0 < reply.usage.cached_tokens <= reply.usage.prompt_tokens
    assert reply.timing.prefill_tokens_per_second > 0
