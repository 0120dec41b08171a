"""Text that is safe to draw, and numbers the way the screen shows them."""

from __future__ import annotations

import json

from qwen3_mlx_app.tui.language import t

__all__ = [
    "cells",
    "clean",
    "compact_count",
    "gigabytes",
    "meter",
    "one_line",
    "plain_json",
    "seconds",
    "tokens",
    "tokens_per_second",
    "typed",
    "whole",
]

#: A model's (or a pasted) escape sequence must not reach the terminal, and Textual's Markdown
#: counts U+2028 and its like as line ends where the parser does not.
_UNSAFE: dict[int, int | None] = {
    code: None for code in (*range(32), 127, *range(128, 160)) if code not in (9, 10)
}
_UNSAFE.update(dict.fromkeys((11, 12, 133, 8232, 8233), 10))

_EIGHTHS = " ▏▎▍▌▋▊▉"


def whole(text: str) -> str:
    r"""Half a character, which a model's call or a file's name may hold, becomes a question mark.

    Neither a file nor a database takes one.

    >>> whole("a\ud800b")
    'a?b'
    """
    return text.encode("utf-8", "replace").decode()


def clean(text: str) -> str:
    """Drop control characters other than tab and newline.

    >>> clean("red: \\x1b[31mtext")
    'red: [31mtext'
    """
    return text.translate(_UNSAFE)


def typed(text: str) -> str:
    """A text that was pasted or put in: its lines end as typed ones do, and it is clean.

    >>> typed("one\\r\\ntwo\\rthree\\x1b[2J")
    'one\\ntwo\\nthree[2J'
    """
    return clean(text.replace("\r\n", "\n").replace("\r", "\n"))


def cells(text: str) -> int:
    """How many columns of the terminal a text takes: a Chinese character takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # a first start in English does without its tables

    return cell_len(text)


def one_line(text: str, width: int) -> str:
    """The text on one line of so many columns, cut with an ellipsis.

    >>> one_line("a short\\nline", 9), one_line("你好世界", 6)
    ('a short …', '你好…')
    """
    flat = " ".join(clean(text).split())
    if cells(flat) <= width:
        return flat
    room, end = width - 1, 0
    while end < len(flat) and (room := room - cells(flat[end])) >= 0:
        end += 1
    return flat[:end] + "…"


def plain_json(value: object) -> str:
    """JSON in which nothing hides: what is invisible, or turns the text round, is spelled out.

    >>> print(plain_json("a\\u202eb"), plain_json("两\\n"))
    "a\\u202eb" "两\\n"
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def compact_count(number: int) -> str:
    """3100 -> 3.1k, 32768 -> 32k: contexts are powers of two, so thousands of 1,024 from 10k on."""
    if number < 1_000:
        return str(number)
    if number < 10_000:
        return f"{number / 1000:.1f}k"
    return f"{number // 1024}k" if number % 1024 == 0 else f"{number / 1000:.0f}k"


def gigabytes(size: int) -> str:
    """Bytes as G with one decimal, or M below a tenth of one."""
    return f"{size / 1e9:.1f}G" if size >= 100_000_000 else f"{size / 1e6:.0f}M"


def seconds(value: float) -> str:
    """`0.4s`, `14s`, `2m 05s`."""
    if 0 < value < 1:
        return f"{max(value, 0.1):.1f}s"
    whole = int(value)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m {whole % 60:02d}s"


def tokens(number: int) -> str:
    """`1 token`, `1,204 tokens`, in the language of the interface."""
    return t("1 token") if number == 1 else t("{n:,} tokens", n=number)


def tokens_per_second(rate: float) -> str:
    """`74 tok/s`; slow models keep a decimal."""
    return f"{rate:,.0f} tok/s" if rate >= 10 else f"{rate:.1f} tok/s"


def meter(part: float, width: int = 8) -> tuple[str, str]:
    """A bar of eighths as (filled, empty), so that the two can have their own colours."""
    part = min(1.0, max(0.0, part))
    eighths = round(part * width * 8)
    filled = "█" * (eighths // 8)
    if eighths % 8:
        filled += _EIGHTHS[eighths % 8]
    return filled, " " * (width - len(filled))
