"""How text is found: words as they are, and Chinese, Japanese and Korean by pairs of characters.

FTS5's own tokenizer takes a whole Chinese sentence for one word, and its trigrams find nothing
shorter than three characters. So every run of such characters is indexed by its overlapping
pairs, and a query is cut in the same way.
"""

from __future__ import annotations

import re

from qwen3_mlx_app.tui.text import cells, one_line

__all__ = ["indexed", "match_query", "snippet"]

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
# Such classes take milliseconds to compile, which `re` does when they are first used.
_RUN = f"[{_CJK}]+"
_TERM = rf"[{_CJK}]+|[^\W{_CJK}]+"


def indexed(text: str) -> str:
    """The text as the index gets it.

    >>> indexed("Qwen 机器学习!")
    'Qwen  机器 器学 学习 习 !'
    """
    return re.sub(_RUN, lambda run: f" {' '.join(_pairs(run[0]))} ", text)


def match_query(text: str) -> str:
    """What a person typed, as an FTS5 query: all the terms, the last one perhaps unfinished.

    >>> match_query("stable 排序 mer")
    '"stable" "排序" "mer"*'
    >>> match_query('"')
    ''
    """
    terms = re.findall(_TERM, text)
    if not terms:
        return ""
    return " ".join(_phrase(term, last=term is terms[-1]) for term in terms)


def snippet(text: str, query: str, width: int = 72) -> tuple[str, int, int]:
    """One line around the first hit, and where the hit lies in it; (…, 0, 0) without one.

    >>> snippet("A stable merge takes from the left.", "merge", 20)
    ('…merge takes from t…', 1, 6)
    """
    flat = " ".join(text.split())
    found = _first_hit(flat, query)
    if found is None:
        return one_line(flat, width), 0, 0
    begin, end = found
    start, room = begin, max(0, width - cells(flat[begin:end])) // 2
    while start and (room := room - cells(flat[start - 1])) >= 0:
        start -= 1
    if start:
        space = flat.find(" ", start, begin)
        start = space + 1 if space >= 0 else start
    head = "…" if start else ""
    return one_line(head + flat[start:], width), begin - start + len(head), end - start + len(head)


def _first_hit(flat: str, query: str) -> tuple[int, int] | None:
    lowered = flat.lower()
    if len(lowered) != len(flat):  # a letter like İ grows, and positions would no longer agree
        lowered = flat
    hits = [(lowered.find(term.lower()), len(term)) for term in re.findall(_TERM, query)]
    found = [(at, at + length) for at, length in hits if at >= 0]
    return min(found) if found else None


def _pairs(run: str) -> list[str]:
    """Overlapping pairs, and the last character alone so that it begins a word as well."""
    return [run[at : at + 2] for at in range(len(run))]


def _phrase(term: str, last: bool) -> str:
    """One term. A single character is any pair that begins with it; pairs stand in a row."""
    if re.fullmatch(_RUN, term):
        if len(term) == 1:
            return f'"{term}"*'
        return f'"{" ".join(_pairs(term)[:-1])}"'
    return f'"{term}"*' if last and len(term) > 1 else f'"{term}"'
