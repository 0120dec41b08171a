"""The library's front door: load a model, ask it, stream from it, look inside."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, cast

from qwen3_mlx import hub, wishes
from qwen3_mlx.asking import Asking
from qwen3_mlx.chat import ThoughtMemory
from qwen3_mlx.embedding import Embedding
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.request import Request
from qwen3_mlx.errors import PromptError
from qwen3_mlx.events import Loading
from qwen3_mlx.family import family_of
from qwen3_mlx.generation import TextGeneration
from qwen3_mlx.guiding import Guides
from qwen3_mlx.interface import Message, ModelInfo, Overflow, Sampling
from qwen3_mlx.loading import Parts, read_parts
from qwen3_mlx.looking import Looking
from qwen3_mlx.memory import Plan, parse_bytes
from qwen3_mlx.presets import preset, settled_rule
from qwen3_mlx.prompts import Prompts
from qwen3_mlx.saved import SavedPrefixes
from qwen3_mlx.streaming import Keeper, Progress
from qwen3_mlx.text.budget import EarlyStop
from qwen3_mlx.tools.functions import AnyTool, tools_of
from qwen3_mlx.warm.model import warm_model

if TYPE_CHECKING:
    from qwen3_mlx.grammar.grammar import Grammar

__all__ = ["Qwen3", "load"]


# Long only by the options that it names and explains, as `Qwen3.stream` below.
def load(
    name: str = "tiny",
    *,
    dtype: str | None = None,
    progress: Callable[[Loading], None] | None = None,
    memory_limit: int | str | None = None,
    context: int | None = None,
    slots: int | None = None,
    experts: Mapping[str, Any] | None = None,
    prefix_cache: int | str | None = None,
    agent: bool = True,
    kv_bits: int | None = None,
    speculate: bool = False,
) -> Qwen3:
    """Load a model, or use the one that a warm agent holds.

    Args:
        name: "tiny", a name from `qwen3-mlx models` ("4b"), a hub id ("Qwen/Qwen3-4B"), or
            a folder: a converted one, or a Hugging Face checkpoint as it was downloaded.
        dtype: the type to compute in, "float32", "bfloat16" or "float16"; by default the
            one in which the checkpoint is stored.
        progress: called with the bytes read so far, from another thread.
        memory_limit: bytes, or a size such as "10GB". The weights, the KV cache and the work
            stay below it; of a mixture of experts, those that do not fit stay on disk and are
            read when they are needed. The answers are the same. One text runs at a time.
            By default what this machine lets a program use, less what other programs that
            loaded a model have planned; a model that fits is wholly in memory.
        context: tokens that a conversation may have; by default the model's own context, and
            8,192 under a limit. Beyond the native length YaRN is turned on, and a notice says so.
        slots: keep this many experts of each layer, instead of what the limit allows.
        experts: how experts are read, as fields of `experts.options.PoolOptions`.
        prefix_cache: bytes, or a size, for what was read before: conversations that go on,
            and prompts that begin alike, are not read again. 0 is off. By default enough for
            one whole context, at most an eighth of the machine's memory or of the limit.
        kv_bits: keep the KV cache in 8 or 4 bits. It takes a half or a third of the memory, and
            the answers differ a little; 4 bits may cost quality, 8 hardly do.
        speculate: guess how a text that repeats something goes on, and read several tokens in a
            pass, while that saves time; in 16 bits near ties may differ. Dense models only.
        agent: whether a running `qwen3-mlx agent` that holds this model may answer instead
            (QWEN3_MLX_AGENT=0 forbids it everywhere). Its model takes no memory here; what only
            a model of one's own can do, such as `logits`, loads one when it is used.

    Raises:
        ModelNotFoundError: nothing answers to that name.
        CheckpointError: the folder is incomplete or damaged.
        UnsupportedModelError: the checkpoint is not a Qwen3 text model.
        HubError: the model must be downloaded and cannot be.
        MemoryPlanError: the limit is too small, and the error names the smallest that works;
            or the machine has no room for the model. Nothing was read.

    >>> with load("tiny", context=512) as model:
    ...     print(model.info.context)
    512
    """
    stated = {
        "dtype": dtype, "memory_limit": memory_limit, "context": context, "slots": slots,
        "experts": experts, "prefix_cache": prefix_cache, "kv_bits": kv_bits,
        "speculate": speculate or None,
    }  # fmt: skip
    if agent and (held := warm_model(name, stated, progress)) is not None:
        return cast("Qwen3", held)  # it has all that a Qwen3 has, and none of its parents
    parts = read_parts(hub.resolve(name))
    keeper = Keeper(
        parts, dtype, memory_limit=memory_limit, context=context, slots=slots, experts=experts,
        share=os.path.basename(name.rstrip("/")) or name, kv_bits=kv_bits,
        prefix_cache=prefix_cache, speculate=speculate,
    )  # fmt: skip
    try:
        return Qwen3(parts, name, keeper, progress=progress)
    except BaseException as error:  # it may live long, and would keep alive what was read
        keeper.close()
        clear_frames(error.__traceback__)
        del keeper
        raise


class Qwen3(Asking, Looking, Embedding):
    """A loaded model. Any thread may call it; close it, or use it in a `with` statement.

    >>> with load("tiny") as model:
    ...     reply = model.ask("What is 12 + 30?", thinking=False, sampling=Sampling(temperature=0))
    >>> "42" in reply.text, reply.finish_reason
    (True, 'stop')
    """

    def __init__(
        self,
        parts: Parts,
        name: str,
        keeper: Keeper,
        *,
        progress: Callable[[Loading], None] | None = None,
    ) -> None:
        super().__init__()
        self._keeper, began = keeper, time.perf_counter()
        self._parts, self._tokenizer, self._template = parts, parts.tokenizer, parts.template
        self._family = family_of(
            parts.template, parts.tokenizer, parts.checkpoint.config, parts.generation
        )
        self._prompts = Prompts(parts.template, parts.tokenizer, self._family, keeper.context)
        self._early_stop = EarlyStop(parts.tokenizer) if parts.template.can_think else None
        self._guides = Guides(parts.tokenizer, parts.eos_ids, parts.template.source)
        loaded = Progress(parts.weight_bytes, progress)
        self._engine = Engine(
            lambda: keeper.read(loaded), vocab=parts.tokenizer.size, **keeper.engine_options
        )
        self._closing = weakref.finalize(self, self._engine.close, keeper.close)
        self._load_seconds = time.perf_counter() - began
        self._name, self._thoughts = name, ThoughtMemory()
        self._news = list(keeper.notices)  # told with the first reply
        self._saved = SavedPrefixes(self._engine, parts, hub.data_dir() / "prefixes")

    @property
    def info(self) -> ModelInfo:
        """Name, quantisation, context and abilities.

        >>> with load("tiny") as model:
        ...     print(model.info.can_think, model.info.family)
        True hybrid
        """
        return ModelInfo(
            name=self._name,
            quantization=self._parts.quantization,
            context=self._keeper.context,
            weight_bytes=self._parts.weight_bytes,
            can_think=self._template.can_think,
            can_switch_thinking=self._template.can_switch_thinking,
            family=self._family,
            planned_bytes=(self._keeper.plan or self._keeper.full_plan()).total_bytes,
            can_call_tools=self._prompts.can_hold_tools,
        )

    @property
    def plan(self) -> Plan | None:
        """Where the memory goes, in bytes; None where there is no limit.

        >>> with load("tiny", memory_limit="100MB") as model:
        ...     print(model.plan.total_bytes <= 100_000_000)
        True
        """
        return self._keeper.plan

    @property
    def thoughts(self) -> ThoughtMemory:
        """Thoughts by the ids of the calls that they led to, for clients that forget them.

        >>> with load("tiny") as model:
        ...     model.thoughts.remember(["call_1"], "I need the weather.")
        """
        return self._thoughts

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
        overflow: Overflow = "error",
        logprobs: int | None = None,
        grammar: Grammar | None = None,
        tools: Sequence[AnyTool] = (),
        tool_choice: str = "auto",
    ) -> TextGeneration:
        """Start an answer and return it running: iterate it for events, or cancel it.

        Args:
            prompt: the user's words, or a whole conversation as messages. Thoughts of tool
                calls that come back without them are put back by the calls' ids.
            thinking: True or False for models that have both modes; None leaves it to the
                checkpoint (hybrid models think) and to /think and /no_think in the text.
            system: a system prompt, put before the conversation.
            sampling: how tokens are drawn; what is left open follows the checkpoint and
                Qwen's settings for the mode.
            max_tokens: the most tokens to say, thought included; at most what the context
                leaves. By default the length that Qwen recommends for the mode. A thought
                ends early enough to leave a quarter, or at most 512 tokens, for the answer.
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
            overflow: what happens to a conversation that is too long for the context: an
                error, or its oldest turns are left out (never the system prompt), which the
                reply's notices tell.
            logprobs: put the log-probability of each drawn token into the reply, beside so
                many of the likeliest tokens (0 to 20); None for nothing.
            grammar: a form that the answer keeps to, at any temperature; the thought is free.
                Where max_tokens comes near, the answer is brought to a short end that fits.
                With tools it may be one that begins with a call instead.
            tools: functions, `Tool`s or JSON descriptions that the model may call. The calls
                come with the reply; `Chat.run` carries them out.
            tool_choice: "required" has the answer begin with a call, and so does the name of a
                tool with a call of that one; "auto" leaves it to the model.

        Raises:
            PromptError: the prompt is empty, malformed or longer than the context.
            OptionError: an argument has an impossible value.

        >>> from qwen3_mlx import Done
        >>> with load("tiny") as model:
        ...     for event in model.stream("What is 12 + 30?", thinking=False, seed=1):
        ...         if isinstance(event, Done):
        ...             print(event.reply.finish_reason)
        stop
        """
        wishes.must_agree(
            raw=raw,
            chat=system or thinking is not None or thinking_budget is not None or min_thinking > 0,
            form=grammar is not None,
            stop=stop,
            tools=tools,
            forced=tool_choice != "auto",
        )
        known, until, odds = tools_of(tools), wishes.deadline(timeout), wishes.logprobs(logprobs)
        context = self._keeper.context
        limits = wishes.limits(
            self._early_stop,
            context,
            budget=thinking_budget,
            minimum=min_thinking,
            loop_guard=loop_guard,
            can_hold=self._template.can_think and self._tokenizer.think_close_id is not None,
            max_tokens=max_tokens,
        )
        made = (
            self._prompts.raw(prompt)
            if raw
            else self._prompts.chat(
                prompt if isinstance(prompt, str) else self._thoughts.restore(prompt),
                system=system,
                thinking=thinking,
                budget=thinking_budget,
                drop_for=wishes.room_to_make(overflow, context, max_tokens),
                tools=[tool.schema for tool in known],
            )
        )
        recommended = preset(
            self._family, thinking=made.thinks, quantized=self._parts.quantized_qwen
        )
        room = wishes.room(context, len(made.ids), max_tokens, recommended.most_tokens, made.turns)
        most = room if max_tokens is None else min(max_tokens, room)
        rule, warnings = settled_rule(
            sampling, self._parts.generation, recommended.rule, self._family, thinks=made.thinks
        )
        made.notices += warnings
        parser = None if raw else self._prompts.parser(made)
        steering = self._guides.steering(
            grammar, known, made, parser, most, lambda: self._engine.prepare(made.ids), tool_choice
        )
        news, self._news = self._news, []
        generation = TextGeneration(
            self._name,
            len(made.ids) - made.closed,
            self._tokenizer,
            parser,
            limits,
            stop=wishes.strings(stop),
            notices=[*news, *self._saved.restore(made.ids), *made.notices],
            load_seconds=self._load_seconds,
            experts=self._keeper.watch(),
            closed=made.closed,
            steering=steering,
            calls=self._guides.call_parser(known),
            remember=self._thoughts.remember,
        )
        request = Request(
            made.ids,
            rule,
            generation,
            max_tokens=most,
            eos=self._parts.eos_ids,
            seed=seed,
            deadline=until,
            room=room,
            logprobs=odds,
        )
        generation.attach(request, self)
        self._watch(generation)
        self._engine.submit(request)
        return generation

    def prepare(
        self,
        messages: Sequence[Message],
        system: str | None = None,
        tools: Sequence[AnyTool] = (),
    ) -> None:
        """Read a conversation while idle, so that its next turn begins at once. Returns now.

        >>> said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello!"}]
        >>> with load("tiny") as model:
        ...     model.prepare(said)
        """
        told = self._thoughts.restore(messages)
        ids = self._prompts.history(told, system, [tool.schema for tool in tools_of(tools)])
        if len(ids) < self._keeper.context:  # a longer one loses turns first, or is refused
            self._engine.prepare(ids)

    def save_prefix(
        self,
        messages: Sequence[Message] = (),
        *,
        system: str | None = None,
        keep: int | str = "8GB",
    ) -> int:
        """Read a system prompt, or messages that hold a document, once, and keep it on disk.

        Every later conversation of this model that begins so, in any process, starts from there.

        Args:
            messages: how the conversations begin, the question left out.
            system: their system prompt.
            keep: bytes, or a size, of all saved prefixes; those not used for longest go first.

        Returns:
            The tokens that were saved.

        Raises:
            PromptError: there is nothing to save, or more than the context holds.
            OptionError: the prefix is larger than `keep`, or than what memory may hold of it.

        >>> with load("tiny") as model:
        ...     print(model.save_prefix(system="You are brief.") > 5)
        True
        """
        if not messages and not system:
            raise PromptError("there is nothing to save: give a system prompt or messages")
        ids = self._prompts.history(messages, system)
        wishes.room(self._keeper.context, len(ids), None, 1, turns=0)
        self._saved.save(ids, parse_bytes(keep) if isinstance(keep, str) else keep)
        return len(ids)

    def close(self) -> None:
        """End running answers and the engine thread, and free the memory. May be called twice.

        >>> model = load("tiny")
        >>> model.close()
        """
        self._closing()

    def __enter__(self) -> Qwen3:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
