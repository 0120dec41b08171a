"""Which of several trained models is the better one, on lessons and problems that none of them saw.

    python compare.py --tokenizer build/tokenizer build/tiny build/student

Prints a Markdown table: nats per learnt token, and strict accuracy (every token of the right reply
is the likeliest) without and with a thought.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from classroom import CHECKED, batches, exam_rows, strict_accuracy
from models import Model, load_model
from tokenizers import Tokenizer

SEED = 1_000_000  # of lessons that no training draws
BLOCKS = 2
PROBLEMS = 200


@torch.no_grad()
def mean_loss(model: Model, tokenizer: Tokenizer) -> float:
    """Cross entropy of what lessons of the last hour teach, nats per learnt token."""
    total, count = 0.0, 0
    for block in range(BLOCKS):
        for batch in batches(tokenizer, SEED, block, 4096, model.config.pad_token_id, 0.9):
            target = batch.learn[:, 1:]
            logits = model(input_ids=batch.ids).logits[:, :-1][target]
            total += float(F.cross_entropy(logits, batch.ids[:, 1:][target], reduction="sum"))
            count += int(target.sum())
    return total / count


def main() -> None:
    """A row for each folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of make_tokenizer.py")
    parser.add_argument("models", nargs="+", metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    print(f"| model | nats a token | {' | '.join(CHECKED)} |")
    print("| --- " * (len(CHECKED) + 2) + "|")
    for folder in options.models:
        model = load_model(folder)
        pad, cells = model.config.pad_token_id, []
        for kind in CHECKED.values():
            direct, thinking = (
                strict_accuracy(model, exam_rows(tokenizer, kind, 2, PROBLEMS, thinks), pad)
                for thinks in (False, True)
            )
            cells.append(f"{direct:.1%} / {thinking:.1%}")
        loss = mean_loss(model, tokenizer)
        print(f"| {Path(folder).name} | {loss:.3f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
