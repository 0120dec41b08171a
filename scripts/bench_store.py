"""How fast the chat database answers with 10,000 chats of 20 messages.

    python scripts/bench_store.py [--chats 10000] [--file chats.db]

Prints the milliseconds of opening the list and of searches, the median of seven tries.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qwen3_mlx_app.tui.store import SavedTurn, Store

ENGLISH = (
    "the a stable merge sort takes from left list equal items python function model answer token "
    "memory expert cache question because however language number value result time data code"
)
WORDS = ENGLISH.split()
HANZI = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能"
QUERIES = ("merge", "stable sort", "needle", "排序", "时来", "国", "排", "the", "mem", "zzz")
TURNS = 10


def main() -> None:
    """Fill a database, or use one that was kept, and ask it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--chats", type=int, default=10_000)
    parser.add_argument("--file", type=Path, help="keep the database here and use it again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "chats.db"
        store = Store(path)
        missing = args.chats - len(store.chats(limit=args.chats))
        if missing > 0:
            seconds, _ = timed(lambda: fill(store, missing))
            print(f"filled with {missing:,} chats in {seconds:.0f} s", flush=True)
        store.close()
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        report("open the file", lambda: Store(path).close())
        store = Store(path)
        report("list", lambda: store.chats())
        for query in QUERIES:
            found = len(store.search(query))
            report(f"search {query!r}, {found} hits", lambda query=query: store.search(query))
        store.close()


def fill(store: Store, chats: int) -> None:
    """Chats of ten questions and ten answers; two of a hundred thousand answers are special."""
    chance = random.Random(1)
    for number in range(chats):
        turns = [
            SavedTurn(words(chance, 12), at + 1, at or None, answer=words(chance, 60))
            for at in range(TURNS)
        ]
        if number % 5000 == 77:
            turns[3] = SavedTurn("where is the needle? 排序", 4, 3, answer=words(chance, 60))
        store.add_all(store.new_chat(words(chance, 5)), turns, None)


def words(chance: random.Random, count: int) -> str:
    """English, and Chinese in every third text."""
    if chance.random() < 0.33:
        return "".join(chance.choices(HANZI, k=count * 2))
    return " ".join(chance.choices(WORDS, k=count))


def timed(do: Callable[[], object]) -> tuple[float, object]:
    """Seconds and the result."""
    began = time.perf_counter()
    result = do()
    return time.perf_counter() - began, result


def report(name: str, do: Callable[[], object]) -> None:
    """One line: the median and the slowest of seven."""
    times = [timed(do)[0] * 1000 for _ in range(7)]
    print(f"{name:32} {statistics.median(times):7.1f} ms   slowest {max(times):7.1f}")


if __name__ == "__main__":
    main()
