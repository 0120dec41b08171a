"""What converting a model that is not here would do, from the catalogue's numbers alone.

Qwen publishes its models in bf16 with the names and shapes of the plain layout, so the plan of
`convert` can be made without a file of theirs. Nothing is downloaded, and no hub is asked.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

from qwen3_mlx import hub
from qwen3_mlx.catalogue import Entry, find, format_bytes
from qwen3_mlx.checkpoint import Checkpoint, TensorInfo
from qwen3_mlx.errors import ModelNotFoundError
from qwen3_mlx.model.shapes import expected_shapes
from qwen3_mlx_convert.pipeline import Preview, existing, forecast
from qwen3_mlx_convert.plan import make_plan
from qwen3_mlx_convert.quantize import Recipe
from qwen3_mlx_convert.transaction import journal_of, refuse_existing

__all__ = ["Absent", "known", "preview_absent"]


@dataclass(frozen=True, slots=True)
class Absent:
    """The forecast of the conversion, and of the download before it.

    `download_bytes` are the weights that are still to come into `cache`, whose disk has
    `free_bytes`; `same_disk` says whether the result goes there too.
    """

    forecast: Preview
    download_bytes: int
    cache: Path
    free_bytes: int
    same_disk: bool

    @property
    def fits(self) -> bool:
        """Whether there is room for both."""
        written = self.forecast.target_bytes if self.same_disk else 0
        return self.forecast.fits and self.download_bytes + written <= self.free_bytes

    @property
    def words(self) -> str:
        """For people: what would be downloaded, and whether there is room."""
        return (
            f"it is not here: without --dry-run {format_bytes(self.download_bytes)} of weights "
            f"are downloaded first, into {self.cache}; {format_bytes(self.free_bytes)} free, "
            + ("enough" if self.fits else "not enough")
            + (" for both" if self.same_disk else "")
        )


def known(name: str) -> Entry:
    """The catalogue's entry of a model that is not here.

    Raises:
        ModelNotFoundError: it has none, so that nothing is known of it before a download.
    """
    entry = find(name)
    if entry is None:
        raise ModelNotFoundError(
            f"{name} is not here, and its sizes are not known before it is: pull it first, "
            f"`qwen3-mlx pull {name}`"
        )
    return entry


def preview_absent(entry: Entry, target: Path, recipe: Recipe, calibrate: bool = False) -> Absent:
    """As `pipeline.preview`, for a model that is still at the hub.

    Raises:
        OutputExistsError: `target` is there already.
    """
    if not journal_of(target).exists():
        refuse_existing(target)
    config, cache = entry.config, hub.cache_dir()
    plan = make_plan(_published(entry), config, recipe)
    disk, cache_disk = existing(target.absolute().parent), existing(cache)
    begun = {hub_id: total - done for hub_id, done, total in hub.unfinished_downloads()}
    return Absent(
        forecast=forecast(config, plan, target, calibrate),
        download_bytes=begun.get(entry.hub_id, plan.source_bytes),
        cache=cache,
        free_bytes=shutil.disk_usage(cache_disk).free,
        same_disk=os.stat(disk).st_dev == os.stat(cache_disk).st_dev,
    )


def _published(entry: Entry) -> Checkpoint:
    """The headers that Qwen's files have."""
    folder = Path(entry.hub_id)
    tensors = {
        name: TensorInfo(folder / "model.safetensors", "BF16", shape, 0, 2 * prod(shape))
        for name, shape in expected_shapes(entry.config).items()
    }
    return Checkpoint(folder, {"model_type": entry.config.model_type}, tensors)
