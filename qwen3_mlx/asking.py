"""Ways to ask that are all made of one: `stream`. Waiting, values, many at once, coroutines.

Whatever can stream has them, the real model and the scripted one of `qwen3_mlx.testing`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from qwen3_mlx.batching import ask_many
from qwen3_mlx.errors import IncompleteError, OptionError, Qwen3Error
from qwen3_mlx.events import Event, Reply
from qwen3_mlx.interface import Generation, Message, Wishes

if TYPE_CHECKING:
    from qwen3_mlx.chat import Chat
    from qwen3_mlx.grammar.grammar import Grammar

__all__ = ["Asking"]

_Form = TypeVar("_Form")
Prompt = str | Sequence[Message]
Progress = Callable[[int, int], None]


class Asking:
    """Everything that can be asked for, in terms of `stream`."""

    # ChatModel's `stream` names what every model knows; this one passes on more.
    stream: Callable[..., Generation]

    def __init__(self) -> None:
        self._running: weakref.WeakSet[Generation] = weakref.WeakSet()
        self._lock = threading.Lock()

    def ask(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Reply:
        """Ask and wait for the whole reply; the arguments are those of `stream`.

        >>> from qwen3_mlx.testing import FakeModel
        >>> FakeModel(["Paris."]).ask("The capital of France?").text
        'Paris.'
        """
        return self._begin(prompt, wishes).result()

    @overload
    def json(self, prompt: Prompt, form: type[_Form], **wishes: Unpack[Wishes]) -> _Form: ...
    @overload
    def json(self, prompt: Prompt, form: Any, **wishes: Unpack[Wishes]) -> Any: ...

    def json(self, prompt: Prompt, form: Any, **wishes: Unpack[Wishes]) -> Any:
        """Ask for a value: of a type (dataclass, TypedDict, pydantic model, `list[int]`), or of
        a JSON Schema. The answer always parses; only the thought before it is free.

        >>> from qwen3_mlx.testing import FakeModel
        >>> FakeModel(["[3, 4]"]).json("two numbers", list[int])
        [3, 4]

        Raises:
            GrammarError: the type or schema cannot be used; nothing was generated.
            IncompleteError: the answer was cancelled or ran out of time or tokens.
        """
        grammar = _json_grammar(form)
        return _value(grammar, self._begin(prompt, _with(wishes, grammar)).result())

    def choose(self, prompt: Prompt, options: Sequence[str], **wishes: Unpack[Wishes]) -> str:
        """Ask for one of several texts; the answer is exactly one of them.

        >>> from qwen3_mlx.testing import FakeModel
        >>> FakeModel(["no"]).choose("Is 9 prime?", ["yes", "no"])
        'no'
        """
        grammar = _choice_grammar(options)
        return str(_value(grammar, self._begin(prompt, _with(wishes, grammar)).result()))

    def chat(self, system: str | None = None, **wishes: Any) -> Chat:
        """A conversation; `wishes` are arguments of `stream` for each of its turns.

        >>> from qwen3_mlx.testing import FakeModel
        >>> chat = FakeModel(["Hi.", "Bye."]).chat()
        >>> chat.ask("hello").text, chat.ask("goodbye").text
        ('Hi.', 'Bye.')
        """
        from qwen3_mlx.chat import Chat

        return Chat(self, system, **wishes)  # type: ignore[arg-type]

    @overload
    def ask_many(
        self,
        prompts: Sequence[Prompt],
        *,
        progress: Progress | None = None,
        errors: Literal["raise"] = "raise",
        **wishes: Unpack[Wishes],
    ) -> list[Reply]: ...
    @overload
    def ask_many(
        self,
        prompts: Sequence[Prompt],
        *,
        progress: Progress | None = None,
        errors: Literal["keep"],
        **wishes: Unpack[Wishes],
    ) -> list[Reply | Qwen3Error]: ...

    def ask_many(
        self,
        prompts: Sequence[Prompt],
        *,
        progress: Progress | None = None,
        errors: Literal["raise", "keep"] = "raise",
        **wishes: Unpack[Wishes],
    ) -> list[Reply] | list[Reply | Qwen3Error]:
        """Ask many questions, which run in one batch; the replies in their order.

        Each reply is the one that `ask` would have given with the same wishes and seed.

        Args:
            progress: called with how many are done and how many there are.
            errors: "raise" cancels the rest at the first error and raises it, "keep" puts
                errors into the list, in the place of replies.

        >>> from qwen3_mlx.testing import FakeModel
        >>> model = FakeModel(lambda call: call.prompt.upper())
        >>> [reply.text for reply in model.ask_many(["a", "b"])]
        ['A', 'B']
        """
        done: list[Reply] = ask_many(self._begin, prompts, wishes, progress, _keeps(errors))
        return done

    async def aask(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Reply:
        """`ask` for coroutines; cancelling the task cancels the answer.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> asyncio.run(FakeModel(["Four."]).aask("2 + 2?")).text
        'Four.'
        """
        return await self._begin(prompt, wishes).aresult()

    def astream(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> AsyncIterator[Event]:
        """`stream` for coroutines: `async for event in model.astream(…)`.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> async def last():
        ...     return [event async for event in FakeModel(["Hi"]).astream("?")][-1]
        >>> asyncio.run(last()).reply.text
        'Hi'
        """
        return aiter(self._begin(prompt, wishes))

    async def ajson(self, prompt: Prompt, form: Any, **wishes: Unpack[Wishes]) -> Any:
        """`json` for coroutines.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> asyncio.run(FakeModel(["7"]).ajson("a number", int))
        7
        """
        grammar = _json_grammar(form)
        return _value(grammar, await self._begin(prompt, _with(wishes, grammar)).aresult())

    async def achoose(
        self, prompt: Prompt, options: Sequence[str], **wishes: Unpack[Wishes]
    ) -> str:
        """`choose` for coroutines.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> asyncio.run(FakeModel(["yes"]).achoose("Is 7 prime?", ["yes", "no"]))
        'yes'
        """
        grammar = _choice_grammar(options)
        return str(_value(grammar, await self._begin(prompt, _with(wishes, grammar)).aresult()))

    async def aask_many(
        self,
        prompts: Sequence[Prompt],
        *,
        progress: Progress | None = None,
        errors: Literal["raise", "keep"] = "raise",
        **wishes: Unpack[Wishes],
    ) -> list[Reply] | list[Reply | Qwen3Error]:
        """`ask_many` for coroutines; `progress` is called on another thread.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> [reply.text for reply in asyncio.run(FakeModel(["one", "two"]).aask_many(["a", "b"]))]
        ['one', 'two']
        """
        import asyncio

        cancelled, keep = threading.Event(), _keeps(errors)
        try:
            return await asyncio.to_thread(
                ask_many, self._begin, prompts, wishes, progress, keep, cancelled
            )
        finally:
            cancelled.set()

    def cancel(self) -> None:
        """End every answer that runs, within one token; what they said comes with their replies.

        >>> from qwen3_mlx.testing import FakeModel
        >>> model = FakeModel(["never said"])
        >>> answer = model.stream("?")
        >>> model.cancel()
        >>> answer.result().finish_reason
        'cancelled'
        """
        with self._lock:
            running = list(self._running)
        for generation in running:
            generation.cancel()

    def _begin(self, prompt: Prompt, wishes: Mapping[str, Any]) -> Generation:
        return self.stream(prompt, **wishes)

    def _watch(self, generation: Generation) -> None:
        """`cancel` reaches this answer too."""
        with self._lock:
            self._running.add(generation)


def _keeps(errors: str) -> bool:
    if errors not in ("raise", "keep"):
        raise OptionError(f"errors is {errors!r}, and must be raise or keep")
    return errors == "keep"


def _json_grammar(form: Any) -> Grammar:
    from qwen3_mlx.grammar.grammar import Grammar

    return Grammar.json(form)


def _choice_grammar(options: Sequence[str]) -> Grammar:
    from qwen3_mlx.grammar.grammar import Grammar

    return Grammar.choice(options)


def _with(wishes: Mapping[str, Any], grammar: Grammar) -> dict[str, Any]:
    if wishes.get("grammar") is not None:
        raise OptionError("the form of this answer is settled: leave out grammar=")
    if wishes.get("tools"):
        raise OptionError("this answer is a value and no call: leave out tools=, or ask")
    return {**wishes, "grammar": grammar}


def _value(grammar: Grammar, reply: Reply) -> Any:
    """What a whole answer stands for."""
    if not reply.fits:
        said = reply.usage.answer_tokens
        raise IncompleteError(
            f"the answer ended with {reply.finish_reason!r} after {said} tokens, before it was "
            "whole: give it more time or max_tokens; the error's reply has what was said",
            reply,
        )
    return grammar.parse(reply.text)
