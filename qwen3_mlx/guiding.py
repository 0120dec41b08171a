"""From a wish for a form to what steers one answer; keeps the vocabulary that this takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from qwen3_mlx.errors import GrammarError, OptionError
from qwen3_mlx.grammar.calls import AnswerOrCalls, CallGuide, call_grammar
from qwen3_mlx.grammar.grammar import Grammar
from qwen3_mlx.grammar.guide import AnswerGuide
from qwen3_mlx.grammar.schemas import arguments, kinds, self_contained
from qwen3_mlx.grammar.vocabulary import Vocabulary
from qwen3_mlx.prompts import Prompt
from qwen3_mlx.steering import Steering
from qwen3_mlx.text.calls import CLOSE, OPEN, CallParser, Style
from qwen3_mlx.text.thinking import ThinkingParser
from qwen3_mlx.text.tokenizer import Tokenizer
from qwen3_mlx.tools.functions import Tool

__all__ = ["Guides"]

_SPARE, _ANSWER_ROOM = 8, 512


class Guides:
    """Makes the steering of a model's answers.

    Args:
        tokenizer: the model's.
        eos: ids that end a text.
        template: the chat template; it tells how the model writes calls.
    """

    def __init__(self, tokenizer: Tokenizer, eos: Collection[int], template: str | None) -> None:
        self._style: Style = "coder" if "<function=" in (template or "") else "hermes"
        self._tokenizer, self._eos = tokenizer, [id for id in eos if id < tokenizer.size]
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None

    def steering(
        self,
        grammar: Grammar | None,
        tools: Sequence[Tool],
        made: Prompt,
        parser: ThinkingParser | None,
        most: int,
        meanwhile: Callable[[], None],
        tool_choice: str = "auto",
    ) -> Steering:
        """What may be drawn after a prompt; where calls run free, a notice in it says so.

        Args:
            grammar: what all of the answer keeps to; where tools may be called, unless it begins
                with a call.
            tools: what may be called.
            parser: tells thought from answer; None where there are no thoughts.
            most: tokens that may be drawn, thought included.
            meanwhile: called once while the vocabulary is being built.
            tool_choice: "auto", "required", or the name of the tool that must be called.

        Raises:
            GrammarError: the grammar cannot be used.
            OptionError: there is no room for any answer that fits, or a call cannot be forced.
        """
        forced = tool_choice != "auto"
        answer = None
        if grammar is not None and not forced:
            answer = self._for_answer(grammar, made.thinks, parser, most, meanwhile)
        if not tools:
            return answer or Steering.free(self._tokenizer)
        wanted = tools if tool_choice in ("auto", "required") else _named(tool_choice, tools)
        steering, notices = self._for_calls(wanted, parser, meanwhile, must_call=forced)
        if forced and steering.guide is None:
            raise OptionError(f"no call can be forced: {notices[0]}")
        if forced:
            self._place(steering, made.thinks, parser, 0, most)
        made.notices += notices
        return steering if answer is None else self._either(answer, steering)

    def _either(self, answer: Steering, calls: Steering) -> Steering:
        """For an answer of a form that may be a call instead, where calls can be told."""
        open_id = self._tokenizer.id_of(OPEN)
        if isinstance(calls.guide, CallGuide) and open_id is not None:
            assert isinstance(answer.guide, AnswerGuide)
            answer.guide = AnswerOrCalls(answer.guide, calls.guide, open_id)
        return answer

    def call_parser(self, tools: Sequence[Tool]) -> CallParser | None:
        """Finds the calls of these tools in an answer; None where there are none."""
        if not tools:
            return None
        untyped = tools if self._style == "coder" else ()  # Hermes writes JSON
        return CallParser(self._style, {tool.name: _types(tool) for tool in untyped})

    def _for_answer(
        self,
        grammar: Grammar,
        thinks: bool,
        parser: ThinkingParser | None,
        most: int,
        meanwhile: Callable[[], None],
    ) -> Steering:
        """For an answer that keeps to a grammar; `thinks` is whether a thought comes first."""
        vocabulary = self._started(meanwhile)
        guide = AnswerGuide(vocabulary.matchers(grammar), grammar, self._tokenizer)
        if not guide.make_room(most):
            raise OptionError(
                f"the shortest answer that fits the grammar has {guide.needs} tokens and "
                f"{most} may be said: raise max_tokens"
            )
        steering = Steering.free(self._tokenizer)
        steering.guide, steering.parser = guide, parser
        self._place(steering, thinks, parser, guide.needs, most)
        return steering

    def _place(
        self, steering: Steering, thinks: bool, parser: ThinkingParser | None, needs: int, most: int
    ) -> None:
        """Let an answer that must come begin where its thought has ended, if it has one."""
        if parser is not None and not thinks:
            parser.close()
        elif parser is not None:
            steering.opening = self._opening(parser)
            steering.reserve = max(needs + _SPARE, min(_ANSWER_ROOM, most // 2))

    def _for_calls(
        self,
        tools: Sequence[Tool],
        parser: ThinkingParser | None,
        meanwhile: Callable[[], None],
        *,
        must_call: bool,
    ) -> tuple[Steering, list[str]]:
        """For an answer that may call tools; and what must be said where calls run free."""
        steering = Steering.free(self._tokenizer)
        steering.parser = parser
        tags = [self._tokenizer.id_of(tag) for tag in (OPEN, CLOSE)]
        if tags[0] is None or tags[1] is None:
            return steering, ["this tokenizer has no tokens for tool calls: they are not checked"]
        grammar, notices = call_grammar(
            self._style, [{"name": tool.name, "parameters": tool.parameters} for tool in tools]
        )
        try:
            matcher = self._started(meanwhile).matchers(grammar).tokens
        except GrammarError as error:
            return steering, [f"tool calls are not held to their schemas: {error}"]
        steering.guide = CallGuide(
            matcher, tags[0], tags[1], self._tokenizer.size, must_call=must_call
        )
        return steering, notices

    def _opening(self, parser: ThinkingParser) -> int | None:
        if self._tokenizer.think_open_id is None or self._tokenizer.think_close_id is None:
            raise OptionError(
                "this tokenizer has no tokens for <think> and </think>, so it cannot be told where "
                "the answer begins: pass thinking=False with a grammar"
            )
        return None if parser.inside else self._tokenizer.think_open_id

    def _started(self, meanwhile: Callable[[], None]) -> Vocabulary:
        with self._lock:
            if self._vocabulary is not None:
                return self._vocabulary
            self._vocabulary = Vocabulary(self._tokenizer, self._eos)
            self._vocabulary.start()
        meanwhile()
        return self._vocabulary


def _types(tool: Tool) -> dict[str, dict[str, Any]]:
    """The JSON types of a tool's arguments, for which texts are read as one of them."""
    try:
        schema = self_contained(tool.parameters)
    except GrammarError:
        schema = {key: each for key, each in tool.parameters.items() if key != "$defs"}
    known, _ = arguments(schema) or ({}, [])
    types = {name: sorted(kinds(each, schema.get("$defs", {}))) for name, each in known.items()}
    return {
        name: {"type": each[0] if len(each) == 1 else each} if each else {}
        for name, each in types.items()
    }


def _named(name: str, tools: Sequence[Tool]) -> list[Tool]:
    found = [tool for tool in tools if tool.name == name]
    if not found:
        known = ", ".join(tool.name for tool in tools)
        raise OptionError(
            f"tool_choice is {name!r}, and must be auto, required or one of the tools: {known}"
        )
    return found
