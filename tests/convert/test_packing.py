"""Records: exact inverses, refusals, and what stays when something goes wrong."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from experts.moe_models import decode_logits, resident, streamed

import qwen3_mlx
from qwen3_mlx.errors import (
    CheckpointError,
    ExpertReadError,
    OutputExistsError,
    UnsupportedModelError,
)
from qwen3_mlx.experts.records import MANIFEST, open_records
from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert
from qwen3_mlx_convert import packing as packing_module
from qwen3_mlx_convert.packing import pack_folder, unpack_folder
from qwen3_mlx_convert.records import check_records
from qwen3_mlx_convert.verify import verify

PROMPT = [(5 * n) % 300 for n in range(70)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("packing") / "hf", moe=True, dtype="F32", tokenizer=True
    )


@pytest.fixture(scope="module")
def stacked(source: Path) -> Path:
    convert(source, source.parent / "q4", bits=4)
    return source.parent / "q4"


@pytest.fixture
def packed(stacked: Path, tmp_path: Path) -> Path:
    pack_folder(stacked, tmp_path / "records")
    return tmp_path / "records"


def same_tree(first: Path, second: Path) -> bool:
    names = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
    others = sorted(str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())
    return names == others and filecmp.cmpfiles(first, second, names, shallow=False)[0] == names


@pytest.mark.parametrize("bits", [4, 8, None])
def test_unpack_is_the_inverse_of_pack(bits: int | None, source: Path, tmp_path: Path) -> None:
    first, records, again = (tmp_path / name for name in ("a", "records", "b"))
    convert(source, first, bits=bits)
    assert pack_folder(first, records).weight_bytes > 0
    unpack_folder(records, again)
    assert same_tree(first, again)


def test_several_files_and_no_index(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen3_mlx_convert.write.SHARD_BYTES", 60_000)
    first, records, again = (tmp_path / name for name in ("a", "records", "b"))
    convert(source, first, bits=4)
    assert len(list(first.glob("*.safetensors"))) > 2
    (first / "model.safetensors.index.json").unlink()
    pack_folder(first, records)
    unpack_folder(records, again)
    assert same_tree(first, again)


def test_converting_to_records_is_converting_and_packing(source: Path, tmp_path: Path) -> None:
    direct, stacked, again = (tmp_path / name for name in ("direct", "stacked", "again"))
    convert(source, direct, bits=4, layout="records")
    convert(source, stacked, bits=4)
    unpack_folder(direct, again)
    assert verify(again) == verify(stacked)
    hashes = [json.loads((folder / "sha256.json").read_text()) for folder in (stacked, again)]
    for folder, value in zip((stacked, again), hashes, strict=True):
        (folder / "README.md").unlink()  # it names the files beside it
        (folder / "sha256.json").unlink()
        del value["files"]["README.md"]
    assert hashes[0] == hashes[1]
    assert same_tree(stacked, again)
    assert "unpack" in (direct / "README.md").read_text()


def test_files_come_back_as_they_stood(stacked: Path, tmp_path: Path) -> None:
    """Line ends of the index and the hashes too; and nothing comes that was not there."""
    first, records, again = (tmp_path / name for name in ("a", "records", "b"))
    shutil.copytree(stacked, first)
    for name in ("model.safetensors.index.json", "sha256.json"):
        (first / name).write_bytes((first / name).read_bytes().replace(b"\n", b" \r\n"))
    (first / "notes").mkdir()
    (first / "notes" / "sha256.json").write_text("no hashes of ours")
    (first / ".hidden").write_text("x")
    pack_folder(first, records)
    unpack_folder(records, again)
    assert same_tree(first, again)
    (first / "sha256.json").unlink()
    pack_folder(first, tmp_path / "r")
    assert verify(tmp_path / "r").records
    unpack_folder(tmp_path / "r", tmp_path / "c")
    assert same_tree(first, tmp_path / "c")


def test_a_damaged_folder_is_not_packed(stacked: Path, tmp_path: Path) -> None:
    """Its records would have hashes of their own, and nobody would ever know."""
    first, records = tmp_path / "a", tmp_path / "records"
    shutil.copytree(stacked, first)
    flip(first / "tokenizer.json")
    pack_folder(first, records)
    with pytest.raises(CheckpointError, match=r"tokenizer.json in .*records has another SHA-256"):
        verify(records)
    flip(first / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors in .*a has another SHA-256"):
        pack_folder(first, tmp_path / "x", delete_source=True)
    assert not (tmp_path / "x").exists()
    assert (first / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "experts.json"])
def test_a_damaged_conversion_is_not_unpacked(source: Path, tmp_path: Path, name: str) -> None:
    convert(source, tmp_path / "records", bits=4, layout="records")
    flip(tmp_path / "records" / name)
    with pytest.raises(CheckpointError):
        unpack_folder(tmp_path / "records", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("slots", [1, 2, 5, 8])
def test_logits_from_records_are_those_of_the_stacked_folder(
    slots: int, packed: Path, stacked: Path
) -> None:
    want = decode_logits(resident(stacked, "float32"), PROMPT, 16, 64)
    for folder in (stacked, packed):
        with streamed(folder, slots, dtype="float32", poison=True) as (model, _):
            assert (decode_logits(model, PROMPT, 16, 64) == want).all()


def test_records_load_without_a_limit_too(packed: Path, stacked: Path) -> None:
    with qwen3_mlx.load(str(packed)) as one, qwen3_mlx.load(str(stacked)) as other:
        assert one.plan is None
        assert (one.logits([1, 2, 3]) == other.logits([1, 2, 3])).all()
        assert one.info.weight_bytes == other.info.weight_bytes


def test_an_expert_is_one_read(packed: Path, stacked: Path, monkeypatch: Any) -> None:
    import os

    calls, preadv = [], os.preadv

    def counting(fd: int, buffers: Any, offset: int) -> int:
        calls.append(len(buffers))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    for folder, reads in ((packed, [6]), (stacked, [1] * 9)):
        with streamed(folder, 2) as (_, pool):
            calls.clear()
            layer = pool.layers[0]
            layer.end(layer.begin([3], slots := layer.place([3], ())), [3], slots)
            assert calls == reads


def test_the_commands(stacked: Path, tmp_path: Path, capsys: Any) -> None:
    first, records = tmp_path / "m", tmp_path / "m-records"
    unpack_folder(pack_folder(stacked, tmp_path / "r").target, first)
    assert main(["pack", str(first), "--delete-source"]) == 0
    assert not first.exists()
    assert "verified" in capsys.readouterr().out
    assert main(["pack", "--verify", str(records)]) == 0
    assert "24 records are as they were written" in capsys.readouterr().out
    assert main(["unpack", str(records), "--delete-source"]) == 0
    assert not records.exists()
    assert same_tree(stacked, first)


@pytest.mark.parametrize("way", ["here", "link"])
def test_the_source_is_deleted_whatever_it_is_called(
    way: str, stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    first, link = tmp_path / "m", tmp_path / "link"
    shutil.copytree(stacked, first)
    link.symlink_to(first)
    monkeypatch.chdir(first)
    words = [str(link) if way == "link" else ".", "-o", str(tmp_path / "r"), "--delete-source"]
    assert main(["pack", *words]) == 0
    assert "is deleted" in capsys.readouterr().out
    assert not first.exists()
    assert link.is_symlink() == (way == "here")


def test_nothing_is_beside_the_root(capsys: Any) -> None:
    assert main(["pack", "/"]) == 2
    assert "nothing can be written beside /: name a folder with -o" in capsys.readouterr().err


def test_nothing_is_deleted_where_the_result_is_wrong(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "m"
    unpack_folder(pack_folder(stacked, tmp_path / "r").target, first)
    write = packing_module.RecordWriter.write_record

    def wrong(self: Any, layer: int, expert: int, offset: int, data: Any) -> None:
        write(self, layer, expert, offset, memoryview(bytes(len(data))) if expert == 3 else data)

    monkeypatch.setattr(packing_module.RecordWriter, "write_record", wrong)
    with pytest.raises(CheckpointError, match="would not come back"):
        pack_folder(first, tmp_path / "bad", delete_source=True)
    assert same_tree(stacked, first)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    "options",
    [{"bits": 4}, {"bits": None}, {"bits": 4, "spend": 0.2},
     {"bits": 4, "group_size": 32, "mode": "mxfp4"}],
)  # fmt: skip
def test_records_are_compared_with_the_source(
    options: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    stacked = convert(source, tmp_path / "stacked", verify=True, **options).comparison
    records = convert(source, tmp_path / "r", verify=True, layout="records", **options).comparison
    assert stacked is not None
    assert records is not None
    found = [(each.tensors, each.worst, each.worst_name) for each in (stacked, records)]
    assert found[0] == found[1]


@pytest.mark.parametrize("bits", [4, None])
@pytest.mark.parametrize("wrong", ["zeros", "neighbour", "late"])
def test_a_record_that_was_written_wrongly_is_found(
    bits: int | None, wrong: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum is that of what was written, so only the source can tell."""
    write = packing_module.RecordWriter.write_record

    def wrongly(self: Any, layer: int, expert: int, offset: int, data: Any) -> None:
        if (layer, expert) == (1, 3):
            data = memoryview(bytes(len(data))) if wrong == "zeros" else data
            expert += wrong == "neighbour"
            offset += 256 if wrong == "late" and not offset else 0
        write(self, layer, expert, offset, data)

    monkeypatch.setattr(packing_module.RecordWriter, "write_record", wrongly)
    with pytest.raises(
        CheckpointError, match=r"layers.1.mlp.experts.[34].\w+.weight .* after writ"
    ):
        convert(source, tmp_path / "bad", bits=bits, layout="records", verify=True)
    assert not (tmp_path / "bad").exists()
    convert(source, tmp_path / "unseen", bits=bits, layout="records")


def test_comparing_records_takes_memory_for_an_expert(tmp_path: Path) -> None:
    """Experts of 25 MB pass through in blocks of 1 MB, and mlx's peak stays at a few of them."""
    source = write_checkpoint(tmp_path / "source", moe=True, num_hidden_layers=1, hidden_size=512,
                              moe_intermediate_size=512, num_experts=16)  # fmt: skip
    code = (
        "import mlx.core as mx, pathlib, qwen3_mlx_convert.read as read\n"
        "from qwen3_mlx_convert import convert\n"
        "read.BLOCK_BYTES = 1 << 20\n"
        f"source, out = map(pathlib.Path, {[str(source), str(tmp_path / 'out')]})\n"
        "convert(source, out, bits=4, layout='records', verify=True)\n"
        "print(mx.get_peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 << 20


def test_a_damaged_record_is_told(packed: Path, tmp_path: Path) -> None:
    file = packed / "experts" / "layer-001.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    records = open_records(packed, config_of(packed))
    assert records is not None
    with pytest.raises(ExpertReadError, match="expert 0 of layer 1 has the checksum"):
        check_records(records)
    with pytest.raises(ExpertReadError, match="checksum"):
        unpack_folder(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refusals(source: Path, stacked: Path, packed: Path, tmp_path: Path) -> None:
    dense = write_checkpoint(tmp_path / "dense")
    with pytest.raises(UnsupportedModelError, match="no experts"):
        pack_folder(dense, tmp_path / "x")
    with pytest.raises(UnsupportedModelError, match="--layout records"):
        pack_folder(source, tmp_path / "x")
    with pytest.raises(UnsupportedModelError, match="packed already"):
        pack_folder(packed, tmp_path / "x")
    with pytest.raises(UnsupportedModelError, match="not a records folder"):
        unpack_folder(stacked, tmp_path / "x")
    with pytest.raises(OutputExistsError):
        pack_folder(stacked, packed)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 2}, "of version 2"),
        ({"layers": {}}, "has 0 layers"),
        ({"layers": {"0": {}}}, "is damaged"),
    ],
)
def test_damaged_manifests(packed: Path, change: dict[str, Any], sentence: str) -> None:
    path = packed / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=sentence):
        open_records(packed, config_of(packed))


def test_a_manifest_cannot_name_files_elsewhere(packed: Path, tmp_path: Path) -> None:
    path = packed / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["source"]["files"][0]["name"] = "../evil.safetensors"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="no plain name"):
        unpack_folder(packed, tmp_path / "out")
    manifest["layers"]["0"]["file"] = "../../etc/passwd"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is damaged"):
        open_records(packed, config_of(packed))


def config_of(folder: Path) -> ModelConfig:
    return ModelConfig.from_dict(json.loads((folder / "config.json").read_text()))
