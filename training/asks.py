"""Ways of asking, from `asks/en.txt` and `asks/zh.txt`.

A heading for each subject of `phrases.py`, and a line for each way; then what is unknown to tiny.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "asks"


def read_asks(lang: str) -> dict[str, tuple[str, ...]]:
    """Subject to phrases.

    >>> read_asks("en")["greeting"][:2]
    ('hello', 'hi')
    """
    found: dict[str, list[str]] = {}
    subject = ""
    for line in (FOLDER / f"{lang}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            subject = line.removeprefix("# ")
            found[subject] = []
        elif line:
            found[subject].append(line)
    return {subject: tuple(phrases) for subject, phrases in found.items()}


ASKS = {lang: read_asks(lang) for lang in ("en", "zh")}
