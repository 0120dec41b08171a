"""Compare chat_template.jinja with a reference, such as the template of a real Qwen3 checkpoint.

    python check_template.py --reference chat_template_of_qwen3.jinja

Random conversations, also odd ones, must give the same bytes wherever the reference gives any.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEXTS = (
    "hi", "\n lead", "a <b> & 'c' \"d\"", "你好 {x}", "<think>\nold\n</think>\n\nnew",
    "</think>\n\nx", "<think>\n\n</think>\n\n", "<think>a</think>b</think>c", "", "  ", "x\n\n",
    "<tool_response> half", "<tool_response>\nr\n</tool_response>",
    "\n\nmid <think>\n\n t \n\n</think>\n\n\n y",
)  # fmt: skip
TOOLS = (
    {"type": "function", "function": {"name": "f", "description": "d <é> & 'q'", "parameters": {}}},
    {"name": "g", "z": 1, "a": None},
)
ARGUMENTS: tuple[Any, ...] = (
    {"a": 1, "b": "é<"},
    {},
    '{"raw": 1}',
    "",
    {"n": None, "l": [1, True]},
)


def compile_template(source: str) -> Template:
    """Transformers' environment: trimmed blocks, and JSON that keeps order, letters and < > &."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source)


def draw_call(rng: Random) -> dict[str, Any]:
    """A tool call, wrapped in "function" or bare."""
    call = {"name": rng.choice(("f", "g_é")), "arguments": rng.choice(ARGUMENTS)}
    return {"type": "function", "id": "1", "function": call} if rng.random() < 0.5 else call


def draw_message(role: str, rng: Random) -> dict[str, Any]:
    """A message of the role, with every field that it may carry."""
    message: dict[str, Any] = {"role": role, "content": rng.choice(TEXTS)}
    if role == "assistant":
        if rng.random() < 0.3:
            message["reasoning_content"] = rng.choice(("r", "\n\nrr\n", "", " ", None))
        if rng.random() < 0.5:
            message["tool_calls"] = [draw_call(rng) for _ in range(rng.randrange(4))]
    if role != "system" and rng.random() < 0.06:
        message["content"] = None
    return message


def draw_request(rng: Random) -> dict[str, Any]:
    """Messages and options of one call of the template."""
    roles = rng.choices(("user", "assistant", "tool", "system"), (3, 4, 2, 1), k=rng.randint(1, 7))
    if rng.random() < 0.3:
        roles.insert(0, "system")
    request: dict[str, Any] = {"messages": [draw_message(role, rng) for role in roles]}
    if rng.random() < 0.5:
        request["tools"] = rng.choice((TOOLS, TOOLS[:1], (), None))
    if rng.random() < 0.7:
        request["add_generation_prompt"] = rng.random() < 0.7
    if rng.random() < 0.7:
        request["enable_thinking"] = rng.choice((True, False, None))
    return request


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    own = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
    ours, reference = compile_template(own), compile_template(options.reference.read_text("utf-8"))
    rng = Random(0)
    for _ in range(options.count):
        request = draw_request(rng)
        got, wanted = ours.render(**request), reference.render(**request)
        if got != wanted:
            raise SystemExit(f"{request}\nours      {got!r}\nreference {wanted!r}")
    empty = [{"role": role, "content": None} for role in ("system", "user", "assistant", "tool")]
    ours.render(messages=empty)
    ours.render(messages=empty, tools=TOOLS)
    print(f"{options.count} conversations rendered alike; content None is accepted")


if __name__ == "__main__":
    main()
