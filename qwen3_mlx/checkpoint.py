"""The one reader of a model folder: config.json, the index and the safetensors headers.

Everything that can be known without reading a weight is checked here, before any memory is
taken: shards that are missing or cut short, tensors that overlap or whose bytes do not fit
their shape, an index that names what is not there. Loading and converting both start from
the `Checkpoint` that comes out, and read tensors by its absolute byte ranges.

A safetensors file is 8 bytes of header length (little endian), that many bytes of JSON, and
the tensors back to back (https://github.com/huggingface/safetensors, "Format").

Neither mlx nor numpy is imported, and no code that comes with a checkpoint (`auto_map`) is
ever looked at.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from qwen3_mlx.errors import CheckpointError, ModelNotFoundError

__all__ = [
    "INDEX",
    "ITEM_BYTES",
    "Checkpoint",
    "TensorInfo",
    "model_name",
    "open_checkpoint",
    "read_config",
    "read_header",
    "read_json",
    "short",
]

#: More JSON than this is no header and no config: the index of 480B in FP8 has about 7 MB.
JSON_LIMIT = 20_000_000

#: So many commas and brackets are more than a model has tensors to speak of: each may cost a
#: hundred bytes of memory when it is read.
_PARTS_LIMIT = 2_000_000

INDEX = "model.safetensors.index.json"

#: Bytes of one element, by the names that safetensors headers use.
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip

#: How weight files are called, so that one too many can be told from a file of another kind.
_SHARD = re.compile(r"model(-\d+-of-\d+)?\.safetensors")

_AGAIN = "download or copy the folder again"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `nbytes` bytes from the absolute `offset` of `file`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder whose files agree with each other. `config` is config.json as it stands."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors together, as stored."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def generation_config(self) -> dict[str, Any]:
        """generation_config.json, or an empty dict where there is none.

        Raises:
            CheckpointError: the file is there, but is not a JSON object.
        """
        path = self.path / "generation_config.json"
        return read_json(path) if os.path.exists(path) else {}


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and check a model folder; no weight is read.

    >>> import tempfile
    >>> open_checkpoint(tempfile.gettempdir() + "/no-such-folder")
    Traceback (most recent call last):
        ...
    qwen3_mlx.errors.ModelNotFoundError: no folder ...

    Raises:
        ModelNotFoundError: there is no such folder, or it holds no model.
        CheckpointError: a file of it is missing, cut short or contradicts another.
    """
    folder = Path(path)
    config = read_config(folder)
    index = folder / INDEX
    tensors = _by_index(folder, index) if os.path.exists(index) else _by_files(folder)
    if not tensors:
        raise CheckpointError(f"the weight files of {folder} hold no tensors: {_AGAIN}")
    if "embed_tokens.weight" in tensors:
        # A decoder without a head, as Qwen3-Embedding: what is tied takes no tensor of its own.
        config = {**config, "tie_word_embeddings": True}
        tensors = {model_name(name): info for name, info in tensors.items()}
    return Checkpoint(folder, config, tensors)


def model_name(stored: str) -> str:
    """What a tensor is called here: checkpoints of a decoder alone leave the "model." out.

    >>> model_name("layers.0.mlp.up_proj.weight"), model_name("lm_head.weight")
    ('model.layers.0.mlp.up_proj.weight', 'lm_head.weight')
    """
    return ("model." if stored.startswith(("embed_tokens.", "layers.", "norm.")) else "") + stored


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder, before anything is known of its weights.

    Raises:
        ModelNotFoundError: there is no such folder, or it has no config.json.
        CheckpointError: config.json is not a JSON object.
    """
    _check_folder(folder)
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 20 MB.

    Raises:
        CheckpointError: the file cannot be read, or is not a JSON object.
    """
    try:
        size = _regular(path).st_size
        if size > JSON_LIMIT:
            raise CheckpointError(
                f"{path} has {size:,} bytes; a JSON file of a model has at most {JSON_LIMIT:,}"
            )
        return _json_object(path.read_bytes(), str(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {_AGAIN}") from error


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file, from its header alone.

    Raises:
        CheckpointError: the header is damaged, or the file is not as long as it says.
    """
    try:
        return _read_header(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}): {_AGAIN}"
        ) from error


def _regular(path: Path) -> os.stat_result:
    """The status of a file that can be read to its end: no pipe, no device."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path} is not a regular file: {_AGAIN}")
    return status


def _check_folder(folder: Path) -> None:
    """The cases that mean "this is not a model folder", each with its own next step."""
    if not os.path.exists(folder):  # no error where a parent may not be read
        raise ModelNotFoundError(
            f"no folder {folder}: check the path, or run `qwen3-mlx models` for names"
        )
    if not os.path.isdir(folder):
        raise ModelNotFoundError(
            f"{folder} is a file, not a model folder: give the folder that holds its config.json"
        )
    if not os.path.exists(folder / "config.json"):
        raise ModelNotFoundError(
            f"{folder} has no config.json, so it is not a model folder: "
            "give a Hugging Face or MLX model folder"
        )


def _by_index(folder: Path, index: Path) -> dict[str, TensorInfo]:
    """The tensors that the index names, each from the shard that it names."""
    shards = _index_shards(index)
    missing = [name for name in shards if not os.path.exists(folder / name)]
    if missing:
        raise CheckpointError(
            f"{len(missing)} of the {len(shards)} weight files that {INDEX} names are not in "
            f"{folder}: {_some(missing)}; finish the download, then try again"
        )
    _refuse_strays(folder, set(shards))
    tensors: dict[str, TensorInfo] = {}
    unnamed: dict[str, set[str]] = {}
    for shard, names in shards.items():
        header = read_header(folder / shard)
        absent = [name for name in names if name not in header]
        if absent:
            raise CheckpointError(
                f"{INDEX} puts {len(absent)} tensors into {shard} that are not there: "
                f"{_some(absent)}; the files are of different versions, {_AGAIN}"
            )
        tensors.update((name, header[name]) for name in names)
        unnamed.update({shard: header.keys() - set(names)} if len(header) > len(names) else {})
    for shard, left in unnamed.items():
        raise CheckpointError(
            f"{shard} has {len(left)} tensors that {INDEX} does not put there: "
            f"{_some(sorted(left))}; the files are of different versions, {_AGAIN}"
        )
    return tensors


def _refuse_strays(folder: Path, named: set[str]) -> None:
    """Shards beside the ones of the index are of another version, and either may be the right."""
    found = {path.name for path in folder.glob("model*.safetensors") if _SHARD.fullmatch(path.name)}
    strays = sorted(found - named)
    if strays:
        raise CheckpointError(
            f"{folder} has {len(strays)} weight files that {INDEX} does not name: "
            f"{_some(strays)}; remove them, or {_AGAIN}"
        )


def _index_shards(index: Path) -> dict[str, list[str]]:
    """Tensor names by shard, in the order of the index."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map: {_AGAIN}")
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        if not _plain_file_name(shard):
            raise CheckpointError(
                f"{index} puts {name} into {shard!r}, which is not a plain .safetensors file "
                "name: do not use this folder, it may have been tampered with"
            )
        shards.setdefault(shard, []).append(name)
    return shards


def _by_files(folder: Path) -> dict[str, TensorInfo]:
    """The tensors of a folder without an index: model.safetensors, or all model*.safetensors."""
    single = folder / "model.safetensors"
    files = [single] if single.exists() else sorted(folder.glob("model*.safetensors"))
    if not files:
        raise _no_weights(folder)
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in tensors:
                raise CheckpointError(
                    f"{name} is in {tensors[name].file.name} and in {file.name}, and there is "
                    f"no {INDEX} to say which counts: {_AGAIN}"
                )
            tensors[name] = tensor
    return tensors


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(file.name for file in folder.glob("*.bin")) + sorted(
        file.name for file in folder.glob("*.pt*")
    )
    if pickles:
        return CheckpointError(
            f"{folder} has its weights only as pickle files ({_some(pickles)}), which can run "
            "code and are never opened: get the safetensors version of this model"
        )
    return CheckpointError(
        f"{folder} has a config.json but no model*.safetensors: finish the download, then try again"
    )


def _read_header(path: Path) -> dict[str, TensorInfo]:
    status = _regular(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if status.st_size < 8 or length > status.st_size - 8 or length > JSON_LIMIT:
            raise CheckpointError(
                f"{path} has {status.st_size:,} bytes and a header of {length:,}, so it is cut "
                f"short or no safetensors file: {_AGAIN}"
            )
        header = _json_object(file.read(length), f"the header of {path}")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, 8 + length, name, entry) for name, entry in header.items()}
    _check_ranges(path, 8 + length, status.st_size, tensors)
    return tensors


def _tensor(path: Path, start: int, name: str, entry: Any) -> TensorInfo:
    """One entry of a header, checked against itself. `start` is where the data begins."""
    fields = entry if isinstance(entry, dict) else {}
    dtype: Any = fields.get("dtype")
    shape = _counts(fields.get("shape"))
    offsets = _counts(fields.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2 or not isinstance(dtype, str):
        raise CheckpointError(
            f"the header of {path} describes {name} as {short(entry)}, which is no dtype, "
            f"shape and range: {_AGAIN}"
        )
    if dtype not in ITEM_BYTES:
        raise CheckpointError(f"{name} in {path} has the unknown dtype {short(dtype)}: {_AGAIN}")
    begin, end = offsets
    needed = prod(shape) * ITEM_BYTES[dtype]
    if end - begin != needed:
        raise CheckpointError(
            f"{name} in {path} has {end - begin:,} bytes, but {dtype} of shape "
            f"{short(list(shape))} needs {needed:,}: {_AGAIN}"
        )
    return TensorInfo(path, dtype, shape, start + begin, needed)


def _check_ranges(path: Path, start: int, size: int, tensors: dict[str, TensorInfo]) -> None:
    """The tensors must tile the rest of the file: no overlap, no hole, no byte too few or many."""
    position = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if tensor.offset != position:
            kind = "overlaps the tensor before it" if tensor.offset < position else "leaves a hole"
            raise CheckpointError(
                f"{name} in {path} starts at byte {tensor.offset:,} where {position:,} was "
                f"expected: it {kind}; {_AGAIN}"
            )
        position += tensor.nbytes
    if size != position:
        state = "cut short" if size < position else "too long"
        raise CheckpointError(
            f"{path} is {state}: it has {size:,} bytes and its header speaks of {position:,}; "
            f"{_AGAIN}"
        )


def _json_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse an object; nesting bombs, bad UTF-8, endless numbers and double keys are refused."""
    parts = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if parts > _PARTS_LIMIT:
        raise CheckpointError(f"{where} has {parts:,} parts, more than any model: {_AGAIN}")
    try:
        value = json.loads(data, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not valid JSON ({error}): {_AGAIN}") from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{where} is a JSON {type(value).__name__} and not an object: {_AGAIN}"
        )
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        ((double, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {short(double)} occurs twice")
    return value


def _counts(value: Any) -> tuple[int, ...] | None:
    """A list of whole numbers that are not negative, else None."""
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return tuple(value)
    return None


def _plain_file_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name.endswith(".safetensors")
        and not any(character in name for character in "/\\\0")
        and name != ".safetensors"
    )


def short(value: Any, limit: int = 80) -> str:
    """What a file has in place of something sensible, for an error of one line."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _some(names: Iterable[str], limit: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
