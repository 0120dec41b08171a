"""Prefixes on disk: a system prompt or a document is read once, for all processes to come.

    <key>-<tokens>-<digest>.prefix
        key      of the model's weights and of how its KV cache is kept
        digest   of the token ids

A file is a line that names the format, the length of a header, the header as JSON, the arrays
back to back, and the SHA-256 of all before it. A file that is not exactly what is expected is
refused: the text is read again, and nothing is ever said from wrong keys and values.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx

from qwen3_mlx.catalogue import format_bytes
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.kv import KVCache, Layers
from qwen3_mlx.engine.request import DrawRule, Request, RequestStats
from qwen3_mlx.errors import EngineError, OptionError, Qwen3Error
from qwen3_mlx.events import FinishReason
from qwen3_mlx.experts.store import identity_of
from qwen3_mlx.loading import Weights
from qwen3_mlx.model.config import ModelConfig

__all__ = ["PrefixStore", "SavedPrefixError", "SavedPrefixes", "fingerprint"]

_MAGIC = b"qwen3-mlx prefix 1\n"
_PARTIAL = ".partial"
_ABANDONED_SECONDS = 3600  # nobody writes for so long without a change of the file
_SAMPLES, _SAMPLE_BYTES = 4, 1024


class SavedPrefixError(Qwen3Error):
    """A saved prefix is damaged or belongs to another model or text, or it cannot be written."""


class PrefixStore:
    """The saved prefixes of one model, in a folder that models share.

    Args:
        folder: made when the first file is written.
        model: the model's `fingerprint`.
        config: the model as it runs, stretched and packed or not.
        dtype: of its activations.
    """

    def __init__(self, folder: Path, model: str, config: ModelConfig, dtype: mx.Dtype) -> None:
        self.folder, self._config, self._dtype = folder, config, dtype
        kept = f"{dtype} {config.kv_bits} {config.kv_group} {config.yarn}"
        self._key = hashlib.sha256(f"{model} {kept}".encode()).hexdigest()[:32]

    def find(self, ids: Sequence[int]) -> int:
        """How many of the first ids are the longest saved prefix; 0 if there is none."""
        saved = self._lengths(len(ids))
        return max((known for known in saved if self._path(ids[:known]).exists()), default=0)

    def read(self, ids: Sequence[int]) -> KVCache:
        """The cache of exactly these ids; on the engine thread.

        Raises:
            SavedPrefixError: the file cannot be read, or is damaged or foreign and was removed.
        """
        path = self._path(ids)
        try:
            with open(path, "rb") as file:
                layers = self._parse(file, ids)
            with contextlib.suppress(OSError):  # of somebody else, or on a disk that only reads
                os.utime(path)  # used now: others go first
        except OSError as error:  # perhaps of this moment or this user only
            raise SavedPrefixError(
                f"a saved prefix of {len(ids):,} tokens could not be read "
                f"({error.strerror or error}); the text is read again"
            ) from error
        except (ValueError, KeyError, TypeError, SavedPrefixError) as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise SavedPrefixError(
                f"a saved prefix of {len(ids):,} tokens could not be used and was removed "
                f"({error}); the text is read again"
            ) from error
        return KVCache.of(self._config, [layers], len(ids), len(ids), step=1)

    def write(self, ids: Sequence[int], kv: KVCache, limit: int) -> None:
        """Store a cache of exactly these ids, and let the oldest files go above the limit.

        On the engine thread. The file appears whole or not at all.

        Raises:
            OptionError: the prefix alone is larger than the limit, bytes.
            SavedPrefixError: the disk does not take it.
        """
        size = kv.bytes_per_token * len(ids)
        if size > limit:
            raise OptionError(
                f"the prefix takes {format_bytes(size)} and {format_bytes(limit)} may be kept: "
                "save a shorter one, or keep more"
            )
        try:
            self._write(ids, self._bytes(ids, kv.piece(0, len(ids))))
            self._shrink(limit, self._path(ids))
        except OSError as error:
            raise SavedPrefixError(
                f"a prefix of {format_bytes(size)} could not be saved in {self.folder} "
                f"({error.strerror or error}): check the disk and its rights, then save it again"
            ) from error

    def _write(self, ids: Sequence[int], parts: Iterable[bytes | memoryview]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        handle, partial = tempfile.mkstemp(dir=self.folder, suffix=_PARTIAL)
        try:
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self._path(ids))
        except BaseException:
            os.unlink(partial)
            raise

    def _sweep(self) -> None:
        """Remove what processes that were killed while they wrote have left."""
        for path in self.folder.glob(f"*{_PARTIAL}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def _path(self, ids: Sequence[int]) -> Path:
        """The file of exactly these ids."""
        return self.folder / f"{self._key}-{len(ids)}-{_digest(ids)[:32]}.prefix"

    def _lengths(self, most: int) -> set[int]:
        """How many tokens the saved prefixes of this model have, those of more left out."""
        found = (path.name.split("-")[1] for path in self.folder.glob(f"{self._key}-*.prefix"))
        return {int(each) for each in found if each.isdecimal() and int(each) <= most}

    def _header(self, ids: Sequence[int]) -> bytes:
        """All that must agree; the shapes follow from it."""
        values = {"key": self._key, "tokens": len(ids), "ids": _digest(ids)}
        return json.dumps(values, sort_keys=True).encode()

    def _shapes(self, tokens: int) -> list[tuple[mx.Dtype, tuple[int, ...]]]:
        """The arrays of one layer."""
        config = self._config
        lead = (1, config.kv_heads, tokens)
        if config.kv_bits is None:
            return [(self._dtype, (*lead, config.head_dim))] * 2
        half = mx.float16 if self._dtype == mx.float32 else self._dtype
        scale = half, (*lead, config.head_dim // config.kv_group)
        return [(mx.uint32, (*lead, config.head_dim * config.kv_bits // 32)), scale, scale] * 2

    def _bytes(self, ids: Sequence[int], layers: Layers) -> Iterator[bytes | memoryview]:
        import numpy as np

        header, checksum = self._header(ids), hashlib.sha256()
        parts = (np.asarray(each.view(mx.uint8)).data for arrays in layers for each in arrays)
        for part in (_MAGIC, len(header).to_bytes(8, "little"), header):
            checksum.update(part)
            yield part
        for view in parts:
            checksum.update(view)
            yield view
        yield checksum.digest()

    def _parse(self, file: BinaryIO, ids: Sequence[int]) -> Layers:
        import numpy as np

        checksum, expected = hashlib.sha256(), self._header(ids)

        def take(size: int) -> bytes:
            part = file.read(size)
            if len(part) != size:
                raise SavedPrefixError("the file is cut short")
            checksum.update(part)
            return part

        if take(len(_MAGIC)) != _MAGIC:
            raise SavedPrefixError("it is of another format")
        if take(8) != len(expected).to_bytes(8, "little") or take(len(expected)) != expected:
            raise SavedPrefixError("it belongs to another model or text")
        layers: Layers = []
        for _ in range(self._config.layers):
            arrays = []
            for dtype, shape in self._shapes(len(ids)):
                size = dtype.size
                for axis in shape:
                    size *= axis
                flat = mx.array(np.frombuffer(take(size), np.uint8))
                arrays.append(flat.view(dtype).reshape(shape))
            layers.append(tuple(arrays))
        if file.read() != checksum.digest():
            raise SavedPrefixError("its checksum is wrong")
        mx.eval([each for arrays in layers for each in arrays])
        return layers

    def _shrink(self, limit: int, newest: Path) -> None:
        """Files of all models count; those not used for longest go first."""
        found = []
        for path in self.folder.glob("*.prefix"):
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append((path == newest, state.st_mtime, state.st_size, path))
        total = sum(size for _, _, size, _ in found)
        for is_newest, _, size, path in sorted(found):
            if total <= limit or is_newest:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


class SavedPrefixes:
    """The store of a loaded model, beside its engine. Any thread may call it."""

    def __init__(self, engine: Engine, parts: Weights, folder: Path) -> None:
        self._engine, self._parts, self._folder = engine, parts, folder
        self._store: PrefixStore | None = None

    def restore(self, prompt: Sequence[int]) -> list[str]:
        """Bring the saved beginning of a prompt into memory; what is to be said about it."""
        engine = self._engine
        if not engine.prefix_bytes or not any(self._folder.glob("*.prefix")):
            return []
        try:
            store = self._opened()
            found = list(prompt[: store.find(prompt)])
            most = min(len(found), self._room())  # the tree keeps no more, however often it is read
            if engine.call(lambda: engine.prefixes.length(found)) < most:
                engine.call(lambda: engine.prefixes.put(found, store.read(found)))
        except SavedPrefixError as error:
            return [str(error)]
        return []

    def save(self, ids: Sequence[int], limit: int) -> None:
        """Read the ids, or take them from what has been read, and store them.

        Raises:
            OptionError: nothing is kept in memory, or not as much as these ids need.
            SavedPrefixError: the disk does not take it, or the model's files have changed.
        """
        engine, store = self._engine, self._opened()
        if store.find(ids) == len(ids):  # a file that proves bad is removed when it is read
            return
        reader = _Reader()
        engine.submit(Request(ids, DrawRule(), reader, max_tokens=1))
        reader.wait()

        def write() -> int:
            kv = engine.prefixes.take(ids, len(ids))
            if kv is not None and kv.length == len(ids):
                store.write(ids, kv, limit)
            return 0 if kv is None else kv.length

        if (held := engine.call(write)) < len(ids):
            raise OptionError(
                f"the prefix has {len(ids):,} tokens and there is room for {held:,} in memory: "
                "load the model with a larger prefix_cache"
            )

    def _room(self) -> int:
        """Tokens of one text that memory may keep."""
        model = self._engine.model
        token_bytes = model.config.kv_bytes_per_token(model.dtype.size)
        return self._engine.prefix_bytes // token_bytes

    def _opened(self) -> PrefixStore:
        if self._store is None:
            model = self._engine.model
            try:
                mark = fingerprint(self._parts)
            except OSError as error:
                raise SavedPrefixError(
                    "saved prefixes are left aside, because the model's files cannot be read any "
                    f"more ({error.strerror or error}): load it again"
                ) from error
            self._store = PrefixStore(self._folder, mark, model.config, model.dtype)
        return self._store


class _Reader:
    """A listener that waits for the end."""

    def __init__(self) -> None:
        self._end: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def wait(self) -> None:
        if (error := self._end.get()) is not None:
            raise error

    def prefill(self, done: int, total: int) -> None: ...

    def token(self, token: int) -> None: ...

    def finished(self, reason: FinishReason, stats: RequestStats) -> None:
        self._end.put(EngineError("the model was closed") if reason == "cancelled" else None)

    def failed(self, error: Exception) -> None:
        self._end.put(error)


def fingerprint(parts: Weights) -> str:
    """A digest by which a model is known again: its config, its tensors, samples of their bytes.

    Reading every weight would take as long as reading the text. Fine-tuning changes the whole
    of a tensor, so four samples of each tell. Files are read here that were read before, when
    the model was loaded, and must still be the same.

    Raises:
        SavedPrefixError: a weight file has changed since the model was opened.
        OSError: one cannot be read.
    """
    digest = hashlib.sha256(json.dumps(parts.checkpoint.config, sort_keys=True).encode())
    if parts.records is not None:  # its manifest has a checksum of every expert
        digest.update(json.dumps(parts.records.raw, sort_keys=True).encode())
    files: dict[Path, int] = {}
    try:
        for name, info in sorted(parts.checkpoint.tensors.items()):
            digest.update(f"{name} {info.dtype} {info.shape}".encode())
            handle = files.get(info.file)
            if handle is None:
                handle = files[info.file] = os.open(info.file, os.O_RDONLY)
            last = max(0, info.nbytes - _SAMPLE_BYTES)
            for part in range(_SAMPLES):
                place = info.offset + last * part // (_SAMPLES - 1)
                digest.update(os.pread(handle, min(_SAMPLE_BYTES, info.nbytes), place))
        for path, handle in files.items():  # after the last sample
            if identity_of(handle) != parts.files[path]:
                raise SavedPrefixError(
                    f"saved prefixes are left aside, because {path} was changed or replaced after "
                    "the model was loaded: load it again"
                )
    finally:
        for handle in files.values():
            os.close(handle)
    return digest.hexdigest()


def _digest(ids: Sequence[int]) -> str:
    return hashlib.sha256(array("I", ids).tobytes()).hexdigest()
