"""The folder reader: whole folders open, broken ones say what, how many and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import base_config, write_checkpoint, write_safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_mlx import checkpoint as checkpoint_module
from qwen3_mlx.checkpoint import ITEM_BYTES, TensorInfo, open_checkpoint, read_header, read_json
from qwen3_mlx.errors import (
    CheckpointError,
    ModelNotFoundError,
    Qwen3Error,
    UnsupportedModelError,
)
from qwen3_mlx.loading import open_weights
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import check_shapes, expected_shapes

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("moe", [False, True])
def test_a_whole_folder(tmp_path: Path, shards: int, moe: bool) -> None:
    folder = write_checkpoint(tmp_path / "model", shards=shards, moe=moe)
    checkpoint = open_checkpoint(folder)
    shapes = expected_shapes(ModelConfig.from_dict(checkpoint.config))
    assert {name: info.shape for name, info in checkpoint.tensors.items()} == shapes
    assert checkpoint.weight_bytes == sum(info.nbytes for info in checkpoint.tensors.values())
    assert checkpoint.generation_config()["top_k"] == 20
    assert len({info.file for info in checkpoint.tensors.values()}) == shards


def test_offsets_are_absolute(tmp_path: Path) -> None:
    values = {name: np.full((2, 3), i, dtype=np.float32) for i, name in enumerate("abc")}
    write_safetensors(tmp_path / "model.safetensors", values)
    data = (tmp_path / "model.safetensors").read_bytes()
    for name, info in read_header(tmp_path / "model.safetensors").items():
        read = np.frombuffer(data[info.offset : info.offset + info.nbytes], np.float32)
        np.testing.assert_array_equal(read.reshape(info.shape), values[name])


def test_links_are_followed_as_the_hub_cache_has_them(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for file in folder.iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    assert open_checkpoint(tmp_path / "snapshot").tensors


def test_no_generation_config_is_empty(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (folder / "generation_config.json").unlink()
    assert open_checkpoint(folder).generation_config() == {}


def test_opening_imports_no_array_library(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    package = Path(checkpoint_module.__file__).parent
    code = (  # the package without its __init__, which imports the whole library
        "import sys, types\n"
        "sys.modules['qwen3_mlx'] = package = types.ModuleType('qwen3_mlx')\n"
        f"package.__path__ = [{str(package)!r}]\n"
        "from qwen3_mlx.checkpoint import open_checkpoint\n"
        f"open_checkpoint({str(folder)!r})\n"
        "print([name for name in ('mlx.core', 'numpy', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Each of these breaks a folder of three shards (or makes one of another kind).

Break = Callable[[Path], object]


def _edit_json(name: str, change: Callable[[Any], Any]) -> Break:
    def edit(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(value)))

    return edit


def _shard(folder: Path, number: int = 2) -> Path:
    return folder / f"model-{number:05d}-of-00003.safetensors"


def _cut(folder: Path) -> None:
    os.truncate(_shard(folder), _shard(folder).stat().st_size - 1000)


def _append(folder: Path) -> None:
    with _shard(folder).open("ab") as file:
        file.write(b"0123456")


def _header(change: Callable[[dict[str, Any]], Any]) -> Break:
    """Change the header of the second shard and leave its data."""

    def edit(folder: Path) -> None:
        data = _shard(folder).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        changed = change(header)
        text = changed if isinstance(changed, bytes) else json.dumps(header).encode()
        _shard(folder).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return edit


def _first(header: dict[str, Any]) -> dict[str, Any]:
    return header[next(name for name in header if name != "__metadata__")]


def _rename_weights(name: str) -> Break:
    def edit(folder: Path) -> None:
        (folder / INDEX).unlink()
        for file in folder.glob("*.safetensors"):
            file.unlink()
        (folder / name).write_bytes(b"x")

    return edit


def _overlap(header: dict[str, Any]) -> None:
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    size = entries[1]["data_offsets"][1] - entries[1]["data_offsets"][0]
    entries[1]["data_offsets"] = [0, size]


def _doubled(header: dict[str, Any]) -> bytes:
    text = json.dumps(header)
    entry = '"__metadata__": {"format": "pt"}'
    return text.replace(entry, f"{entry}, {entry}").encode()


def _point_at(shard: str) -> Break:
    def change(index: Any) -> Any:
        index["weight_map"]["model.norm.weight"] = shard
        return index

    return _edit_json(INDEX, change)


BROKEN: list[tuple[str, Break, type[Qwen3Error], list[str]]] = [
    ("no config", lambda f: (f / "config.json").unlink(), ModelNotFoundError,
     ["no config.json", "give a Hugging Face or MLX model folder"]),
    ("config is a list", lambda f: (f / "config.json").write_text("[1]"), CheckpointError,
     ["config.json", "JSON list", "again"]),
    ("config is not JSON", lambda f: (f / "config.json").write_text("{"), CheckpointError,
     ["config.json is not valid JSON", "again"]),
    ("config is not text", lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'),
     CheckpointError, ["config.json is not valid JSON", "again"]),
    ("nesting bomb", lambda f: (f / "config.json").write_text("[" * 200_000), CheckpointError,
     ["config.json is not valid JSON", "again"]),
    ("number bomb", lambda f: (f / "config.json").write_text('{"a":' + "9" * 9000 + "}"),
     CheckpointError, ["config.json is not valid JSON", "again"]),
    ("config is a folder", lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
     CheckpointError, ["config.json is not a regular file", "again"]),
    ("no weight_map", _edit_json(INDEX, lambda _: {"metadata": {}}), CheckpointError,
     ["has no weight_map", "again"]),
    ("shard missing", lambda f: _shard(f).unlink(), CheckpointError,
     ["1 of the 3 weight files", "model-00002-of-00003.safetensors", "finish the download"]),
    ("shard cut", _cut, CheckpointError,
     ["is cut short", "bytes and its header speaks of", "again"]),
    ("shard too long", _append, CheckpointError, ["is too long", "again"]),
    ("shard empty", lambda f: _shard(f).write_bytes(b""), CheckpointError,
     ["has 0 bytes", "again"]),
    ("shard is text", lambda f: _shard(f).write_text("version https://git-lfs.github.com"),
     CheckpointError, ["cut short or no safetensors file", "again"]),
    ("shard is a folder", lambda f: (_shard(f).unlink(), _shard(f).mkdir()), CheckpointError,
     ["is not a regular file", "again"]),
    ("shard is a pipe", lambda f: (_shard(f).unlink(), os.mkfifo(_shard(f))), CheckpointError,
     ["is not a regular file", "again"]),
    ("link loop", lambda f: (_shard(f).unlink(), _shard(f).symlink_to(_shard(f).name)),
     CheckpointError, ["model-00002", "download"]),
    ("traversal", _point_at("../secret.safetensors"), CheckpointError,
     ["'../secret.safetensors'", "not a plain .safetensors file name", "do not use"]),
    ("absolute", _point_at("/etc/passwd"), CheckpointError, ["'/etc/passwd'", "do not use"]),
    ("shard name is a number", _edit_json(INDEX, lambda _: {"weight_map": {"a": 3}}),
     CheckpointError, ["a into 3", "do not use"]),
    ("wrong shard", _point_at("model-00003-of-00003.safetensors"), CheckpointError,
     ["1 tensors into model-00003-of-00003.safetensors", "model.norm.weight", "again"]),
    ("header is a list", _header(lambda _: b"[]"), CheckpointError, ["JSON list", "again"]),
    ("header is no JSON", _header(lambda _: b"{]"), CheckpointError,
     ["is not valid JSON", "again"]),
    ("double key", _header(_doubled), CheckpointError, ["occurs twice", "again"]),
    ("dtype", _header(lambda h: _first(h).update(dtype="Q4_K")), CheckpointError,
     ["unknown dtype 'Q4_K'", "again"]),
    ("shape and bytes", _header(lambda h: _first(h).update(shape=[7, 3])), CheckpointError,
     ["shape [7, 3] needs 42", "again"]),
    ("negative shape", _header(lambda h: _first(h).update(shape=[-1, -64])), CheckpointError,
     ["no dtype, shape and range", "again"]),
    ("huge shape", _header(lambda h: _first(h).update(shape=[2**62, 2**62])), CheckpointError,
     ["needs", "again"]),
    ("reversed range", _header(lambda h: _first(h).update(data_offsets=[64, 0])),
     CheckpointError, ["-64 bytes", "again"]),
    ("entry is a number", _header(lambda h: h.update(odd=3)), CheckpointError,
     ["describes odd as 3", "again"]),
    ("overlap", _header(_overlap), CheckpointError, ["overlaps", "again"]),
    ("hole", _header(lambda h: h.pop(list(h)[2])), CheckpointError, ["leaves a hole", "again"]),
    ("pickles", _rename_weights("pytorch_model.bin"), CheckpointError,
     ["pytorch_model.bin", "never opened", "safetensors version"]),
    ("no weights", _rename_weights("notes.md"), CheckpointError,
     ["no model*.safetensors", "finish the download"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "error", "words"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_folders(
    tmp_path: Path, name: str, damage: Break, error: type[Qwen3Error], words: list[str]
) -> None:
    folder = write_checkpoint(tmp_path / "model", shards=3)
    damage(folder)
    with pytest.raises(error) as caught:
        open_checkpoint(folder)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    assert len(message) < 500


def test_no_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no folder .*`qwen3-mlx models`"):
        open_checkpoint(tmp_path / "nowhere")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match="is a file, not a model folder"):
        open_checkpoint(tmp_path / "model.gguf")


def test_a_tensor_in_two_files_without_an_index(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", shards=3)
    (folder / INDEX).unlink()
    assert len(open_checkpoint(folder).tensors) > 0
    _shard(folder, 1).rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-copy.safetensors").write_bytes(_shard(folder).read_bytes())
    with pytest.raises(CheckpointError, match=r"no model\.safetensors\.index\.json to say"):
        open_checkpoint(folder)


def test_a_file_of_no_tensors(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    write_safetensors(folder / "model.safetensors", {})
    with pytest.raises(CheckpointError, match="hold no tensors"):
        open_checkpoint(folder)


def test_json_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "big.json"
    file.touch()
    os.truncate(file, 100_000_001)
    with pytest.raises(CheckpointError, match="at most 20,000,000"):
        read_json(file)


def test_a_header_longer_than_the_bound(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((200_000_000).to_bytes(8, "little"))
    os.truncate(file, 300_000_000)  # sparse: takes no disk
    with pytest.raises(CheckpointError, match="a header of 200,000,000"):
        read_header(file)


@settings(max_examples=150)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_tensors_or_a_sentence(data: bytes) -> None:
    for file in (data, len(data).to_bytes(8, "little") + data):
        tensors = _header_or_sentence(file)
        assert tensors is None or _tiles(tensors, file)


_KIND = st.tuples(st.sampled_from(sorted(ITEM_BYTES)), st.lists(st.integers(0, 4), max_size=3))
_WRONG = st.sampled_from([-1, 1, 8, 2**70, True, "0", None])


@settings(max_examples=300)
@given(kinds=st.lists(_KIND, min_size=1, max_size=4), data=st.data())
def test_what_a_header_grants_lies_in_the_file(
    kinds: list[tuple[str, list[int]]], data: st.DataObject
) -> None:
    """A right header is taken; one number that is not right makes it a sentence, or still right."""
    header: dict[str, Any] = {}
    end = 0
    for number, (dtype, shape) in enumerate(kinds):
        begin, end = end, end + prod(shape) * ITEM_BYTES[dtype]
        header[f"t{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    tensors = _header_or_sentence(_file(header, end))
    assert tensors is not None
    assert list(tensors) == list(header)

    entry = header[data.draw(st.sampled_from(sorted(header)))]
    numbers = data.draw(st.sampled_from([entry["data_offsets"], entry["shape"]]))
    if numbers:
        place = data.draw(st.integers(0, len(numbers) - 1))
        wrong = data.draw(_WRONG)
        nudged = type(wrong) is int and type(numbers[place]) is int
        numbers[place] = numbers[place] + wrong if nudged else wrong
    file = _file(header, end + data.draw(st.sampled_from([0, 0, 1])))
    tensors = _header_or_sentence(file)
    assert tensors is None or _tiles(tensors, file)


def _file(header: dict[str, Any], size: int) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def _header_or_sentence(data: bytes) -> dict[str, TensorInfo] | None:
    """The tensors of a file, None where it is refused in a sentence."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        Path(file.name).write_bytes(data)
        try:
            return read_header(Path(file.name))
        except CheckpointError as error:
            said = str(error)
    assert "\n" not in said
    assert said.endswith("download or copy the folder again")
    return None


def _tiles(tensors: dict[str, TensorInfo], data: bytes) -> bool:
    """Whether tensors fill a file from the end of its header to its last byte."""
    position = 8 + int.from_bytes(data[:8], "little")
    for info in sorted(tensors.values(), key=lambda info: (info.offset, info.nbytes)):
        assert info.nbytes == prod(info.shape) * ITEM_BYTES[info.dtype]
        assert info.offset == position
        position += info.nbytes
    return position == len(data)


def test_a_double_key_is_found_at_once() -> None:
    """Among half a million keys, where looking for each among all would take hours."""
    text = ",".join(f'"{number}":0' for number in [*range(500_000), 499_999])
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        Path(file.name).write_text("{" + text + "}")
        with pytest.raises(CheckpointError, match="the key '499999' occurs twice"):
            read_json(Path(file.name))


def _shapes(**overrides: Any) -> tuple[ModelConfig, dict[str, tuple[int, ...]]]:
    config = ModelConfig.from_dict(base_config(moe=True, **overrides))
    return config, expected_shapes(config)


def test_shapes_follow_the_sparse_layers() -> None:
    _, shapes = _shapes(decoder_sparse_step=2)
    assert "model.layers.0.mlp.gate_proj.weight" in shapes
    assert shapes["model.layers.1.mlp.gate.weight"] == (8, 64)
    assert shapes["model.layers.1.mlp.experts.7.down_proj.weight"] == (64, 64)
    assert shapes["model.layers.1.self_attn.q_proj.weight"] == (128, 64)


def test_check_shapes_names_and_counts() -> None:
    config, shapes = _shapes()
    check_shapes(shapes, config)
    with pytest.raises(CheckpointError, match=r"1 of 102 tensors are missing.*model\.norm"):
        check_shapes({k: v for k, v in shapes.items() if k != "model.norm.weight"}, config)
    with pytest.raises(CheckpointError, match=r"2 tensors are not part.*3 layers.*extra"):
        check_shapes(shapes | {"extra": (1,), "more": (1,)}, config)
    with pytest.raises(CheckpointError, match=r"\[320, 65\], and config.json asks for \[320, 64\]"):
        check_shapes(shapes | {"lm_head.weight": (320, 65)}, config)


def test_weights_that_nobody_computes_with(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "model", dtype="F32") / "model.safetensors"
    entry = b'"model.norm.weight": {"dtype": "%s32"'
    file.write_bytes(file.read_bytes().replace(entry % b"F", entry % b"I"))
    with pytest.raises(UnsupportedModelError, match=r"model\.norm\.weight is stored as I32"):
        open_weights(tmp_path / "model")


def test_a_tied_model_may_carry_its_head() -> None:
    config, shapes = _shapes(tie_word_embeddings=True)
    assert "lm_head.weight" not in shapes
    check_shapes(shapes | {"lm_head.weight": (320, 64)}, config)
