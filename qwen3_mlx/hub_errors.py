"""Every way in which the hub fails, as one sentence with the next step."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

from qwen3_mlx.errors import HubError

__all__ = ["endpoint", "explain", "offline", "retry_after"]

_YES = ("1", "on", "yes", "true")
_DISK_GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOENT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def endpoint() -> str:
    """The address of the hub; HF_ENDPOINT overrides it, as everywhere."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline() -> bool:
    """Whether the environment forbids the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").lower() in _YES for name in names)


def explain(hub_id: str, where: str, error: BaseException) -> HubError:
    """The error to raise; `where` is the folder that was written to."""
    said = "; ".join(_reason(hub_id, where, error))
    return HubError(f"{hub_id} was not downloaded: {said}, or use `-m tiny`, which is built in")


def retry_after(error: BaseException) -> float | None:
    """Seconds after which the hub will answer again, if it said so.

    Sent as `Retry-After: 30`, or by the hub itself as `RateLimit: "resolvers";r=0;t=30`.
    """
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        return None
    stated = str(headers.get("Retry-After") or "").strip()
    if not stated:
        parts = str(headers.get("RateLimit") or "").split(";")
        stated = next((part.strip()[2:] for part in parts if part.strip().startswith("t=")), "")
    return float(stated) if stated.isdecimal() else None


def _reason(hub_id: str, where: str, error: BaseException) -> tuple[str, ...]:
    """What happened and what to do, from the most telling exception of the chain."""
    if isinstance(error, HubError):
        return (str(error),)
    from huggingface_hub import errors

    chain = list(_chain(error))
    for known in chain:
        if isinstance(known, errors.GatedRepoError):
            return (
                "the hub asks for consent first",
                f"accept its terms at {endpoint()}/{hub_id} and run `hf auth login`",
            )
        if isinstance(known, errors.RepositoryNotFoundError | errors.HFValidationError):
            return (
                "the hub has no such public model, and there is no folder of this name",
                "check the spelling (`qwen3-mlx models` lists names)",
            )
        if isinstance(known, errors.HfHubHTTPError):
            return _http_reason(known)
        if isinstance(known, OSError) and known.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk of {where} is full, what was downloaded is kept",
                "free space or set HF_HOME to a folder on another disk and run it again",
            )
        if isinstance(known, OSError) and known.errno in _DISK_GONE:
            return (
                f"the disk of {where} went away ({known.strerror}), what it holds is kept",
                "connect it and run the same command again",
            )
        if isinstance(known, OSError) and known.errno in _FORBIDDEN:
            return (
                f"{known.filename or where} cannot be written ({known.strerror})",
                "set HF_HOME to a folder of yours",
            )
    last = chain[-1]
    detail = str(last).strip().split("\n")[0] or type(last).__name__
    return (
        f"{endpoint()} cannot be reached or broke off ({detail})",
        "check the network and run the same command again, it goes on where it stopped",
    )


def _http_reason(error: Any) -> tuple[str, str]:
    status = getattr(getattr(error, "response", None), "status_code", "an error")
    if status == 429:
        wait = retry_after(error)
        when = "wait some minutes" if wait is None else f"wait {_minutes(wait)}"
        return (
            "the hub answered 429, too many requests",
            f"{when} and run the same command again, it goes on where it stopped",
        )
    if status in (401, 403, 404):
        return (
            f"the hub answered {status}, it shows no such model to you",
            "check the spelling, or run `hf auth login` if it is private",
        )
    return f"the hub answered {status}", "try again later, it goes on where it stopped"


def _minutes(seconds: float) -> str:
    if seconds <= 90:
        return f"{seconds:.0f} seconds"
    minutes = -(-seconds // 60)
    return f"{minutes:.0f} minutes" if minutes <= 90 else f"{-(-minutes // 60):.0f} hours"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
