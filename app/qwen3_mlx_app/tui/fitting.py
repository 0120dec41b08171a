"""The models that the chat offers, each with the verdict that `qwen3-mlx fit` gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qwen3_mlx import hub
from qwen3_mlx.catalogue import entries
from qwen3_mlx.errors import Qwen3Error
from qwen3_mlx.fit import Fit
from qwen3_mlx.machines import Machine, this_machine
from qwen3_mlx.memory import parse_bytes
from qwen3_mlx_app.fit_subjects import Subject, judge, planned, stored

__all__ = ["Candidate", "candidate", "candidates"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be chosen. `load_name` is what to pass to the loader.

    `stored` says how its weights are kept, `judged` whether it fits; `partial` is the share of
    a download that is here.
    """

    name: str
    load_name: str
    stored: str
    weight_bytes: int
    judged: Fit
    here: bool
    partial: float = 0.0


def candidates(
    local: Iterable[tuple[str, Path]],
    unfinished: Iterable[tuple[str, int, int]] = (),
    limit: str = "",
    machine: Machine | None = None,
) -> list[Candidate]:
    """The models on this machine, then the ones of the catalogue that must be downloaded.

    Args:
        local: names and folders. What cannot be used cannot be chosen, and is left out.
        unfinished: downloads on the way: hub id, bytes that are here, bytes in all.
        limit: the most memory that a model may take, such as "10GB"; "" is no limit.
        machine: where they would run; by default this computer.
    """
    machine, most = machine or this_machine(), parse_bytes(limit) if limit else None
    begun = {hub_id.lower(): done / total for hub_id, done, total in unfinished if total}
    folders = [("tiny", hub.resolve("tiny")), *local]
    here = [found for name, folder in folders if (found := _stored(name, folder)) is not None]
    known = {subject.name.lower() for subject in here}
    models = [candidate(subject, machine, most) for subject in here]
    for entry in entries():
        hub_id = entry.hub_id.lower()
        if hub_id and hub_id not in known:  # it comes as it is published
            subject = planned(entry.name, entry.config, 16)
            models.append(candidate(subject, machine, most, begun.get(hub_id, 0.0)))
    return models


def candidate(
    subject: Subject, machine: Machine, limit: int | None = None, partial: float = 0.0
) -> Candidate:
    """A model held against a machine, of which it may take at most `limit` bytes."""
    folder, built_in = subject.folder, subject.folder == hub.resolve("tiny")
    return Candidate(
        name=subject.name,
        load_name=subject.name if folder is None or built_in else str(folder),
        stored="built in" if built_in else subject.stored,
        weight_bytes=subject.weight_bytes,
        judged=judge(subject, machine, None, limit=limit),
        here=folder is not None,
        partial=partial,
    )


def _stored(name: str, folder: Path) -> Subject | None:
    try:
        return stored(name, folder)
    except (Qwen3Error, OSError):
        return None
