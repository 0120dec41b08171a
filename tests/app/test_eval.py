"""`qwen3-mlx eval`: tables, JSON and pictures, from a few problems and from invented answers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from qwen3_mlx.evaluation.problems import Problem
from qwen3_mlx.evaluation.run import Answer
from qwen3_mlx_app.cli import main
from qwen3_mlx_app.exam import curve, heatmap, report
from qwen3_mlx_app.exam.report import Results


def answers(right: int, count: int, skill: str = "expressions") -> list[Answer]:
    asked = ({"role": "user", "content": "1+2+3"},)
    problems = [Problem(skill, "zh" if n % 2 else "en", asked, answer="6") for n in range(count)]
    return [
        Answer(problem, "6", number < right, "stop", 9) for number, problem in enumerate(problems)
    ]


@pytest.fixture
def results() -> Results:
    found = Results("tiny", "8-bit", 10)
    found.modes = {"direct": answers(3, 10), "thinking": answers(9, 10) + answers(5, 5, "talk")}
    found.budgets = {8: answers(4, 10), 16: answers(6, 10)}
    found.experts = {("expressions", "en"): np.array([[4, 0], [2, 2]]),
                     ("talk", "zh"): np.array([[0, 4], [3, 1]])}  # fmt: skip
    return found


def test_tables(results: Results) -> None:
    text = report.as_text(results)

    row = next(line for line in text.splitlines() if line.startswith("  expressions"))
    assert row.split()[1:] == ["30.0%", "(10.8%", "to", "60.3%)", "90.0%", "(59.6%", "to", "98.2%)"]
    assert "multi-step" in text
    assert "16 tokens" in text
    assert "tokens of a thought: expressions 9" in text
    assert "by layer: 1.00, 0.05" in text


def test_json(results: Results) -> None:
    found = json.loads(json.dumps(report.as_json(results)))
    whole = [row for row in found["rows"] if row["language"] is None and row["budget"] == 16]

    assert [(row["skill"], row["right"], row["count"]) for row in whole] == [
        ("expressions", 6, 10), ("multi-step", 6, 10),
    ]  # fmt: skip
    assert {row["language"] for row in found["rows"]} == {None, "en", "zh"}
    assert len(found["expert_bits"]) == 2


def test_wrong_replies(results: Results) -> None:
    lines = report.wrong(results).splitlines()

    assert len(lines) == 3 * (7 + 1)
    assert lines[0] == "direct expressions: '1+2+3'"


def test_pictures(results: Results) -> None:
    assert results.experts is not None
    for picture in (curve.draw(results), heatmap.draw(results.experts, "tiny & co")):
        ET.fromstring(picture)
    line = curve.draw(results)
    assert line.count("<circle") == 2 * 4  # direct, 8, 16, no limit; one skill and all together
    assert heatmap.draw(results.experts, "t").count('class="cell"') == 3


def test_sums_of_tiny(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot, heat = tmp_path / "plot.svg", tmp_path / "heat.svg"
    told = main([
        "eval", "tiny", "--skills", "sums", "--count", "2", "--modes", "direct", "--budgets", "4,8",
        "--plot", str(plot), "--heatmap", str(heat), "--json",
    ])  # fmt: skip
    found = json.loads(capsys.readouterr().out)

    assert told == 0
    assert found["model"] == "tiny"
    assert len(found["expert_bits"]) == 4
    assert {(row["mode"], row["budget"]) for row in found["rows"]} == {
        ("direct", None), ("thinking", 4), ("thinking", 8),
    }  # fmt: skip
    ET.fromstring(plot.read_text())
    ET.fromstring(heat.read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--skills", "dancing"], "choose from sums"),
        (["--count", "0"], "ask for 1 at least"),
        (["--modes", "fast"], "name direct, thinking or both"),
        (["--budgets=-3"], "tokens from 0 on"),
        (["--plot", "/no/such/folder/f.svg"], "is no folder"),
    ],
)
def test_mistakes(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "tiny", *arguments]) == 2
    assert said in capsys.readouterr().err
