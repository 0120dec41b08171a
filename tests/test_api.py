"""The front door on a random model with a tokenizer of bytes: what is said is noise, but exact."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import SPECIAL_TOKENS, write_checkpoint
from script import scripted as following

import qwen3_mlx
from qwen3_mlx import (
    CheckpointError,
    Done,
    EngineError,
    Loading,
    ModelNotFoundError,
    Notice,
    OptionError,
    Prefill,
    PromptError,
    Qwen3,
    Sampling,
    TextDelta,
    ThinkingDelta,
    ThinkingDone,
    hub,
)
from qwen3_mlx.ledger import read_book


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("api") / "model", moe=True, dtype="F32", tokenizer=True
    )


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Qwen3]:
    with qwen3_mlx.load(str(folder)) as model:
        yield model


def test_info(model: Qwen3, folder: Path) -> None:
    info = model.info
    assert (info.name, info.quantization, info.context) == (str(folder), "f32", 4096)
    assert (info.can_think, info.can_switch_thinking, info.can_call_tools) == (True, True, False)


def test_a_load_that_fails_lets_go_of_memory_and_files(folder: Path) -> None:
    """At once, and not when its exception does: a notebook keeps that one."""

    def fail(loading: Loading) -> None:
        if loading.done > loading.total / 2:
            raise RuntimeError("a broken progress bar")

    def opened() -> list[str]:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        targets = [os.path.realpath(link) for link in links if os.path.exists(link)]
        return [target for target in targets if target.startswith(str(folder))]

    before = mx.get_active_memory()
    with pytest.raises(RuntimeError, match="broken progress") as kept:
        qwen3_mlx.load(str(folder), slots=4, progress=fail)
    assert read_book(hub.data_dir() / "memory") == ()
    assert mx.get_active_memory() <= before
    if sys.platform == "linux":
        assert opened() == []
    assert kept.value.__traceback__ is not None


def test_streamed_text_is_the_final_text(model: Qwen3) -> None:
    events = list(model.stream("hello", seed=3, max_tokens=60))
    reply = events[-1]
    assert isinstance(reply, Done)
    reply = reply.reply
    thought = "".join(e.text for e in events if isinstance(e, ThinkingDelta))
    answer = "".join(e.text for e in events if isinstance(e, TextDelta))

    assert (thought, answer) == (reply.thinking, reply.text)
    assert isinstance(events[0], Prefill)
    assert reply.usage.prompt_tokens == len(model.encode(model.render([
        {"role": "user", "content": "hello"}])))  # fmt: skip
    assert reply.finish_reason in ("stop", "length")
    assert reply.timing.ttft_seconds > 0
    assert reply.peak_bytes > 0


def test_the_same_seed_gives_the_same_text(model: Qwen3) -> None:
    first, again, other = (model.ask("hi", seed=s, max_tokens=30).text for s in (5, 5, 6))
    assert first == again != other


def test_greedy_equals_the_largest_logit(model: Qwen3) -> None:
    prompt = "abc"
    said = model.ask(prompt, raw=True, sampling=Sampling(temperature=0), max_tokens=8)
    ids = model.encode(prompt)
    with_text = 256 + len(SPECIAL_TOKENS)
    for _ in range(8):
        ids.append(int(model.logits(ids)[-1, :with_text].argmax()))

    assert said.text == model.decode(ids[3:])
    assert said.usage.answer_tokens == 8


def test_a_thought_is_told_apart(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted engine: the ids of a hybrid reply, cut by the model's own tags."""
    ids = model.encode("<think>\nfour\n</think>\n\n2 + 2 = 4")
    events = scripted(model, monkeypatch, ids)
    done = next(e for e in events if isinstance(e, ThinkingDone))
    reply = events[-1].reply  # type: ignore[union-attr]

    assert (reply.thinking, reply.text) == ("four", "2 + 2 = 4")
    assert reply.usage.thinking_tokens == done.tokens == len("\nfour\n")
    assert reply.usage.answer_tokens == len("\n\n2 + 2 = 4")


def test_stop_strings_end_the_answer_across_tokens(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = model.encode("<think>\nstop here\n</think>\n\none two stop here three")
    events = scripted(model, monkeypatch, ids, stop=["stop here"])
    reply = events[-1].reply  # type: ignore[union-attr]

    assert (reply.text, reply.thinking) == ("one two ", "stop here")
    assert reply.finish_reason == "stop"


def scripted(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch, ids: list[int], stop: list[str] | None = None
) -> list[qwen3_mlx.Event]:
    """Events of a generation whose tokens are given."""

    def submit(request: object) -> None:
        listener, stats = request.listener, request.stats  # type: ignore[attr-defined]
        if any(listener.token(token) for token in ids):
            pass
        listener.finished("stop", stats)

    monkeypatch.setattr(model._engine, "submit", submit)
    return list(model.stream("hi", stop=stop or []))


def test_cancel_ends_within_a_token_and_keeps_the_text(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    following(model, monkeypatch, model.encode("<think>\nwhy\n</think>\n\na"))  # and a, for ever
    generation = model.stream("hello", loop_guard=False)
    request = generation.request
    assert request is not None
    said, drawn = [], 0
    for event in generation:
        if isinstance(event, TextDelta):
            said.append(event.text)
            generation.cancel()
            drawn = drawn or len(request.said)
    reply = generation.result()

    assert reply.finish_reason == "cancelled"
    assert reply.text == "".join(said)
    assert len(request.said) <= drawn + 2  # what was under way when the flag was set


def test_leaving_the_iteration_cancels(model: Qwen3) -> None:
    generation = model.stream("hello", max_tokens=4000)
    for _ in generation:
        break

    assert generation.request is not None
    assert generation.request.cancelled


def test_timeout_returns_what_was_said(model: Qwen3, monkeypatch: pytest.MonkeyPatch) -> None:
    following(model, monkeypatch, model.encode("a"))
    reply = model.ask("x" * 3000, raw=True, timeout=0.02, loop_guard=False)
    assert reply.finish_reason == "timeout"
    assert reply.text == "a" * reply.usage.answer_tokens


def test_max_tokens(model: Qwen3) -> None:
    reply = model.ask("hi", raw=True, max_tokens=3, sampling=Sampling(temperature=0))
    assert (reply.finish_reason, reply.usage.answer_tokens) == ("length", 3)


def test_greedy_while_thinking_warns(model: Qwen3) -> None:
    events = list(model.stream("hi", sampling=Sampling(temperature=0), max_tokens=1))
    assert any(isinstance(e, Notice) and "greedy" in e.text for e in events)


def test_many_threads_may_ask_at_once(model: Qwen3) -> None:
    alone = [model.ask(f"{n}", seed=n, max_tokens=10).text for n in range(6)]
    together: dict[int, str] = {}

    def ask(n: int) -> None:
        together[n] = model.ask(f"{n}", seed=n, max_tokens=10).text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [together[n] for n in range(6)] == alone


def test_logits(model: Qwen3) -> None:
    rows = model.logits([1, 2, 3])
    assert (rows.shape, rows.dtype) == ((3, 320), np.float32)
    with pytest.raises(PromptError, match="from 0 to 319, got 320"):
        model.logits([320])
    with pytest.raises(PromptError, match="no token ids"):
        model.logits([])


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (PromptError, {"prompt": " \n"}, "the prompt is empty"),
        (PromptError, {"prompt": []}, "the prompt is empty"),
        (PromptError, {"prompt": "x" * 5000}, "tokens and the context 4,096"),
        (OptionError, {"prompt": "x", "max_tokens": 0}, "must be a whole number from 1 on"),
        (OptionError, {"prompt": "x", "max_tokens": 5.0}, "max_tokens is 5.0"),
        (OptionError, {"prompt": "x", "logprobs": 5.0}, "logprobs is 5.0"),
        (OptionError, {"prompt": "x", "timeout": 0}, "above 0"),
        (OptionError, {"prompt": "x", "timeout": float("nan")}, "timeout is nan"),
        (OptionError, {"prompt": "x", "sampling": Sampling(top_p=2)}, "top_p is 2"),
        (OptionError, {"prompt": "x", "sampling": Sampling(temperature=-1)}, "temperature is -1"),
        (OptionError, {"prompt": "x", "sampling": Sampling(top_k=-3)}, "top_k is -3"),
        (OptionError, {"prompt": "x", "raw": True, "thinking": True}, "raw prompt"),
    ],
)
def test_impossible_arguments(
    model: Qwen3, kind: type[Exception], arguments: dict[str, object], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        model.ask(**arguments)  # type: ignore[arg-type]


def test_a_time_that_never_comes_is_no_limit(model: Qwen3) -> None:
    for timeout in (float("inf"), 1e12):
        reply = model.ask("hi", max_tokens=2, timeout=timeout)
        assert reply.finish_reason in ("length", "stop")


def test_a_question_that_is_refused_takes_no_notice_with_it(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_news", ["the context is long"])
    with pytest.raises(OptionError, match="logprobs is 21"):
        model.ask("hi", logprobs=21)
    assert model.ask("hi", max_tokens=1).notices == ("the context is long",)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_hugging_face_folders_run_as_they_are_stored(dtype: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", moe=True, dtype=dtype, tokenizer=True)
    with qwen3_mlx.load(str(folder)) as model:
        assert model._engine.call(lambda: str(model._engine.model.dtype)).endswith(
            {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}[dtype]
        )
        assert model.ask("hi", max_tokens=2).usage.prompt_tokens > 0


def test_a_closed_model_says_so(folder: Path) -> None:
    model = qwen3_mlx.load(str(folder))
    model.close()
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.ask("hi")


def test_errors_of_loading(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        qwen3_mlx.load("no-such-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        qwen3_mlx.load(str(tmp_path / "empty"))
    (tmp_path / "empty" / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="finish the download"):
        qwen3_mlx.load(str(tmp_path / "empty"))
    with pytest.raises(OptionError, match="dtype is 'int8'"):
        qwen3_mlx.load(str(folder), dtype="int8")


def test_import_is_light() -> None:
    """What `import qwen3_mlx` must not bring along; each of these costs a good part of a second."""
    code = (
        "import sys, qwen3_mlx; qwen3_mlx.load;"
        "heavy = {'transformers', 'mlx_lm', 'textual', 'numpy', 'jinja2', 'huggingface_hub',"
        " 'mlx.nn', 'torch', 'starlette', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_public_names_are_pinned() -> None:
    assert sorted(qwen3_mlx.__all__) == qwen3_mlx.__all__
    assert all(hasattr(qwen3_mlx, name) for name in qwen3_mlx.__all__)
    assert set(qwen3_mlx.__all__) <= set(dir(qwen3_mlx))
    with pytest.raises(AttributeError, match="no attribute 'Qwen4'"):
        _ = qwen3_mlx.Qwen4  # type: ignore[attr-defined]


def test_a_process_that_compiled_for_a_batch_ends_cleanly(folder: Path) -> None:
    """MLX's compile cache belongs to the engine thread and must be gone before Python is."""
    code = (
        "import sys, qwen3_mlx\n"
        "with qwen3_mlx.load(sys.argv[1]) as model:\n"
        "    running = [model.stream('hi', max_tokens=20 + 4 * n, seed=n) for n in range(16)]\n"
        "    print(len([each.result() for each in running]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "16\n", "")
