"""Conversations into prompts, by the chat template that the checkpoint ships.

A prompt exists in two forms. `ChatTemplate.render` gives the text, equal to Transformers'
`apply_chat_template`. `ChatTemplate.render_ids` gives the token ids for the engine, and keeps
one promise more: **text that spells a control token never becomes one**. A user who writes
``<|im_end|>`` cannot end the turn, a web page in a tool's result cannot open a system turn.

How it works: it is not the users' text that is marked but the template's own. Every control
token in the literals that the template writes is replaced, in a second compiled form of the
template, by a private-use character that occurs nowhere in the conversation. After rendering,
these characters become control ids, and everything between them is encoded as plain text. The
conversation itself goes through the template unchanged, so all that a template does with it
(split at ``</think>``, look for ``<tool_response>``, strip) works as ever, and nothing that a
user writes can look like a mark. Literals that a template only compares with are left alone.

One exception is meant: in assistant turns the tags that the model itself writes, `<think>`
and `<tool_call>` with their closing forms, stay control tokens, except inside the arguments
of a tool call. They are the model's own words in the history.

For a conversation that spells no control token the ids equal `tokenizer.encode(render(…))`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import PromptError
from qwen3_mlx.text.files import read_json, read_text, token_text
from qwen3_mlx.text.messages import normalize_messages, normalize_tools, plain_json
from qwen3_mlx.text.sandbox import Renderer, compile_template

if TYPE_CHECKING:
    from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["ChatTemplate"]

_SPECIAL_TOKENS = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
]
_OWN_WORDS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_PROBE = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
)
_PROBE_SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": "b"}}}
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "c", "parameters": _PROBE_SCHEMA},
}


class ChatTemplate:
    """The chat template of one checkpoint; a Base model has none (`exists` is False).

    >>> source = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}{% endfor %}"
    >>> ChatTemplate(source).render([{"role": "user", "content": "hi"}])
    '<|im_start|>user: hi'
    """

    def __init__(
        self,
        source: str | None,
        *,
        tool_source: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self._tool_source = tool_source or source
        self._special_tokens = dict(special_tokens or {})

    @classmethod
    def from_folder(cls, path: str | Path) -> ChatTemplate:
        """Read chat_template.jinja, else tokenizer_config.json, else chat_template.json."""
        folder = Path(path)
        config = read_json(folder / "tokenizer_config.json")
        named = _named_templates(folder, config)
        special = {name: token_text(config.get(name)) for name in _SPECIAL_TOKENS}
        return cls(
            named.get("default"),
            tool_source=named.get("tool_use"),
            special_tokens={name: token for name, token in special.items() if token is not None},
        )

    @property
    def exists(self) -> bool:
        """Whether there is a template; without one only raw prompts can be run."""
        return self.source is not None

    @cached_property
    def can_switch_thinking(self) -> bool:
        """Whether `thinking=` changes the prompt: true for the hybrid models of 2504."""
        return self._ending(True) != self._ending(False)

    @cached_property
    def can_think(self) -> bool:
        """Whether the model thinks: it can be switched, or its prompt opens a thought."""
        return self.can_switch_thinking or self._ending(None).rstrip("\n").endswith("<think>")

    @cached_property
    def can_call_tools(self) -> bool:
        """Whether tools change the prompt: a template may not know of any."""
        try:
            return self.render(_PROBE, tools=[_PROBE_TOOL]) != self.render(_PROBE)
        except PromptError:  # no template at all, or one that fails on tools
            return False

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        **extra: Any,
    ) -> str:
        """The prompt as text.

        `thinking` is passed on as `enable_thinking` unless it is None. `continue_final` leaves
        the last message, the assistant's, open to be continued, and then there is no
        generation prompt. `extra` are further variables for the template.

        Raises `PromptError` for a Base model, for messages that are malformed, and for a
        conversation that the template refuses.
        """
        conversation = self._conversation(messages, tools, extra)
        return conversation.render(thinking, add_generation_prompt, continue_final)

    def render_ids(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        **extra: Any,
    ) -> list[int]:
        """The prompt as token ids, in which only the template writes control tokens.

        Takes what `render` takes. Decoded, the ids give the text of `render` (in NFC).
        """
        conversation = self._conversation(messages, tools, extra)
        options = (thinking, add_generation_prompt, continue_final)
        if not conversation.spells_control(tokenizer):
            return tokenizer.encode(conversation.render(*options))
        probe = self._conversation(_PROBE, None, {})
        if probe.marked_ids(tokenizer) != tokenizer.encode(probe.render()):
            raise PromptError(
                "the conversation spells a control token such as <|im_end|>, and this chat"
                " template builds its own from pieces, so they cannot be told apart: break up"
                " the spelling in the message"
            )
        return conversation.marked_ids(tokenizer, *options)

    def _conversation(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        extra: Mapping[str, Any],
    ) -> _Conversation:
        source = self._tool_source if tools else self.source
        if source is None:
            raise PromptError(
                "this is a Base model: it has no chat template and only continues text; use"
                " --raw for a plain prompt, or choose a model that is not called Base"
            )
        return _Conversation(
            source,
            normalize_messages(messages, _roles(source)),
            normalize_tools(tools),
            plain_json(dict(extra), "the template's variables"),
            self._special_tokens,
        )

    def _ending(self, thinking: bool | None) -> str:
        """What the prompt adds after the last message in this mode, '' if it cannot be known."""
        try:
            plain = self.render(_PROBE, thinking=thinking, add_generation_prompt=False)
            return self.render(_PROBE, thinking=thinking).removeprefix(plain)
        except PromptError:  # a Base model, or a template for no ordinary conversation
            return ""


class _Conversation:
    """One conversation with its template: the variables, and both ways to render them."""

    def __init__(
        self,
        source: str,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        extra: dict[str, Any],
        special_tokens: dict[str, str],
    ) -> None:
        self._source = source
        self._messages = messages
        self._tools = tools
        self._extra = extra
        self._special_tokens = special_tokens

    def render(
        self,
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        marks: Mapping[str, str] | None = None,
    ) -> str:
        pairs = tuple((marks or {}).items())
        special = {name: _marked(token, pairs) for name, token in self._special_tokens.items()}
        variables = {
            **special,
            **self._extra,
            "messages": self._messages,
            "tools": self._tools,
            "documents": self._extra.get("documents"),
            "add_generation_prompt": add_generation_prompt and not continue_final,
        }
        if thinking is not None:
            variables["enable_thinking"] = thinking
        renderer = compile_template(self._source, pairs)
        if not continue_final:
            return renderer(variables)
        return self._render_open(renderer, variables)

    def spells_control(self, tokenizer: Tokenizer) -> bool:
        """Whether any string of the conversation spells a control token that it may not."""
        foreign, own = self._strings()
        return tokenizer.spells_control("\0".join(foreign)) or tokenizer.spells_control(
            "\0".join(own), _OWN_WORDS
        )

    def marked_ids(
        self,
        tokenizer: Tokenizer,
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
    ) -> list[int]:
        """Render with the template's control tokens marked, and encode what lies between."""
        control = tokenizer.control_tokens
        longest_first = sorted(control, key=len, reverse=True)
        marks = dict(zip(longest_first, self._unused_chars(len(control)), strict=True))
        options = (thinking, add_generation_prompt, continue_final)
        text = self.render(*options, marks=marks)
        token_of = {mark: token for token, mark in marks.items()}
        pieces = re.split(f"([{''.join(token_of)}])", text)
        if "".join(token_of.get(piece, piece) for piece in pieces) != self.render(*options):
            raise PromptError(
                "the conversation spells a control token such as <|im_end|>, and this chat"
                " template looks for its own in a way that cannot be kept apart: break up the"
                " spelling in the message"
            )
        turn = _Turn()
        ids: list[int] = []
        for piece in pieces:
            token = token_of.get(piece)
            turn.follow(token, piece)
            if token is not None:
                ids.append(control[token])
            else:
                ids += tokenizer.encode_plain(piece, _OWN_WORDS if turn.own_words else ())
        return ids

    def _render_open(self, renderer: Renderer, variables: dict[str, Any]) -> str:
        """Render the last message with a mark at its end, and cut there."""
        *earlier, last = self._messages
        if last["role"] != "assistant":
            raise PromptError(
                f"continue_final continues the assistant's message, and the last one is the"
                f" {last['role']}'s: end the conversation with an assistant message"
            )
        mark = self._unused_chars(1, first=0xE000)[0]
        # The space shows whether the template keeps trailing space or strips it.
        marked = {**last, "content": last["content"] + mark + " "}
        text = renderer({**variables, "messages": [*earlier, marked]})
        if mark not in text:
            raise PromptError(
                "the chat template leaves the last message out, so it cannot be continued:"
                " pass it as text in a raw prompt"
            )
        place = text.rindex(mark)
        return text[:place] if text[place + 1 : place + 2] == " " else text[:place].rstrip()

    def _strings(self) -> tuple[list[str], list[str]]:
        """All strings of the conversation: the foreign ones, and the model's own words."""
        foreign = [*_strings_in(self._tools), *_strings_in(self._extra)]
        own: list[str] = []
        for message in self._messages:
            for key, value in message.items():
                assistants = message["role"] == "assistant"
                text = assistants and key in ("content", "reasoning_content")
                (own if text else foreign).extend(_strings_in(value))
        return foreign, own

    def _unused_chars(self, count: int, first: int = 0xF0000) -> list[str]:
        """Private-use characters that occur neither in the conversation nor in the template."""
        used = {*self._source}.union(*(set(text) for texts in self._strings() for text in texts))
        for start in range(first, 0x10FFFD - count, count):
            chars = [chr(start + place) for place in range(count)]
            if used.isdisjoint(chars):
                return chars
        raise PromptError("the conversation is made of private-use characters: remove them")


class _Turn:
    """Follows whose words the rendered text is: ``<|im_start|>role\\n…<|im_end|>``."""

    def __init__(self) -> None:
        self._header = False
        self._role = ""
        self._in_call = False

    @property
    def own_words(self) -> bool:
        """Whether the text is the assistant's and outside the calls that the template writes."""
        return self._role == "assistant" and not self._in_call

    def follow(self, token: str | None, text: str) -> None:
        """Take the next control token of the template, or the next text between two."""
        if token == "<|im_start|>":
            self._header, self._role, self._in_call = True, "", False
        elif token == "<|im_end|>":
            self._role = ""
        elif token in ("<tool_call>", "</tool_call>"):
            self._in_call = token == "<tool_call>"
        elif token is None and self._header:
            self._header, self._role = False, text.partition("\n")[0]


def _marked(token: str, pairs: tuple[tuple[str, str], ...]) -> str:
    return dict(pairs).get(token, token)


def _strings_in(value: Any) -> Iterator[str]:
    """Every string, and every key also as the tag that templates make of it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"<{key}>"
            yield from _strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings_in(item)


def _roles(source: str) -> set[str]:
    """The roles that the template compares with: rerankers have "query" and "document"."""
    pattern = r"""role["'\]]*\s*(?:==\s*|,\s*["']eq["']\s*,\s*)["']([a-z_]+)["']"""
    return set(re.findall(pattern, source))


def _named_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The templates of a folder by name; most have one, "default"."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return {"default": read_text(file)}
    found = config.get("chat_template")
    if found is None:
        found = read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, list):
        return {entry["name"]: entry["template"] for entry in found}
    return {}
