"""mlx-lm as the other side of a measurement, called as its own commands call it.

It is imported when it is asked for and never otherwise: it brings Transformers along, which
takes more than a second.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from qwen3_mlx.errors import OptionError
from qwen3_mlx.experts.records import MANIFEST
from qwen3_mlx_app.bench.sides import QUESTION, Solo, prompt_ids

__all__ = ["MlxLm", "cold_command"]


def cold_command(folder: Path) -> list[str]:
    """A fresh process of mlx-lm that answers with one token."""
    return [sys.executable, "-m", "mlx_lm", "generate", "--model", str(folder),
            "--max-tokens", "1", "--prompt", QUESTION]  # fmt: skip


class MlxLm:
    """mlx-lm, through `generate_step` and `batch_generate`."""

    name = "mlx-lm"

    def __init__(
        self, folder: Path, dtype: str | None, vocab: int, *, sampled: bool = False
    ) -> None:
        # Imported here, so that loading is not charged with it. The package has a function of
        # the same name, which hides the module from plain imports.
        self._generate = importlib.import_module("mlx_lm.generate")
        self._folder, self._dtype, self._vocab = folder, dtype, vocab
        self._sampled = sampled
        self.model: Any = None
        self._tokenizer: Any = None

    @property
    def asks(self) -> bool:
        return bool(self._tokenizer.has_chat_template)

    def load(self) -> float:
        self.close()
        from mlx_lm import load

        began = time.perf_counter()
        try:
            self.model, self._tokenizer = load(str(self._folder))[:2]
        except Exception as error:  # whatever it stumbles over, it is no fault of ours
            raise OptionError(_cannot(self._folder, error)) from error
        if self._dtype is not None:
            self.model.set_dtype(getattr(mx, self._dtype))
            mx.eval(self.model.parameters())
        return time.perf_counter() - began

    def solo(self, prompt: int, generate: int, seed: int) -> Solo:
        ids = mx.array(prompt_ids(prompt, self._vocab, seed))
        mx.eval(ids)
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        stamps = [time.perf_counter()]
        for _ in self._generate.generate_step(
            ids, self.model, max_tokens=generate, sampler=self._sampler()
        ):
            stamps.append(time.perf_counter())
        began, first, last = stamps[0], stamps[1], stamps[-1]
        return Solo(
            prefill=prompt / (first - began),
            decode=(generate - 1) / (last - first) if generate > 1 else 0.0,
            peak_bytes=mx.get_peak_memory() - before + self.weight_bytes,
        )

    def batch(self, rows: int, prompt: int, generate: int, seed: int) -> float:
        prompts = [prompt_ids(prompt, self._vocab, 1000 * seed + row) for row in range(rows)]
        tokenizer = _Endless()
        began = time.perf_counter()
        self._generate.batch_generate(
            self.model, tokenizer, prompts, max_tokens=generate, sampler=self._sampler()
        )
        return rows * generate / (time.perf_counter() - began)

    def ttft(self) -> float:
        began = time.perf_counter()
        ids = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": QUESTION}], add_generation_prompt=True
        )
        next(self._generate.stream_generate(self.model, self._tokenizer, ids, max_tokens=1))
        return time.perf_counter() - began

    def cold_command(self) -> list[str]:
        return cold_command(self._folder)

    def close(self) -> None:
        if self.model is not None:
            self.model = self._tokenizer = None
            gc.collect()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as they are held for computing."""
        from mlx.utils import tree_flatten

        parameters = self.model.parameters()
        return sum(int(pair[1].nbytes) for pair in cast("Any", tree_flatten)(parameters))

    def _sampler(self) -> Any:
        from mlx_lm.sample_utils import make_sampler

        return make_sampler(temp=0.6, top_p=0.95, top_k=20) if self._sampled else None


def _cannot(folder: Path, error: Exception) -> str:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if (folder / MANIFEST).exists():
        return f"mlx-lm cannot load {folder}: its experts are records, `qwen3-mlx unpack` it first"
    return f"mlx-lm cannot load {folder} ({why}): leave out --against, or convert it first"


class _Endless:
    """A tokenizer that ends no text and makes none, so that only generation is measured."""

    eos_token_ids: tuple[int, ...] = ()

    def decode(self, ids: list[int]) -> str:
        return ""
