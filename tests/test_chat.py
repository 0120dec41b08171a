"""Conversations: every token is read once, thoughts and tools included."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from engine.recorder import Recorder, common, wait_until_idle
from model.running import load
from script import Script, scripted

sys.path.insert(0, str(Path(__file__).parent / "text"))
from small_tokenizer import write_small_tokenizer

import qwen3_mlx
from qwen3_mlx import EngineError, OptionError, PromptError, Qwen3, Sampling, Tool
from qwen3_mlx.chat import Chat, ThoughtMemory
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request
from qwen3_mlx.prompts import Prompts
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.tokenizer import Tokenizer

# The rules of Qwen's hybrid template: thoughts of turns that are over are stripped, those
# since the last question stay, and results of tools come in a user's turn.
TEMPLATE = """
{%- set ns = namespace(last=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and message.reasoning_content %}
            {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
VOCAB = 600
OVERHEAD = 16  # tokens of the template around a new message


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = write_small_tokenizer(tmp_path_factory.mktemp("chat"))
    return Tokenizer.from_folder(folder, VOCAB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("chat") / "model", dtype="F32", vocab_size=VOCAB
    )


def conversation() -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """New messages and the reply to them, step by step: 12 turns, two of them use tools."""
    for turn in range(12):
        question = {"role": "user", "content": f"turn {turn}: the quick brown fox" + " jumps" * 9}
        new = [question] if turn else [{"role": "system", "content": "You think."}, question]
        if turn in (4, 8):
            for step in range(3):
                arguments = {"path": f"file {turn} {step}"}
                call = {
                    "id": f"{turn}.{step}",
                    "function": {"name": "read", "arguments": arguments},
                }
                yield new, {
                    "role": "assistant", "content": "", "tool_calls": [call],
                    "reasoning_content": f"step {step}: it needs the dog" + " and a fox" * 8,
                }  # fmt: skip
                new = [{"role": "tool", "content": f"result {step}" + " lazy" * 12}]
        yield new, {
            "role": "assistant", "content": f"answer {turn}" + " over the dog" * 6,
            "reasoning_content": "Let me think about the answer." + " jumps" * (20 + 3 * turn),
        }  # fmt: skip


def spelled(reply: dict[str, Any]) -> str:
    """A reply as the model writes it."""
    calls = "".join(
        f'\n<tool_call>\n{{"name": "{call["function"]["name"]}", "arguments": '
        f"{json.dumps(call['function']['arguments'])}}}\n</tool_call>"
        for call in reply.get("tool_calls", [])
    )
    return f"<think>\n{reply['reasoning_content']}\n</think>\n\n{reply['content']}{calls}"


def say(engine: Engine, prompt: list[int], ids: Sequence[int]) -> Request:
    heard = Recorder()
    request = Request(prompt, DrawRule(), heard, len(ids) + 1, eos=frozenset({ids[-1]}))
    request.mask = Script(request, VOCAB, ids)
    engine.submit(request)
    assert heard.end() == "stop"
    return request


def greedy(engine: Engine, prompt: list[int]) -> list[int]:
    heard = Recorder()
    engine.submit(Request(prompt, DrawRule(), heard, 5))
    assert heard.end() == "length"
    return heard.tokens


def test_twelve_turns_with_tools_read_only_what_is_new(folder: Path, tokenizer: Tokenizer) -> None:
    prompts = Prompts(ChatTemplate(TEMPLATE), tokenizer, "hybrid", 40_000)
    end = tokenizer.encode("<|im_end|>")
    engine, empty = (
        Engine(partial(load, folder), VOCAB, prefix_bytes=size) for size in (1 << 28, 0)
    )
    messages: list[dict[str, Any]] = []
    before: list[int] = []
    ours, theirs, news = 0, 0, 0
    try:
        for new, reply in conversation():
            messages += new
            prompt = prompts.chat(messages).ids
            request = say(engine, prompt, [*tokenizer.encode(spelled(reply)), *end])
            read = len(prompt) - request.stats.cached
            fresh = sum(len(tokenizer.encode(message["content"])) for message in new)
            assert read <= fresh + OVERHEAD * len(new)
            ours, theirs, news = (
                ours + read,
                theirs + len(prompt) - common(before, prompt),
                news + fresh,
            )
            before = request.text
            messages.append(reply)
            if not reply.get("tool_calls"):
                engine.prepare(prompts.history(messages))
                wait_until_idle(engine)
            if len(messages) % 4 == 0:
                assert greedy(engine, prompt) == greedy(empty, prompt)
    finally:
        engine.close()
        empty.close()
    assert ours < theirs / 2
    assert ours <= news + OVERHEAD * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qwen3]:
    folder = write_checkpoint(
        tmp_path_factory.mktemp("chat") / "model", dtype="F32", tokenizer=True
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    with qwen3_mlx.load(str(folder)) as model:
        yield model


def test_a_chat_reads_its_history_once(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    end = [model._tokenizer.eos_id or 0]
    requests = scripted(
        model, monkeypatch, [*model.encode("<think>\nLong thought.\n</think>\n\nShort."), *end]
    )
    chat = Chat(model, system="Be brief.")
    for turn in range(3):
        reply = chat.ask(f"{turn} is the question")
        wait_until_idle(model._engine)
        new = len(f"{turn} is the question") + len("user\n") + len("\nassistant\n") + 8
        if turn:
            assert reply.usage.prompt_tokens - reply.usage.cached_tokens <= new
    assert "Long thought" not in model.decode(requests[-1].prompt)
    assert [message["content"] for message in chat.messages[1::2]] == ["Short."] * 3

    again = chat.retry()
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    other = chat.edit(1, "1 was the question")
    history = model._prompts.history(chat.messages[:2], "Be brief.")
    assert other.usage.cached_tokens == len(history) + len("1 ")
    assert len(chat.messages) == 4


def test_two_chats_on_one_engine(model: Qwen3) -> None:
    chats = [Chat(model, system=name, max_tokens=6, sampling=Sampling(temperature=0))
             for name in ("one", "two")]  # fmt: skip
    alternately = [chat.ask(f"question {n}").text for n in range(3) for chat in chats]
    alone = [Chat(model, system=name, max_tokens=6, sampling=Sampling(temperature=0))
             for name in ("one", "two")]  # fmt: skip
    apart = [[chat.ask(f"question {n}").text for n in range(3)] for chat in alone]
    assert alternately == [text for pair in zip(*apart, strict=True) for text in pair]


def test_reuse_can_be_bounded_and_turned_off(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype="F32", tokenizer=True)
    for size, reuses in ((0, False), ("0", False), ("1MB", True), (100, False)):
        with qwen3_mlx.load(str(folder), prefix_cache=size) as model:
            for _ in range(2):
                reply = model.ask("hello", max_tokens=2)
            assert (reply.usage.cached_tokens > 0) == reuses


@pytest.mark.parametrize("asked", [None, "100kB", 0])
def test_reuse_under_a_memory_limit_is_part_of_the_plan(
    tmp_path: Path, asked: int | str | None
) -> None:
    folder = write_checkpoint(
        tmp_path / "model", dtype="F32", tokenizer=True, moe=True, num_experts=32
    )
    with qwen3_mlx.load(str(folder), prefix_cache=asked, memory_limit="12MB", context=256) as model:
        plan = model.plan
        assert plan is not None
        wanted = {None: plan.kv_bytes, "100kB": 100_000, 0: 0}[asked]
        assert plan.prefix_bytes == wanted
        assert plan.total_bytes <= 12_000_000
        replies = [model.ask("hello", max_tokens=40, seed=1) for _ in range(2)]
        held = model._engine.call(lambda: model._engine._prefixes.nbytes)
    assert held <= plan.prefix_bytes
    assert (replies[1].usage.cached_tokens > 0) == bool(wanted)
    assert replies[0].text == replies[1].text


def test_the_tenth_turn_reads_its_message_only(folder: Path) -> None:
    """A long history, a message of 64 tokens; scripts/measure_conversation.py takes the times."""
    engine = Engine(partial(load, folder), VOCAB, prefix_bytes=1 << 30)
    history = [(7 * n) % 500 for n in range(1500)]
    try:
        engine.prepare(history)
        wait_until_idle(engine)
        for start, cached in (([], 1500), ([501], 0)):
            heard = Recorder()
            prompt = [*start, *history, *((13 * n) % 500 for n in range(64))]
            request = Request(prompt, DrawRule(), heard, 1)
            engine.submit(request)
            assert heard.end() == "length"
            assert request.stats.cached == cached
    finally:
        engine.close()


def test_after_a_run_its_history_is_read_ahead(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = [model._tokenizer.eos_id or 0]
    said = "<think>\nA thought, which the next prompt leaves out.\n</think>\n\nShort."
    scripted(model, monkeypatch, [*model.encode(said), *end])

    def clock() -> str:
        """Tell the time."""
        return "noon"

    chat = Chat(model)
    for turn in range(2):
        reply = chat.run(f"{turn} is the question", tools=[clock]).reply
        wait_until_idle(model._engine)
    history = model._prompts.history(chat.messages[:2], None, [Tool.of(clock).schema])
    assert reply.usage.cached_tokens >= len(history)


def test_a_question_in_parts_is_asked_again_as_its_text() -> None:
    fake = FakeModel(["one", "two"])
    chat = Chat(fake)
    chat.messages = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    chat.retry()
    assert fake.calls[0].prompt == "hello"


def test_a_turn_that_fails_or_cannot_be_is_not_taken() -> None:
    chat = Chat(FakeModel(["one", Answer("two", error=EngineError("broken"), error_after=0)]))
    assert chat.ask("first").text == "one"
    with pytest.raises(EngineError, match="broken"):
        chat.ask("second")
    with pytest.raises(OptionError, match="no question 5: this chat has 1"):
        chat.edit(5)
    with pytest.raises(EngineError, match="tape"):
        chat.retry()
    assert [message["content"] for message in chat.messages] == ["first", "one"]


def test_thoughts_come_back_by_the_ids_of_their_calls() -> None:
    memory = ThoughtMemory(most=3)
    for number in range(3):
        memory.remember([f"call_{number}"], f"thought {number}")
    calls = [{"role": "assistant", "content": "", "tool_calls": [{"id": f"call_{n}"}]}
             for n in range(3)]  # fmt: skip
    told = {"role": "assistant", "reasoning_content": "own", "tool_calls": [{"id": "call_2"}]}
    restored = memory.restore([*calls, told, {"role": "user", "content": "hi"}])

    assert [message.get("reasoning_content") for message in restored] == [
        "thought 0", "thought 1", "thought 2", "own", None,
    ]  # fmt: skip
    assert "reasoning_content" not in calls[1]
    # Another client may call its call the same: a thought that came along is not remembered.
    assert memory.restore(calls[2:])[0]["reasoning_content"] == "thought 2"
    memory.remember(["call_3"], "thought 3")  # and the oldest is forgotten
    known = [message.get("reasoning_content") for message in memory.restore(calls)]
    assert known == [None, "thought 1", "thought 2"]


def test_a_model_shows_thoughts_to_the_calls_that_they_led_to(model: Qwen3) -> None:
    call = {"id": "c1", "function": {"name": "read", "arguments": {"path": "a"}}}
    bare = [
        {"role": "user", "content": "Read a."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "It says 4."},
    ]
    model.thoughts.remember(["c1"], "I need the file.")
    generation = model.stream(bare, max_tokens=1)
    generation.result()
    assert generation.request is not None
    told = [{**m, "reasoning_content": "I need the file."} if "tool_calls" in m else m
            for m in bare]  # fmt: skip
    assert generation.request.prompt == model.encode(model.render(told))
    assert "I need the file." not in model.render(bare)


def test_nothing_is_read_ahead_that_the_context_cannot_hold() -> None:
    history = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "yes"}]
    with qwen3_mlx.load("tiny", context=256) as model:
        model.prepare(history)
        assert not model._engine.call(lambda: model._engine.reads_ahead)
        with pytest.raises(PromptError, match="the context 256"):
            model.save_prefix(history)
