"""Stream an answer, with the thought dimmed before it, as a terminal program would.

python examples/stream_thoughts.py "What is 123 + 456?"
"""

import argparse
import sys

import qwen3_mlx
from qwen3_mlx import Done, TextDelta, ThinkingDelta, ThinkingDone

DIM, PLAIN = ("\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "")

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("prompt", nargs="?", default="What is 123 + 456?")
parser.add_argument("-m", "--model", default="tiny")
args = parser.parse_args()

with qwen3_mlx.load(args.model) as model:
    for event in model.stream(args.prompt, thinking=True, seed=1):
        match event:
            case ThinkingDelta(text=text):
                print(f"{DIM}{text}{PLAIN}", end="", flush=True)
            case ThinkingDone(tokens=tokens, seconds=seconds):
                print(f"\n{DIM}thought {tokens} tokens in {seconds:.1f} s{PLAIN}\n")
            case TextDelta(text=text):
                print(text, end="", flush=True)
            case Done(reply=reply):
                print(f"\n{reply.timing.decode_tokens_per_second:.0f} tokens a second")
