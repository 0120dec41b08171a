"""The library's front door: load a model, ask it, stream from it, look inside.

>>> import qwen3_mlx
>>> with qwen3_mlx.load("tiny") as model:
...     reply = model.ask("What is 12 + 30?", thinking=False, sampling=Sampling(temperature=0))
>>> "42" in reply.text
True
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from qwen3_mlx import hub
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache
from qwen3_mlx.engine.request import DrawRule, Request
from qwen3_mlx.errors import OptionError, PromptError
from qwen3_mlx.events import Loading, Reply
from qwen3_mlx.generation import Limits, TextGeneration
from qwen3_mlx.interface import Message, ModelInfo, Sampling
from qwen3_mlx.loading import Parts, read_parts
from qwen3_mlx.memory import Plan
from qwen3_mlx.presets import draw_rule
from qwen3_mlx.prompts import Prompt, Prompts
from qwen3_mlx.streaming import Keeper
from qwen3_mlx.text.budget import EarlyStop
from qwen3_mlx.text.thinking import ThinkingParser

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Qwen3", "load"]


def load(
    name: str = "tiny",
    *,
    dtype: str | None = None,
    progress: Callable[[Loading], None] | None = None,
    memory_limit: int | str | None = None,
    context: int | None = None,
    slots: int | None = None,
    experts: Mapping[str, Any] | None = None,
) -> Qwen3:
    """Load a model.

    Args:
        name: "tiny", a name from `qwen3-mlx models` ("4b"), a hub id ("Qwen/Qwen3-4B"), or
            a folder: a converted one, or a Hugging Face checkpoint as it was downloaded.
        dtype: the type to compute in, "float32", "bfloat16" or "float16"; by default the
            one in which the checkpoint is stored.
        progress: called with the bytes read so far, from another thread.
        memory_limit: bytes, or a size such as "10GB". The weights, the KV cache and the work
            stay below it; of a mixture of experts, those that do not fit stay on disk and are
            read when they are needed. The answers are the same. One text runs at a time.
        context: tokens that a conversation may have; by default the model's own context, and
            8,192 under a limit.
        slots: keep this many experts of each layer, instead of what the limit allows.
        experts: how experts are read, as fields of `experts.options.PoolOptions`.

    Raises:
        ModelNotFoundError: nothing answers to that name.
        CheckpointError: the folder is incomplete or damaged.
        UnsupportedModelError: the checkpoint is not a Qwen3 text model.
        HubError: the model must be downloaded and cannot be.
        MemoryPlanError: the limit is too small; nothing was read, and the error names the
            smallest limit that works.
    """
    parts = read_parts(hub.resolve(name))
    keeper = Keeper(
        parts, dtype, memory_limit=memory_limit, context=context, slots=slots, experts=experts
    )
    return Qwen3(parts, name, keeper, progress=progress)


class Qwen3:
    """A loaded model. Any thread may call it; close it, or use it in a `with` statement."""

    def __init__(
        self,
        parts: Parts,
        name: str,
        keeper: Keeper,
        *,
        progress: Callable[[Loading], None] | None = None,
    ) -> None:
        began = time.perf_counter()
        self._keeper = keeper
        self._parts, self._tokenizer, self._template = parts, parts.tokenizer, parts.template
        self._prompts = Prompts(parts.template, parts.tokenizer)
        self._early_stop = EarlyStop(parts.tokenizer) if parts.template.can_think else None
        loaded = _Progress(parts.checkpoint.weight_bytes, progress)
        self._engine = Engine(
            lambda: keeper.read(loaded), vocab=parts.tokenizer.size, **keeper.engine_options
        )
        self._closing = weakref.finalize(self, _close, self._engine, keeper)
        self._load_seconds = time.perf_counter() - began
        self._name = name

    @property
    def info(self) -> ModelInfo:
        """Name, quantisation, context and abilities."""
        return ModelInfo(
            name=self._name,
            quantization=self._parts.quantization,
            context=self._keeper.context,
            weight_bytes=self._parts.checkpoint.weight_bytes,
            can_think=self._template.can_think,
            can_switch_thinking=self._template.can_switch_thinking,
        )

    @property
    def plan(self) -> Plan | None:
        """Where the memory goes; None where there is no limit."""
        return self._keeper.plan

    def ask(
        self,
        prompt: str | Sequence[Message],
        *,
        thinking: bool | None = None,
        system: str | None = None,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        timeout: float | None = None,
        raw: bool = False,
        thinking_budget: int | None = None,
        min_thinking: int = 0,
        loop_guard: bool = True,
    ) -> Reply:
        """Ask and wait for the whole reply; the arguments are those of `stream`.

        >>> model = load("tiny")
        >>> model.ask("hello", max_tokens=2, seed=1).finish_reason
        'length'
        >>> model.close()
        """
        return self.stream(
            prompt, thinking=thinking, system=system, sampling=sampling, max_tokens=max_tokens,
            stop=stop, seed=seed, timeout=timeout, raw=raw, thinking_budget=thinking_budget,
            min_thinking=min_thinking, loop_guard=loop_guard,
        ).result()  # fmt: skip

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        thinking: bool | None = None,
        system: str | None = None,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        timeout: float | None = None,
        raw: bool = False,
        thinking_budget: int | None = None,
        min_thinking: int = 0,
        loop_guard: bool = True,
    ) -> TextGeneration:
        """Start an answer and return it running: iterate it for events, or cancel it.

        Args:
            prompt: the user's words, or a whole conversation as messages.
            thinking: True or False for models that have both modes; None leaves it to the
                checkpoint (hybrid models think) and to /think and /no_think in the text.
            system: a system prompt, put before the conversation.
            sampling: how tokens are drawn; what is left open follows the checkpoint and
                Qwen's settings for the mode.
            max_tokens: the most tokens to say, thought included; at most what the context
                leaves, which is also the default.
            stop: strings that end the answer and are not part of it.
            seed: makes the answer repeatable.
            timeout: seconds after which the answer ends with what it has.
            raw: the prompt is continued as it stands, without the chat template.
            thinking_budget: the most tokens of the thought. Where they are used up, the
                thought is ended with Qwen's own sentence, and the answer follows. 0 is no
                thought at all, None is no limit.
            min_thinking: the least tokens of the thought, if there is one.
            loop_guard: end a thought that goes round in circles as the budget does, and such
                an answer with the reason "repetition".

        Raises:
            PromptError: the prompt is empty, malformed or longer than the context.
            OptionError: an argument has an impossible value.
        """
        if raw and (system or thinking is not None or thinking_budget is not None):
            raise OptionError("a raw prompt is one text, without system prompt or thinking=")
        limits = self._limits(thinking_budget, min_thinking, loop_guard)
        made = (
            self._prompts.raw(prompt)
            if raw
            else self._prompts.chat(
                prompt, system=system, thinking=thinking, budget=thinking_budget
            )
        )
        room = self._room(len(made.ids), max_tokens)
        rule = self._rule(sampling, made)
        generation = TextGeneration(
            self._name,
            len(made.ids) - made.closed,
            self._tokenizer,
            None if raw else self._parser(made),
            limits,
            stop=_strings(stop),
            notices=made.notices,
            load_seconds=self._load_seconds,
            experts=self._keeper.watch(),
            closed=made.closed,
        )
        request = Request(
            made.ids,
            rule,
            generation,
            max_tokens=room if max_tokens is None else min(max_tokens, room),
            eos=self._parts.eos_ids,
            seed=seed,
            deadline=_deadline(timeout),
            room=room,
        )
        generation.attach(request)
        self._engine.submit(request)
        return generation

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> str:
        """The exact prompt text that the model would read for these messages."""
        return self._template.render(messages, tools=tools, thinking=thinking)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; control tokens that it spells become control tokens."""
        return self._tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._tokenizer.decode(ids)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """What the model predicts after each token: float32 (L, V), nothing masked.

        >>> with load("tiny") as model:
        ...     rows = model.logits(model.encode("1 + 1 ="))
        >>> rows.dtype.name, rows.ndim
        ('float32', 2)
        """
        ids = list(token_ids)
        size = self._parts.config.vocab_size
        wrong = [each for each in ids if not 0 <= each < size]
        if not ids or wrong:
            raise PromptError(
                f"token ids must be from 0 to {size - 1}, got {wrong[0]}"
                if wrong
                else "there are no token ids to look at"
            )
        return self._engine.call(lambda: self._logits(ids))

    def close(self) -> None:
        """End running answers and the engine thread, and free the memory."""
        self._closing()

    def __enter__(self) -> Qwen3:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _logits(self, ids: list[int]) -> np.ndarray:
        import numpy as np

        model = self._engine.model
        hidden = model.hidden(mx.array([ids]), KVCache(model.config))
        return np.array(model.logits(hidden)[0].astype(mx.float32))

    def _rule(self, sampling: Sampling | None, made: Prompt) -> DrawRule:
        hybrid = self._template.can_switch_thinking
        rule = draw_rule(sampling, self._parts.generation, thinking=made.thinks, hybrid=hybrid)
        if made.thinks and rule.temperature == 0:
            made.notices.append(
                "greedy decoding in thinking mode: Qwen warns of endless repetition"
            )
        return rule

    def _limits(self, budget: int | None, minimum: int, loop_guard: bool) -> Limits:
        if budget is not None and budget < 0:
            raise OptionError(f"thinking_budget is {budget}, and must be 0 (no thought) or more")
        if minimum < 0 or (budget is not None and minimum > budget):
            raise OptionError(
                f"min_thinking is {minimum}, and must be from 0 to the budget"
                + ("" if budget is None else f" of {budget}")
            )
        if minimum and (not self._template.can_think or self._tokenizer.think_close_id is None):
            raise OptionError("min_thinking needs a model that thinks, and this one does not")
        context = self._keeper.context
        return Limits(self._early_stop, budget, minimum, min(512, context // 8), loop_guard)

    def _parser(self, made: Prompt) -> ThinkingParser | None:
        if not self._template.can_think:
            return None
        ids = self._tokenizer.think_open_id, self._tokenizer.think_close_id
        parser = ThinkingParser(*ids, made.opened)
        if made.closed:
            parser.close()
        return parser

    def _room(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """How many tokens may follow the prompt."""
        if max_tokens is not None and max_tokens < 1:
            raise OptionError(f"max_tokens is {max_tokens}, and must be at least 1")
        context = self._parts.config.max_positions
        left = context - prompt_tokens
        if left < 1:
            raise PromptError(
                f"the prompt has {prompt_tokens:,} tokens and the context {context:,}: "
                "shorten it, or split it into parts"
            )
        return left


class _Progress:
    """Adds up what has been read and passes it on."""

    def __init__(self, total: int, tell: Callable[[Loading], None] | None) -> None:
        self._state, self._tell = Loading(0, total), tell

    def __call__(self, nbytes: int) -> None:
        done = min(self._state.done + nbytes, self._state.total)
        self._state = replace(self._state, done=done)
        if self._tell is not None:
            self._tell(self._state)


def _close(engine: Engine, keeper: Keeper) -> None:
    engine.close()
    keeper.close()


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if timeout <= 0:
        raise OptionError(f"timeout is {timeout:g} seconds, and must be above 0")
    return time.monotonic() + timeout


def _strings(stop: Sequence[str]) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop)
