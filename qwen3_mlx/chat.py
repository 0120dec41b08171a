"""A conversation: its turns, and between two turns the reading that makes the next one quick.

>>> from qwen3_mlx.testing import Answer, FakeModel
>>> chat = Chat(FakeModel([Answer("Four.", thinking="2 and 2"), "Five."]))
>>> chat.ask("2 + 2?").text, chat.ask("and one more?").text
('Four.', 'Five.')
>>> [message["role"] for message in chat.messages]
['user', 'assistant', 'user', 'assistant']
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen3_mlx.errors import OptionError
from qwen3_mlx.events import Done, Event, Failed, Reply
from qwen3_mlx.interface import ChatModel, Generation, Message
from qwen3_mlx.text.messages import REASONING, flatten_content
from qwen3_mlx.tools.functions import AnyTool
from qwen3_mlx.tools.loop import RunResult, ToolRun, Tools, call_messages
from qwen3_mlx.tools.running import Approve

__all__ = ["Chat", "ThoughtMemory"]


class Chat:
    """Turns with one model. The messages are a plain list: read it, save it, cut it.

    Args:
        model: a loaded model.
        system: a system prompt.
        wishes: arguments of `Qwen3.stream` for every turn (`thinking_budget=512`).

    >>> from qwen3_mlx.testing import FakeModel
    >>> chat = Chat(FakeModel(["Hello."]), system="Be brief.", max_tokens=50)
    >>> chat.ask("hi").text, len(chat.messages)
    ('Hello.', 2)
    """

    def __init__(self, model: ChatModel, system: str | None = None, **wishes: Any) -> None:
        self._model, self.system, self._wishes = model, system, wishes
        self.messages: list[Message] = []

    def ask(self, text: str, **wishes: Any) -> Reply:
        """One more question, and the reply to it; `wishes` are for this turn.

        >>> from qwen3_mlx.testing import FakeModel
        >>> Chat(FakeModel(["Hello."])).ask("hi", max_tokens=50).text
        'Hello.'
        """
        for event in self.stream(text, **wishes):
            if isinstance(event, Done):
                return event.reply
        raise AssertionError("a stream ends with Done or raises")

    def stream(self, text: str, **wishes: Any) -> Iterator[Event]:
        """The events of one more turn. It counts as said when its `Done` has come.

        Raises:
            EngineError: or whatever else ended the turn; the conversation stays as it was.

        >>> from qwen3_mlx.testing import FakeModel
        >>> [type(event).__name__ for event in Chat(FakeModel(["Hello."])).stream("hi")]
        ['Prefill', 'TextDelta', 'Done']
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        generation = self._model.stream(asked, system=self.system, **{**self._wishes, **wishes})
        for event in generation:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                tools = {**self._wishes, **wishes}.get("tools") or ()
                self._take([*asked, *call_messages(event.reply)], tools)
            yield event

    def run(self, text: str, tools: Tools, **wishes: Any) -> RunResult:
        """One more question, whose answer may call tools; the model reads their results.

        `wishes` are those of `start_run` and of `Qwen3.stream`.

        >>> from qwen3_mlx.testing import FakeModel
        >>> Chat(FakeModel(["Nothing to call."])).run("hello", tools=[]).stopped_by
        'answer'
        """
        return self.start_run(text, tools, **wishes).result()

    def start_run(
        self,
        text: str,
        tools: Tools,
        *,
        max_steps: int = 8,
        approve: Approve | None = None,
        tool_seconds: float = 60.0,
        timeout: float | None = None,
        **wishes: Any,
    ) -> ToolRun:
        """A run that can be iterated for its events, and cancelled. `ToolRun` says more.

        The conversation has it when it is over; a run that fails leaves it as it was.

        >>> from qwen3_mlx.testing import FakeModel
        >>> run = Chat(FakeModel(["Nothing to call."])).start_run("hello", tools=[])
        >>> [type(event).__name__ for event in run][-1], run.result().steps
        ('Done', 1)
        """
        return _ChatRun(
            self,
            self._begin,
            [*self.messages, {"role": "user", "content": text}],
            tools,
            max_steps=max_steps,
            approve=approve,
            tool_seconds=tool_seconds,
            timeout=timeout,
            wishes={**self._wishes, **wishes},
        )

    async def arun(self, text: str, tools: Tools, **wishes: Any) -> RunResult:
        """`run` for coroutines; cancelling the task cancels the run.

        >>> import asyncio
        >>> from qwen3_mlx.testing import FakeModel
        >>> asyncio.run(Chat(FakeModel(["Hi."])).arun("hello", tools=[])).reply.text
        'Hi.'
        """
        import asyncio

        run = self.start_run(text, tools, **wishes)
        try:
            return await asyncio.to_thread(run.result)
        except asyncio.CancelledError:
            run.cancel()
            raise

    def _begin(self, messages: Sequence[Message], **wishes: Any) -> Generation:
        return self._model.stream(messages, system=self.system, **wishes)

    def retry(self, **wishes: Any) -> Reply:
        """Answer the last question anew.

        >>> from qwen3_mlx.testing import FakeModel
        >>> chat = Chat(FakeModel(["Heads.", "Tails."]))
        >>> chat.ask("Toss a coin.").text, chat.retry().text, len(chat.messages)
        ('Heads.', 'Tails.', 2)
        """
        return self.edit(-1, **wishes)

    def edit(self, question: int, text: str | None = None, **wishes: Any) -> Reply:
        """Go back to the nth question (from 0; -1 is the last), and ask it again or differently.

        What was read up to there is not read again.

        >>> from qwen3_mlx.testing import FakeModel
        >>> chat = Chat(FakeModel(["Bern.", "Paris."]))
        >>> chat.ask("Switzerland?").text, chat.edit(0, "France?").text
        ('Bern.', 'Paris.')

        Raises:
            OptionError: there is no such question.
        """
        places = [n for n, message in enumerate(self.messages) if message["role"] == "user"]
        try:
            place = places[question]
        except IndexError as error:
            raise OptionError(
                f"there is no question {question}: this chat has {len(places)}"
            ) from error
        before, self.messages = self.messages, self.messages[:place]
        try:
            if text is None:
                text = flatten_content(before[place]["content"])
            return self.ask(text, **wishes)
        except BaseException:
            self.messages = before
            raise

    def _take(self, messages: list[Message], tools: Sequence[AnyTool]) -> None:
        """A turn is over: this is the conversation now, to be read ahead for the next turn."""
        self.messages = messages
        self._model.prepare(messages, self.system, tools)


class _ChatRun(ToolRun):
    """A run whose messages become the conversation's."""

    def __init__(self, chat: Chat, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._chat = chat

    def __iter__(self) -> Iterator[Event]:
        for event in super().__iter__():
            if isinstance(event, Done):
                self._chat._take(self.messages, self._tools)
            yield event


class ThoughtMemory:
    """Thoughts by the ids of the tool calls that they led to.

    Within a chain of tool calls the template shows the model its thoughts again. Most
    clients send the calls back without them; then they are put back from here.

    >>> memory = ThoughtMemory()
    >>> memory.remember(["call_1"], "I need the weather.")
    >>> call = {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1"}]}
    >>> memory.restore([call])[0]["reasoning_content"]
    'I need the weather.'
    """

    def __init__(self, most: int = 1024) -> None:
        self._most, self._lock = most, threading.Lock()
        self._thoughts: dict[str, str] = {}

    def remember(self, call_ids: Sequence[str], thought: str) -> None:
        """A reply with this thought made these calls."""
        with self._lock:
            for call_id in call_ids:
                self._thoughts.pop(call_id, None)
                self._thoughts[call_id] = thought
            while len(self._thoughts) > self._most:
                del self._thoughts[next(iter(self._thoughts))]

    def restore(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with the thoughts of calls that came back without any.

        A thought that comes from outside is not remembered: who made up the ids of its calls may
        have made up the same ones as somebody else.
        """
        return [self._restored(message) for message in messages]

    def _restored(self, message: Message) -> Message:
        calls = message.get("tool_calls") if isinstance(message, Mapping) else None
        if not isinstance(calls, Sequence):
            return message  # whatever is wrong with it is told where messages are checked
        if any(message.get(name) for name in REASONING):
            return message
        found = (call.get("id") for call in calls if isinstance(call, Mapping))
        ids = [each for each in found if isinstance(each, str)]
        with self._lock:
            known = next((self._thoughts[each] for each in ids if each in self._thoughts), "")
        return {**message, "reasoning_content": known} if known else message
