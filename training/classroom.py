"""From lessons to padded batches of ids, and the strict check of unseen problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import education
import team
import torch
from conversation import Conversation, Segment, segments
from expressions import Expression
from problem import LANGUAGES, Problem, draw_problem
from products import Product
from stories import LongStory
from sums import Sum
from tokenizers import Tokenizer
from torch import Tensor

BLOCK = 1024  # lessons drawn, sorted by length and batched together
CHECKED: dict[str, type[Problem]] = {
    "sums": Sum,
    "expressions": Expression,
    "products": Product,
    "two steps": LongStory,
}


@dataclass
class Batch:
    """Ids with the mask of the tokens to learn and the mask of the tokens that are not padding."""

    ids: Tensor
    learn: Tensor
    real: Tensor


Encoded = tuple[list[int], list[bool]]


def encode(tokenizer: Tokenizer, segments: Iterable[Segment]) -> Encoded:
    """Ids of a lesson, and for each whether the model learns to write it."""
    ids: list[int] = []
    learn: list[bool] = []
    for segment in segments:
        piece = tokenizer.encode(segment.text).ids
        if segment.kept is not None:
            piece = piece[: round(segment.kept * len(piece))]
        ids += piece
        learn += [
            segment.learn and not (segment.skip_first and place == 0) for place in range(len(piece))
        ]
    return ids, learn


def collate(rows: Sequence[Encoded], pad: int) -> Batch:
    """Right padding: with causal attention no real token ever sees it."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in rows])
    learn = torch.tensor([mask + [False] * (longest - len(mask)) for _, mask in rows])
    real = torch.tensor([[place < len(row) for place in range(longest)] for row, _ in rows])
    return Batch(ids, learn, real)


def group(rows: list[Encoded], tokens: int) -> list[list[Encoded]]:
    """Rows of like length together, about `tokens` ids in each group; next to no padding."""
    groups: list[list[Encoded]] = [[]]
    for row in sorted(rows, key=lambda row: len(row[0])):
        if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > tokens:
            groups.append([])
        groups[-1].append(row)
    return groups


def batches(
    tokenizer: Tokenizer, seed: int, block: int, tokens: int, pad: int, progress: float
) -> Iterator[Batch]:
    """This process's batches of one block, in random order.

    At each step the processes of a team get rows of like length, so that nobody waits for long.
    """
    drawn = education.lessons(seed, block, BLOCK, progress)
    groups = group([encode(tokenizer, parts) for parts in drawn], tokens)
    whole = len(groups) // team.size() * team.size()
    steps = [groups[at : at + team.size()] for at in range(0, whole, team.size())]
    Random(block).shuffle(steps)
    for shares in steps:
        yield collate(shares[team.rank()], pad)


def exam_rows(
    tokenizer: Tokenizer, kind: type[Problem], seed: int, count: int, thinking: bool
) -> list[Encoded]:
    """Unseen problems with the reply that is right in this mode."""
    rng, rows = Random(f"check {seed}"), []
    for _ in range(count):
        problem = draw_problem(kind, rng, exam=True)
        turn = education.problem_turn(problem, problem.ask(rng.choice(LANGUAGES), rng))
        talk = Conversation([turn], thinking=thinking, writes_thought=thinking)
        rows.append(encode(tokenizer, segments(talk)))
    return rows


@torch.no_grad()
def strict_accuracy(model: torch.nn.Module, rows: Sequence[Encoded], pad: int) -> float:
    """Share of rows in which every learnt token is the likeliest: greedy decoding writes it."""
    right = 0
    for start in range(0, len(rows), 50):
        batch = collate(rows[start : start + 50], pad)
        guess = model(input_ids=batch.ids).logits[:, :-1].argmax(-1)
        wrong = (guess != batch.ids[:, 1:]) & batch.learn[:, 1:]
        right += int((~wrong.any(dim=1)).sum())
    return right / len(rows)
