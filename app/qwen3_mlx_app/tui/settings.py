"""What the app remembers between chats, in a TOML file that explains itself."""

from __future__ import annotations

import textwrap
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qwen3_mlx.interface import Sampling
from qwen3_mlx_app.tui import keymap

__all__ = ["CHOICES", "PRESETS", "Settings", "read_settings", "write_settings"]

#: Qwen's own settings for the two modes, from the model cards.
PRESETS: dict[str, Sampling] = {
    "model": Sampling(),
    "thinking": Sampling(temperature=0.6, top_p=0.95, top_k=20, min_p=0.0),
    "direct": Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0),
    "greedy": Sampling(temperature=0.0),
}

#: What each setting may be; the system prompt is free.
CHOICES: dict[str, tuple[Any, ...]] = {
    "language": ("auto", "en", "zh"),
    "theme": ("dark", "light"),
    "thoughts": ("fold", "open", "line"),
    "thinking": (True, False),
    "budget": (0, 512, 1024, 2048, 4096, 8192, 16384),
    "preset": tuple(PRESETS),
    "temperature": (-1.0, 0.0, 0.3, 0.6, 0.7, 1.0, 1.3),
    "max_tokens": (0, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    "context": (0, 4096, 8192, 16384, 32768, 65536, 131072),
    "memory_limit": ("", "4GB", "6GB", "8GB", "12GB", "16GB", "24GB", "32GB", "48GB", "64GB"),
}

_EXPLAINED = {
    "language": 'the interface: "auto" (as the system says), "en" or "zh"',
    "theme": '"dark" or "light"',
    "thoughts": 'what is seen of thoughts: "fold", "open" or "line"',
    "thinking": "whether the model thinks before it answers",
    "budget": "the most tokens of a thought; 0 is no limit",
    "preset": 'how tokens are drawn: "model" (the checkpoint decides), "thinking", "direct" '
    '(both from Qwen\'s model cards) or "greedy"',
    "temperature": "0 is greedy, higher is more varied; -1 leaves it to the preset",
    "max_tokens": "the most tokens of an answer, thought included; 0 is what the context leaves",
    "context": "tokens that a conversation may have; 0 is the model's own context, or 8192 under "
    "a memory limit. Used when a model is loaded",
    "memory_limit": 'at most so much memory, such as "10GB"; "" is no limit. Experts that do not '
    "fit stay on disk. Used when a model is loaded",
    "system": "the system prompt of new chats",
}

_KEYS_EXPLAINED = """\
# Other keys: an action and its keys, such as  think = "f5,ctrl+k".  What is not here keeps the
# key that it has:
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The values, with the defaults of a first start."""

    language: str = "auto"
    theme: str = "dark"
    thoughts: str = "fold"
    thinking: bool = True
    budget: int = 0
    preset: str = "model"
    temperature: float = -1.0
    max_tokens: int = 0
    context: int = 0
    memory_limit: str = ""
    system: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def sampling(self) -> Sampling:
        """The preset, with the temperature if one is set."""
        preset = PRESETS[self.preset]
        if self.temperature < 0:
            return preset
        return Sampling(self.temperature, preset.top_k, preset.top_p, preset.min_p)

    def memory(self) -> dict[str, Any]:
        """What `load` shall be told of memory; empty where the settings leave it open."""
        told = {"context": self.context, "memory_limit": self.memory_limit}
        return {name: value for name, value in told.items() if value}


def read_settings(path: Path) -> tuple[Settings, list[str]]:
    """The settings, and a line for each thing in the file that cannot be used."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings(), []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return Settings(), [f"{path}: {error}"]
    good: dict[str, Any] = {}
    bad = []
    kinds: dict[str, Any] = asdict(Settings())
    if isinstance(keys := values.pop("keys", {}), dict):
        chosen = {name: str(value) for name, value in keys.items()}
        wrong = keymap.problems(chosen)
        bad += [f"{path}: keys.{name} = {chosen[name]!r}: {why}" for name, why in wrong.items()]
        good["keys"] = {name: text for name, text in chosen.items() if name not in wrong}
    for name, value in values.items():
        if name in kinds and _fits(name, value, kinds[name]):
            good[name] = type(kinds[name])(value)
        else:
            bad.append(f"{path}: {name} = {value!r}")
    return Settings(**good), bad


def write_settings(path: Path, settings: Settings) -> None:
    """Write them with their explanations. Raises OSError where that cannot be done.

    A file that is no TOML, of which nothing was read, is kept beside it as settings.toml.bad.
    """
    lines = ["# Settings of `qwen3-mlx chat`. The app writes this file when ^e changes something."]
    for name, value in asdict(settings).items():
        if name != "keys":
            lines += ["", *_comment(_EXPLAINED[name]), f"{name} = {_toml(value)}"]
    lines += ["", "[keys]", *_KEYS_EXPLAINED.splitlines()]
    lines += [f"# {name} = {_toml(keys)}" for name, keys in keymap.DEFAULTS.items()]
    lines += [f"{name} = {_toml(keys)}" for name, keys in settings.keys.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _is_toml(path):
        path.replace(path.with_suffix(".toml.bad"))
    beside = path.with_suffix(".new")
    beside.write_text("\n".join(lines) + "\n", "utf-8")
    beside.replace(path)


def _is_toml(path: Path) -> bool:
    try:
        tomllib.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    except OSError:  # there is none, or it cannot be read and will tell so when it is replaced
        return True
    return True


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 90)]


def _fits(name: str, value: Any, default: Any) -> bool:
    """The right type, and a value that exists; numbers need not be one of the steps."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if name == "memory_limit":
        return isinstance(value, str) and (value == "" or _is_size(value))
    if isinstance(default, str):
        return isinstance(value, str) and value in CHOICES.get(name, (value,))
    if isinstance(default, int):
        return isinstance(value, int) and value >= 0
    return isinstance(value, (int, float)) and (value == -1 or 0 <= value <= 10)


def _is_size(text: str) -> bool:
    from qwen3_mlx.errors import OptionError
    from qwen3_mlx.memory import parse_bytes  # a third of a first frame's imports, seldom needed

    try:
        parse_bytes(text)
    except OptionError:
        return False
    return True


def _toml(value: Any) -> str:
    """A TOML value.

    >>> _toml('say "hi"\\nnow'), _toml(True), _toml(0.6)
    ('"say \\\\"hi\\\\"\\\\nnow"', 'true', '0.6')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    for character, code in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(character, code)
    spelled = (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in escaped)
    return f'"{"".join(spelled)}"'
