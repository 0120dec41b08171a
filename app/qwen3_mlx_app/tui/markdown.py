"""The Markdown that answers are read with: tables, raw HTML as text, formulas as Unicode."""

from __future__ import annotations

import re
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline

from qwen3_mlx_app.tui.latex import readable

__all__ = ["answer_parser"]

#: A dollar is mostly money, or a variable of a shell: the formula must touch its dollars, hold no
#: code, and be followed by no letter or digit.
_INLINE = re.compile(r"\$(?![\s$])((?:\\.|[^$\\\n`])+?)(?<!\s)\$(?!\w)|\\\((.+?)\\\)")
_OPENINGS = {"$$": "$$", "\\[": "\\]"}


@cache  # an answer is parsed ten times a second
def answer_parser() -> MarkdownIt:
    """Raw HTML stays visible: dropping it silently would lose what the model said."""
    parser = MarkdownIt("gfm-like", {"html": False})
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.core.ruler.push("nested_rules", _drop_nested_rules)
    parser.block.ruler.before("fence", "formula", _block, {"alt": ["paragraph", "list"]})
    return parser


def _inline(state: StateInline, silent: bool) -> bool:
    r"""`$x^2$` or `\(x^2\)` in a line."""
    if state.src[state.pos] not in "$\\":
        return False
    match = _INLINE.match(state.src, state.pos)
    if match is None or match.end() > state.posMax:
        return False
    if not silent:
        token = state.push("text", "", 0)
        token.content = readable(match[1] or match[2])
    state.pos = match.end()
    return True


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""`$$ … $$` or `\[ … \]` on lines of their own, drawn as a block.

    It is one paragraph: a formula that is not closed must not swallow what follows.
    """
    begin, stop = state.bMarks[start] + state.tShift[start], state.eMarks[start]
    line = state.src[begin:stop].strip()
    closing = _OPENINGS.get(line[:2])
    if closing is None:
        return False
    lines, at = [line[2:]], start
    while closing not in lines[-1]:
        at += 1
        if at >= end or state.isEmpty(at):  # it may still be coming
            return False
        lines.append(state.src[state.bMarks[at] + state.tShift[at] : state.eMarks[at]].rstrip())
        if lines[-1].startswith(("```", "~~~")):
            return False
    if lines[-1].index(closing) != len(lines[-1]) - 2:  # words follow: it belongs to their line
        return False
    if silent:
        return True
    source = "\n".join(lines).strip().removesuffix(closing)
    token = state.push("fence", "code", 0)
    token.info, token.markup, token.map = "", "```", [start, at + 1]
    token.content = readable(source) + "\n"
    state.line = at + 1
    return True


def _drop_nested_rules(state: StateCore) -> None:
    """`- ***` may become `- ***Key***`, and Textual draws a rule in a list above the list."""
    state.tokens = [each for each in state.tokens if each.type != "hr" or each.level == 0]
