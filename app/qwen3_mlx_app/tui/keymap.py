"""Which keys do what: the keys from the start, the person's own, and how a key is written.

What says a key on the screen asks here, so that a changed key changes its words too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwen3_mlx_app.tui.language import t

__all__ = ["DEFAULTS", "check", "display", "keys_of", "label", "problems", "say", "use"]

#: By the name that the settings file uses. macOS takes ^↑ and ^↓ for its own windows, so these
#: have a second key.
DEFAULTS: dict[str, str] = {
    "think": "ctrl+t", "answer_now": "ctrl+b", "more_thought": "ctrl+up,f4",
    "less_thought": "ctrl+down,f3", "retry": "ctrl+r", "go_on": "ctrl+g", "chats": "ctrl+o",
    "models": "ctrl+l", "settings": "ctrl+e", "new": "ctrl+n", "copy": "ctrl+y", "view": "ctrl+f",
    "help": "f1", "blocks": "alt+up", "quit": "ctrl+q",
}  # fmt: skip

#: Terminals send these as something else: tab, enter, backspace, esc; or the app lives by them.
_TAKEN = {
    "ctrl+i", "ctrl+m", "ctrl+h", "ctrl+left_square_bracket", "ctrl+j", "ctrl+p", "ctrl+c",
    "ctrl+z", "ctrl+v", "ctrl+x",
}  # fmt: skip
_SHAPE = re.compile(r"(?:ctrl|alt|super)\+(?:shift\+)?\w+|f(?:[1-9]|1\d|2[0-4])")
_SIGNS = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "enter": "⏎", "escape": "esc",
    "space": "␣", "tab": "⇥", "pageup": "pgup", "pagedown": "pgdn",
}  # fmt: skip

_chosen: dict[str, str] = {}


def use(keys: Mapping[str, str]) -> dict[str, str]:
    """Take the person's keys; returns the whole map, for `App.set_keymap`."""
    _chosen.clear()
    _chosen.update(keys)
    return {name: ",".join(keys_of(name)) for name in DEFAULTS}


def keys_of(name: str) -> list[str]:
    """The keys of an action, the first of which is shown."""
    return [key.strip() for key in _chosen.get(name, DEFAULTS[name]).split(",")]


def check(keys: str) -> str:
    """What is wrong with a text of one key or more; "" if nothing is.

    >>> check("f5,ctrl+k"), check("ctrl+i")
    ('', 'ctrl+i cannot be used')
    """
    if len(_set(keys)) < len(keys.split(",")):
        return t("{key} cannot be used", key=keys)
    for key in keys.split(","):
        if not _SHAPE.fullmatch(key.strip()) or key.strip() in _TAKEN:
            return t("{key} cannot be used", key=key.strip() or "?")
    return ""


def problems(chosen: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with keys from a file, by the name of the action.

    >>> problems({"think": "ctrl+r", "fly": "f5", "new": "x"})
    {'fly': 'no such action', 'new': 'x cannot be used', 'think': 'ctrl+r is the key of retry'}
    """
    wrong = {}
    for name, keys in chosen.items():
        if name not in DEFAULTS:
            wrong[name] = t("no such action")
        elif text := check(keys):
            wrong[name] = text
    while clash := _clash({name: keys for name, keys in chosen.items() if name not in wrong}):
        wrong.update(clash)  # who loses a key falls back to the first one, which may be taken
    return wrong


def _clash(good: Mapping[str, str]) -> dict[str, str]:
    """Those of the person's keys that another action has as well."""
    wrong = {}
    for name in good:
        for other, theirs in {**DEFAULTS, **good}.items():
            shared = _set(good[name]) & _set(theirs)
            if other != name and shared:
                wrong[name] = t("{key} is the key of {name}", key=min(shared), name=other)
    return wrong


def display(key: str) -> str:
    """A key as it is written on the screen.

    >>> display("ctrl+up"), display("f4"), display("alt+shift+a")
    ('^↑', 'F4', '⌥⇧a')
    """
    *modifiers, last = key.split("+")
    signs = {"ctrl": "^", "alt": "⌥", "shift": "⇧", "super": "⌘"}
    if re.fullmatch(r"f\d+", last):
        last = last.upper()
    return "".join(signs.get(each, each) for each in modifiers) + _SIGNS.get(last, last)


def label(name: str, every: bool = False) -> str:
    """The key of an action as it is written, or all its keys."""
    keys = keys_of(name) if every else keys_of(name)[:1]
    return " ".join(display(key) for key in keys)


def say(text: str, /, **values: object) -> str:
    """`t`, where `{retry}` and the like stand for the key of that action.

    >>> say("{go_on} continues, {retry} asks again")
    '^g continues, ^r asks again'
    """
    return t(text, **{name: label(name) for name in DEFAULTS}, **values)


def _set(keys: str) -> set[str]:
    return {key.strip() for key in keys.split(",")}
