"""The language of the interface. English text is the key; chinese.py has the translations.

Only what is drawn is translated: bindings and commands hold English, and the widgets that draw
them call `t`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["LANGUAGES", "chosen", "system_language", "t", "use"]

LANGUAGES = ("en", "zh")

_current = "en"
_words: Mapping[str, str] = {}


def system_language(environment: Mapping[str, str] | None = None) -> str:
    """The language that the system's locale asks for, English unless it is Chinese.

    >>> system_language({"LANG": "zh_CN.UTF-8"}), system_language({"LANG": "de_DE"})
    ('zh', 'en')
    """
    environment = os.environ if environment is None else environment
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def use(language: str) -> None:
    """Draw in this language from now on: "en", "zh", or "auto" for the system's."""
    global _current, _words
    _current = language if language in LANGUAGES else system_language()
    if _current == "zh":
        from qwen3_mlx_app.tui.chinese import WORDS

        _words = WORDS
    else:
        _words = {}


def chosen() -> str:
    """The language in use."""
    return _current


def t(text: str, /, **values: object) -> str:
    """The text in the language in use, with `{names}` filled in.

    >>> t("Kept: {n:,} tokens", n=1200)
    'Kept: 1,200 tokens'
    """
    text = _words.get(text, text)
    return text.format(**values) if values else text
