"""Load a model, ask it, print the answer.

python examples/hello.py
python examples/hello.py -m 4b "Name three rivers."
"""

import argparse

import qwen3_mlx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("prompt", nargs="?", default="What is 12 + 30?")
parser.add_argument("-m", "--model", default="tiny")
args = parser.parse_args()

with qwen3_mlx.load(args.model) as model:
    reply = model.ask(args.prompt, seed=1)

print(reply.text)
print(f"({reply.usage.answer_tokens} tokens, {reply.timing.ttft_seconds:.2f} s to the first)")
