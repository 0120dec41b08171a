"""Draw the README's picture: drive the chat without a terminal and save what it shows as SVG.

    python scripts/screenshot.py docs/chat.svg -m tiny "What is 218 + 74?" "你好!"

Without -m a scripted model answers, which is enough to judge the looks.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_mlx.testing import Answer, Call, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.session import ChatOptions, Session

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from qwen3_mlx.events import Loading
    from qwen3_mlx.interface import ChatModel

SIZE = (100, 30)
QUESTIONS = ["What is 218 + 74?", "And how do I merge two sorted lists in Python?"]
TAPE = {
    QUESTIONS[0]: Answer(
        "218 + 74 = **292**.",
        thinking="Ones: 8 + 4 = 12, write 2 and carry 1.\nTens: 1 + 7 + 1 = 9.\nHundreds: 2.",
        tokens_per_second=60,
        prompt_tokens=19,
    ),
    QUESTIONS[1]: Answer(
        "`heapq.merge` does it lazily, and ties keep their order:\n\n"
        "```python\nfrom heapq import merge\n"
        "list(merge([1, 4, 9], [2, 4, 8]))  # [1, 2, 4, 4, 8, 9]\n```\n\n"
        "It takes *O(n + m)* time. 相等的元素保持原来的顺序。",
        thinking="They want something short. heapq.merge is in the standard library, it is "
        "stable, and it works on any iterables. Show one call and its result.",
        tokens_per_second=74,
        prompt_tokens=64,
    ),
}


def scripted(call: Call) -> Answer:
    """The tape's answer to a question, or a word of thanks."""
    return TAPE.get(call.prompt, Answer("You're welcome!"))


def loader(name: str | None) -> Callable[[Callable[[Loading], None]], ChatModel]:
    """The real model of that name, or the scripted one."""

    def load(progress: Callable[[Loading], None]) -> ChatModel:
        if name is None:
            return FakeModel(scripted)
        import qwen3_mlx

        return qwen3_mlx.load(name, progress=progress)

    return load


async def until(pilot: Pilot[None], true: Callable[[], bool], seconds: float = 300) -> None:
    """Let the app run until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not come in time")
        await pilot.pause(0.05)


async def picture(args: argparse.Namespace) -> str:
    """Ask every question with thinking, open the first thought, and return the SVG."""
    options = ChatOptions(thinking=True, seed=args.seed, max_tokens=args.max_tokens)
    session = Session(loader(args.model), options)
    app = ChatApp(session, args.model or "Qwen3", theme=args.theme, still=True)
    async with app.run_test(size=SIZE) as pilot:
        for question in args.questions:
            app.chat.composer.put(question)
            await pilot.press("enter")
            await until(pilot, lambda: bool(session.state.turns) and not session.state.generating)
        await pilot.pause(0.3)
        if await pilot.click(".thought-title"):
            await pilot.pause(0.3)
        return app.export_screenshot(title="qwen3-mlx chat")


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="the SVG to write")
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("-m", "--model", help="a real model; default: a scripted one")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=400)
    args = parser.parse_intermixed_args()
    args.path.write_text(asyncio.run(picture(args)), encoding="utf-8")


if __name__ == "__main__":
    main()
