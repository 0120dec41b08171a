"""What is measured, in one vocabulary for both sides; and our own side of it.

All prompts are token ids drawn from a seed, so that both sides read the same ones and no
cache of prompts can help either. Ends of text are ignored: every run says all its tokens.
"""

from __future__ import annotations

import os
import queue
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import DrawRule, Request, RequestStats
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import FinishReason
from qwen3_mlx.loading import Parts, read_parts
from qwen3_mlx.presets import THINKING
from qwen3_mlx.streaming import Keeper

__all__ = ["Ours", "Side", "Solo", "cold_command", "cold_process", "prompt_ids"]

QUESTION = "What is 12 + 30?"


@dataclass(frozen=True, slots=True)
class Solo:
    """One text alone: tokens a second of both phases, and the peak of memory in bytes."""

    prefill: float
    decode: float
    peak_bytes: int


class Side(Protocol):
    """A program under measurement."""

    name: str

    @property
    def asks(self) -> bool:
        """Whether what is loaded can be asked: it has a chat template."""

    def load(self) -> float:
        """Load the folder, tokenizer included; seconds. What was loaded before is let go."""

    def solo(self, prompt: int, generate: int, seed: int) -> Solo:
        """Read `prompt` ids and say `generate` more."""

    def batch(self, rows: int, prompt: int, generate: int, seed: int) -> float:
        """The same for many prompts at once: tokens said a second, reading included."""

    def ttft(self) -> float:
        """Seconds from a question, as text, to the first token of the answer."""

    def cold_command(self) -> list[str]:
        """The command of a whole process that answers with one token."""

    def close(self) -> None: ...


def prompt_ids(length: int, vocab: int, seed: int) -> list[int]:
    """Ids that look like nothing in particular.

    >>> prompt_ids(3, 100, seed=1) == prompt_ids(3, 100, seed=1)
    True
    """
    numbers = random.Random(seed)
    return [numbers.randrange(vocab) for _ in range(length)]


def cold_process(command: Sequence[str], *, empty_cache: bool = False) -> float:
    """Seconds of a whole process; with `empty_cache` nothing that MLX's CPU compiled is found.

    Raises:
        EngineError: it failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {"QWEN3_MLX_HOME": scratch}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if empty_cache:  # the CPU's compiled kernels are kept below the temporary folder
            environment["TMPDIR"] = scratch
        began = time.perf_counter()
        done = subprocess.run(
            command, env=environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        seconds = time.perf_counter() - began
    if done.returncode:
        why = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise EngineError(f"{shlex.join(command)} failed: {why[-1]}")
    return seconds


def cold_command(folder: Path) -> list[str]:
    """A fresh process of ours that answers with one token."""
    return [sys.executable, "-m", "qwen3_mlx_app.cli", "ask", "-m", str(folder),
            "--max-tokens", "1", QUESTION]  # fmt: skip


class Ours:
    """This project, through its engine."""

    name = "qwen3-mlx"

    def __init__(
        self,
        folder: Path,
        dtype: str | None = None,
        *,
        sampled: bool = False,
        context: int | None = None,
        kv_bits: int | None = None,
    ) -> None:
        self._folder, self._dtype = folder, dtype
        self._context, self._kv_bits = context, kv_bits
        self.notices: list[str] = []
        self.context = 0  # tokens, once loaded
        self._rule = THINKING if sampled else DrawRule()
        self._engine: Engine | None = None
        self._parts: Parts

    @property
    def parts(self) -> Parts:
        """What is known of the loaded model without its weights."""
        return self._parts

    @property
    def asks(self) -> bool:
        return self._parts.template.exists

    @property
    def engine(self) -> Engine:
        """The engine of the loaded model."""
        assert self._engine is not None, "load first"
        return self._engine

    def load(self) -> float:
        self.close()
        began = time.perf_counter()
        parts = self._parts = read_parts(self._folder)
        keeper = Keeper(parts, self._dtype, context=self._context, kv_bits=self._kv_bits)
        self.notices, self.context = keeper.notices, keeper.context
        self._engine = Engine(
            lambda: keeper.read(lambda nbytes: None),
            vocab=parts.tokenizer.size,
            **keeper.engine_options,
        )
        return time.perf_counter() - began

    def solo(self, prompt: int, generate: int, seed: int) -> Solo:
        before = mx.get_active_memory()
        waiter = self._submit(prompt_ids(prompt, self._parts.tokenizer.size, seed), generate)
        stats = waiter.wait()
        return Solo(
            prefill=prompt / (stats.first_token - stats.submitted),
            decode=(generate - 1) / stats.decode_seconds if generate > 1 else 0.0,
            peak_bytes=stats.peak_bytes - before + self.weight_bytes,
        )

    def batch(self, rows: int, prompt: int, generate: int, seed: int) -> float:
        vocab = self._parts.tokenizer.size
        began = time.perf_counter()
        waiters = [
            self._submit(prompt_ids(prompt, vocab, 1000 * seed + row), generate)
            for row in range(rows)
        ]
        for waiter in waiters:
            waiter.wait()
        return rows * generate / (time.perf_counter() - began)

    def ttft(self) -> float:
        began = time.perf_counter()
        tokenizer = self._parts.tokenizer
        messages = [{"role": "user", "content": QUESTION}]
        ids = self._parts.template.render_ids(messages, tokenizer)
        tokenizer.stream().push(self._submit(ids, 1).first())
        return time.perf_counter() - began

    def cold_command(self) -> list[str]:
        flags = {"--context": self._context, "--kv-bits": self._kv_bits}
        given = [str(each) for pair in flags.items() if pair[1] for each in pair]
        return [*cold_command(self._folder), *given]

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as they are held for computing."""
        model = self.engine.model
        return self.engine.call(lambda: sum(array.nbytes for array in model.arrays()))

    def _submit(self, ids: Sequence[int], generate: int) -> _Waiter:
        waiter = _Waiter()
        self.engine.submit(Request(ids, replace(self._rule), waiter, generate, seed=1))
        return waiter


class _Waiter:
    """A listener that keeps the tokens and waits for the end."""

    def __init__(self) -> None:
        self._tokens: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        self._end: queue.SimpleQueue[RequestStats | Exception] = queue.SimpleQueue()

    def prefill(self, done: int, total: int) -> None: ...

    def token(self, token: int) -> bool:
        self._tokens.put(token)
        return False

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        self._end.put(stats)

    def failed(self, error: Exception) -> None:
        self._tokens.put(error)
        self._end.put(error)

    def first(self) -> int:
        token = self._tokens.get()
        if isinstance(token, Exception):
            raise token
        return token

    def wait(self) -> RequestStats:
        end = self._end.get()
        if isinstance(end, Exception):
            raise end
        return end
