"""What `eval` found out, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen3_mlx.evaluation.experts import ExpertUse, information
from qwen3_mlx.evaluation.problems import MULTI_STEP
from qwen3_mlx.evaluation.run import Answer, Score, score

__all__ = ["Results", "as_json", "as_text", "by_skill", "wrong"]

_WIDTH = 26
_TOGETHER = "multi-step"  # the row of all MULTI_STEP skills


@dataclass
class Results:
    """All answers of one run, by mode, and for the thinking mode by budget in tokens."""

    model: str
    quantization: str
    count: int
    modes: dict[str, list[Answer]] = field(default_factory=dict)
    budgets: dict[int, list[Answer]] = field(default_factory=dict)
    experts: ExpertUse | None = None
    seconds: float = 0.0


def by_skill(answers: Sequence[Answer]) -> dict[str, Score]:
    """The score of each skill, and of all multi-step skills together."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.problem.skill, []).append(answer)
    together = [answer for skill in MULTI_STEP for answer in groups.get(skill, ())]
    scores = {skill: score(group) for skill, group in groups.items()}
    return scores | ({_TOGETHER: score(together)} if together else {})


def as_text(results: Results) -> str:
    """Tables with a row for each skill."""
    head = f"{results.model}, {results.quantization}, greedy, {results.seconds:.0f} s"
    lines = [head, "", *_table(results.modes, "right, and 95 % interval")]
    if "thinking" in results.modes:
        lengths = by_skill(results.modes["thinking"])
        lines += ["", "tokens of a thought: " + ", ".join(
            f"{skill} {one.thinking_tokens:.0f}" for skill, one in lengths.items()
            if one.thinking_tokens
        )]  # fmt: skip
    if results.budgets:
        named = {f"{budget} tokens": answers for budget, answers in results.budgets.items()}
        lines += ["", *_table(named, "thoughts cut after")]
    if results.experts is not None:
        bits = ", ".join(f"{layer:.2f}" for layer in information(results.experts))
        lines += ["", f"bits that an expert tells about skill and language, by layer: {bits}"]
    return "\n".join(lines)


def wrong(results: Results) -> str:
    """Every wrong reply with its question."""
    lines = []
    for mode, answers in results.modes.items():
        for answer in answers:
            if not answer.right:
                asked = answer.problem.messages[-1]["content"]
                wanted = answer.problem.answer or answer.problem.contains or answer.problem.calls
                lines.append(f"{mode} {answer.problem.skill}: {asked!r}")
                lines.append(f"    wanted {wanted!r}")
                lines.append(f"    got    {answer.text!r} ({answer.finish_reason})")
    return "\n".join(lines)


def as_json(results: Results) -> dict[str, Any]:
    """Plain values: a row for each skill, language, mode and budget."""
    rows = [row for mode, answers in results.modes.items() for row in _rows(answers, mode, None)]
    for budget, answers in results.budgets.items():
        rows += _rows(answers, "thinking", budget)
    found: dict[str, Any] = {
        "model": results.model,
        "quantization": results.quantization,
        "count": results.count,
        "seconds": round(results.seconds, 2),
        "rows": rows,
    }
    if results.experts is not None:
        found["expert_bits"] = information(results.experts)
    return found


def _rows(answers: Sequence[Answer], mode: str, budget: int | None) -> Iterator[dict[str, Any]]:
    for language in (None, *sorted({answer.problem.language for answer in answers})):
        some = [one for one in answers if language in (None, one.problem.language)]
        for skill, found in by_skill(some).items():
            low, high = found.interval
            yield {
                "skill": skill,
                "language": language,  # None is all of them
                "mode": mode,
                "budget": budget,
                "right": found.right,
                "count": found.count,
                "share": round(found.share, 4),
                "low": round(low, 4),
                "high": round(high, 4),
                "thinking_tokens": round(found.thinking_tokens, 1),
            }


def _table(columns: dict[str, list[Answer]], title: str) -> list[str]:
    scores = {name: by_skill(answers) for name, answers in columns.items()}
    skills = list(dict.fromkeys(skill for column in scores.values() for skill in column))
    lines = [_line(title, columns)] if len(title) < 14 else [title, _line("", columns)]
    return lines + [
        _line(skill, (_cell(column.get(skill)) for column in scores.values())) for skill in skills
    ]


def _line(first: str, cells: Iterable[str]) -> str:
    return (f"  {first:<14}" + "".join(f"{cell:<{_WIDTH}}" for cell in cells)).rstrip()


def _cell(found: Score | None) -> str:
    if found is None:
        return ""
    low, high = found.interval
    return f"{found.share:6.1%} ({low:.1%} to {high:.1%})"
