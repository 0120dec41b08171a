"""Random JSON Schemas, answered by random logits or by a model: how many answers are whole?

    python scripts/measure_json.py                            1,000 schemas, random logits
    python scripts/measure_json.py --model tiny --schemas 100
    python scripts/measure_json.py --mask FOLDER              what a mask costs with a tokenizer

Every whole answer is checked with the jsonschema package; an answer that is called whole and
does not validate ends the script with status 1. Temperature is 2, max_tokens 512.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema

from qwen3_mlx import Grammar, IncompleteError, OptionError, Sampling, hub, load
from qwen3_mlx.grammar.guide import AnswerGuide
from qwen3_mlx.grammar.vocabulary import Vocabulary
from qwen3_mlx.text.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "grammar"))
from schemas import random_schema

MOST = 512


class RandomLogits:
    """Draws from random logits behind the mask, without a model."""

    def __init__(self, temperature: float) -> None:
        folder = hub.resolve("tiny")
        self._tokenizer = Tokenizer.from_folder(folder, 2176)
        eos = self._tokenizer.eos_id
        assert eos is not None
        self._eos, self._temperature = eos, temperature
        self._vocabulary = Vocabulary(self._tokenizer, [eos])

    def answer(self, schema: dict[str, Any], seed: int) -> str:
        import numpy as np

        grammar = Grammar.json(schema)
        matchers = self._vocabulary.matchers(grammar)
        guide = AnswerGuide(matchers, grammar, self._tokenizer)
        if not guide.make_room(MOST):
            raise OptionError(f"needs {guide.needs} tokens")
        rng = np.random.default_rng(seed)
        for left in reversed(range(MOST)):
            bits = guide.allowed()
            if bits is None:
                break
            mask = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
            ids = np.flatnonzero(mask[: self._tokenizer.size])
            noise = rng.normal(size=len(ids)) / self._temperature + rng.gumbel(size=len(ids))
            token = int(ids[noise.argmax()])
            if token == self._eos or guide.take(token, left) is not None:
                break
        if not guide.fits:
            raise IncompleteError("not whole", None)
        return guide.text.decode()


class Model:
    """Asks a model for a value."""

    def __init__(self, name: str, temperature: float) -> None:
        self._model = load(name)
        self._sampling = Sampling(temperature=temperature, top_k=0, top_p=1.0)

    def answer(self, schema: dict[str, Any], seed: int) -> str:
        reply = self._model.ask(
            "Write some JSON.", thinking=False, max_tokens=MOST, seed=seed,
            sampling=self._sampling, grammar=Grammar.json(schema),
        )  # fmt: skip
        if not reply.fits:
            raise IncompleteError("not whole", reply)
        return reply.text


def measure(source: RandomLogits | Model, schemas: int) -> int:
    """Count what becomes of the answers; 1 if one is called whole that is not valid."""
    counts: Counter[str] = Counter()
    for number in range(schemas):
        schema = random_schema(number)
        try:
            text = source.answer(schema, number)
        except (IncompleteError, OptionError) as error:
            counts[type(error).__name__] += 1
            continue
        try:
            checker = jsonschema.Draft202012Validator(schema)
            checker.validate(json.loads(text))
            counts["whole and valid"] += 1
        except (ValueError, jsonschema.ValidationError) as error:
            counts["INVALID"] += 1
            print(f"schema {number}: {str(error).splitlines()[0]}\n  {text[:300]}")
        if number % 50 == 49:
            print(f"  {number + 1}: {dict(counts)}", flush=True)
    print(f"{schemas} schemas, temperature 2, {MOST} tokens at most: {dict(counts)}")
    print(f"finished: {counts['whole and valid'] / schemas:.1%}")
    return 1 if counts["INVALID"] else 0


def measure_mask(folder: str) -> int:
    """Milliseconds of host time for a mask, and for a token with its search for an ending."""
    tokenizer = Tokenizer.from_folder(folder, 151_936)
    began = time.perf_counter()
    vocabulary = Vocabulary(tokenizer, [tokenizer.id_of("<|im_end|>") or 0])
    vocabulary.matchers(Grammar.json({"type": "null"}))
    print(f"{tokenizer.size:,} tokens; vocabulary built in {time.perf_counter() - began:.2f} s")
    masks, takes, rng = [], [], random.Random(1)
    for number in range(40):
        grammar = Grammar.json(random_schema(number))
        for round in range(2):
            guide = AnswerGuide(vocabulary.matchers(grammar), grammar, tokenizer)
            if not guide.make_room(MOST):
                break
            for left in reversed(range(60)):
                start = time.process_time()
                bits = guide.allowed()
                middle = time.process_time()
                if bits is None:
                    break
                word = rng.choice([place for place, byte in enumerate(bits) if byte])
                token = word * 8 + rng.choice([n for n in range(8) if bits[word] >> n & 1])
                begun = time.process_time()
                over = guide.take(token, left + 400) is not None
                if round:
                    masks.append(1e3 * (middle - start))
                    takes.append(1e3 * (time.process_time() - begun))
                if over:
                    break
    for name, values in (("mask", masks), ("token", takes)):
        values.sort()
        middle, high = values[len(values) // 2], values[int(len(values) * 0.99)]
        print(
            f"{name}: mean {statistics.mean(values):.3f} ms, median {middle:.3f}, 99th of 100 "
            f"{high:.3f}, {len(values)} tokens (CPU time of this process)"
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="ask this model instead of random logits")
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--mask", metavar="FOLDER", help="measure masks with this tokenizer")
    args = parser.parse_args()
    if args.mask:
        return measure_mask(args.mask)
    source = Model(args.model, args.temperature) if args.model else RandomLogits(args.temperature)
    return measure(source, args.schemas)


if __name__ == "__main__":
    sys.exit(main())
