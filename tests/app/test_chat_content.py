"""What answers are made of: formulas, tables, HTML."""

from __future__ import annotations

import doctest

import pytest
from driving import ask, make_app, ready
from textual.widgets import Markdown

from qwen3_mlx.testing import FakeModel
from qwen3_mlx_app.tui import latex
from qwen3_mlx_app.tui.latex import readable
from qwen3_mlx_app.tui.markdown import answer_parser

RICH = """The area is $\\pi r^2$, that is \\(3 \\times 4\\); it costs $5 and $6.

$$
\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}
$$

\\[ E = mc^2 \\]

| 名称 | Wert |
| --- | ---: |
| 表 | <b>1</b> |
"""


def text(source: str) -> str:
    """All text of the inline tokens and fences."""
    tokens = answer_parser().parse(source)
    parts = [t.content for t in tokens if t.type == "fence"]
    for token in tokens:
        parts += [child.content for child in token.children or []]
    return "|".join(parts)


def test_the_examples_in_docstrings_run() -> None:
    assert doctest.testmod(latex).failed == 0


def test_formulas_are_readable_and_money_is_left_alone() -> None:
    found = text(RICH)
    assert "π r²" in found
    assert "3 × 4" in found
    assert "$5 and $6" in found
    assert "∑ᵢ₌₁ⁿ i = (n(n+1))/2" in found
    assert "E = mc²" in found
    assert "<b>1</b>" in "".join(found.split("|"))


@pytest.mark.parametrize("source", ["$HOME/bin:$PATH", "set $HOME or $PATH_X", "costs $5, not $6"])
def test_variables_of_a_shell_and_money_are_no_formulas(source: str) -> None:
    assert text(source) == source


def test_columns_of_a_matrix_stay_apart() -> None:
    assert readable(r"1&2\\3 & 4") == "1  2\n3  4"
    assert readable(r"a &= b") == "a = b"


async def test_what_grew_in_pieces_ends_as_the_whole() -> None:
    source = "See:\n\n$$\nx^2\n+ y^2\n$$\n\nand [a][1].\n\n[1]: https://example.org\n"
    app = make_app(FakeModel([source]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "q")
        kinds = [type(block).__name__ for block in app.screen.query_one(Markdown).children]
    assert "MarkdownBulletList" not in " ".join(kinds)
    assert not [kind for kind in kinds if "List" in kind]


@pytest.mark.parametrize("source", ["$", "\\(", "$$", "$$\nx", "\\[", "a $x", "\\", "{}^_", "x^"])
def test_what_is_not_finished_stays_as_it_is(source: str) -> None:
    signs = set(source) - set("\\ \n")
    assert signs <= set(readable(source))
    assert signs <= set(text(source))


@pytest.mark.parametrize(
    "source",
    [
        "\\[ a = b \\] where a is\n\nmore\n\n\\[ c = d \\]",
        "$$ a $$ is one\n\nmore\n\n$$ c = d $$",
        "\\[\na = b\n\nmore\n\n\\[ c = d \\]",
        "$$\na = b\n```\nmore $$\n```\n$$ c = d $$",
    ],
)
def test_a_formula_swallows_no_text(source: str) -> None:
    fences = [token.content for token in answer_parser().parse(source) if token.type == "fence"]
    assert fences[-1] == "c = d\n"
    assert not any("more" in fence and "a =" in fence for fence in fences)


def test_rules_in_lists_are_not_drawn_above_them() -> None:
    kinds = [token.type for token in answer_parser().parse("- ***\n- b\n\n> ---\n\n***")]
    assert kinds.count("hr") == 1
    assert kinds[-1] == "hr"


async def test_a_rich_answer_is_drawn() -> None:
    app = make_app(FakeModel([RICH]))
    async with app.run_test(size=(80, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        assert app.chat.query_one(Markdown).source == RICH
        picture = app.export_screenshot().replace("&#160;", " ")
        for part in ("π r²", "3 × 4", "∑ᵢ₌₁ⁿ i = (n(n+1))/2", "E = mc²", "名称", "&lt;b&gt;1"):
            assert part in picture
