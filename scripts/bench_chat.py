"""What a long answer costs the app: 3,000 tokens at 200 a second from a scripted model.

    python scripts/bench_chat.py [--tokens 3000] [--rate 200]

Prints how much the producer was slowed, how long key presses waited, and the share of a core.
Run it on a computer that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.session import Session


async def measure(tokens: int, rate: int) -> None:
    """One answer, with a key press four times a second."""
    text = "".join(f" w{n % 997}" if n % 40 else "\n\n- item" for n in range(tokens))
    model = FakeModel([Answer(text, tokens_per_second=rate)])
    app = ChatApp(Session(lambda progress: model), still=True)
    waits: list[float] = []
    async with app.run_test(size=(100, 30)) as pilot:
        while app.session.state.info is None:
            await pilot.pause(0.05)
        app.chat.composer.put("write")
        cpu, began = time.process_time(), time.monotonic()
        app.simulate_key("enter")
        while not app.session.state.turns:
            await asyncio.sleep(0.01)
        turn = app.session.state.turns[0]
        while turn.running:
            pressed, before = time.monotonic(), app.chat.composer.text
            app.simulate_key("a")
            while app.chat.composer.text == before:
                await asyncio.sleep(0.001)
            waits.append(time.monotonic() - pressed)
            await asyncio.sleep(0.25)
        seconds = time.monotonic() - began
        share = (time.process_time() - cpu) / seconds
    assert turn.reply is not None
    reached = turn.reply.timing.decode_tokens_per_second  # by the producer's own clock
    print(f"{turn.answer_tokens:,} tokens, {reached:.1f} of {rate} a second: "
          f"slowed by {rate / reached - 1:.1%}")  # fmt: skip
    print(f"keys: 95th percentile {sorted(waits)[int(len(waits) * 0.95)] * 1000:.0f} ms")
    print(f"CPU: {share:.0%} of a core")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=3_000)
    parser.add_argument("--rate", type=int, default=200)
    args = parser.parse_args()
    asyncio.run(measure(args.tokens, args.rate))


if __name__ == "__main__":
    main()
