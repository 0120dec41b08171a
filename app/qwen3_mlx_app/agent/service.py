"""The agent as a service of the user's session: launchd on macOS, systemd elsewhere.

Nothing here needs rights of an administrator, and nothing starts for other users.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from qwen3_mlx import places
from qwen3_mlx.errors import OptionError
from qwen3_mlx.warm import place

__all__ = ["LABEL", "definition", "install", "installed_at", "uninstall"]

LABEL = "io.github.qwen3-mlx.agent"
_UNIT = "qwen3-mlx-agent.service"
#: What decides where models and files are, and how Python finds us.
_KEPT = (
    "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE",
    "PYTHONPATH", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME",
)  # fmt: skip


def installed_at() -> Path:
    """The file that tells the system about the agent."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "systemd" / "user" / _UNIT


def definition(arguments: Sequence[str]) -> bytes:
    """That file, for `qwen3-mlx` with these arguments."""
    command = [sys.executable, "-m", "qwen3_mlx_app.cli", *arguments]
    environment = {name: os.environ[name] for name in _KEPT if os.environ.get(name)}
    environment["QWEN3_MLX_HOME"] = os.path.abspath(places.home())
    if sys.platform == "darwin":
        return _plist(command, environment)
    return _unit(command, environment).encode()


def install(arguments: Sequence[str]) -> None:
    """Write the file and start the agent, now and at every login. Replaces an older one.

    Raises:
        OptionError: the system refuses.
    """
    path = installed_at()
    data = definition(arguments)
    try:
        place.make_folder()
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        os.replace(fresh, path)
    except (OSError, place.PlaceError) as error:
        raise OptionError(f"cannot install the agent: {error}") from error
    if sys.platform == "darwin":
        _launchctl("bootout", f"{_domain()}/{LABEL}", may_fail=True)
        _launchctl("bootstrap", _domain(), str(path))
    else:
        _systemctl("daemon-reload")
        _systemctl("enable", _UNIT)
        _systemctl("restart", _UNIT)


def uninstall() -> bool:
    """Stop the agent and remove the file; False if none was installed."""
    path = installed_at()
    if not path.exists():
        return False
    if sys.platform == "darwin":
        _launchctl("bootout", f"{_domain()}/{LABEL}", may_fail=True)
    elif shutil.which("systemctl"):
        _systemctl("disable", "--now", _UNIT, may_fail=True)
    path.unlink()
    return True


def _plist(command: Sequence[str], environment: dict[str, str]) -> bytes:
    import plistlib

    return plistlib.dumps({
        "Label": LABEL,
        "ProgramArguments": list(command),
        "EnvironmentVariables": environment,
        "RunAtLoad": True,
        # A fault starts it again, `agent stop` does not.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ProcessType": "Interactive",  # "Background" would be slowed down while it answers
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": os.path.join(place.folder(), "stderr.log"),
    })  # fmt: skip


def _unit(command: Sequence[str], environment: dict[str, str]) -> str:
    settings = "\n".join(
        f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(environment.items())
    )
    return f"""[Unit]
Description=Qwen3 kept warm for qwen3-mlx

[Service]
ExecStart={" ".join(map(_quoted, command))}
{settings}
Restart=on-failure
RestartSec=10

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """A word of a systemd unit: quoted, and safe from its specifiers and variables."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _launchctl(*words: str, may_fail: bool = False) -> None:
    _tell("launchctl", words, may_fail=may_fail)


def _systemctl(*words: str, may_fail: bool = False) -> None:
    if not shutil.which("systemctl"):
        raise OptionError(
            f"there is no systemctl; {installed_at()} was written. Start the agent with "
            "`qwen3-mlx agent run &` instead"
        )
    _tell("systemctl", ("--user", *words), may_fail=may_fail)


def _tell(program: str, words: Sequence[str], *, may_fail: bool) -> None:
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise OptionError(f"{program} {words[0]} failed: {error}") from error
    if done.returncode and not may_fail:
        why = done.stderr.strip() or f"exit status {done.returncode}"
        raise OptionError(
            f"{program} {' '.join(words)} failed: {why}; {installed_at()} was written, and "
            "`qwen3-mlx agent run` works without it"
        )
