"""Damaged and hostile checkpoints: one sentence, exit status 2, nothing written, no blow-up."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx_app.cli import main
from tests.checkpoints import write_checkpoint

Damage = Callable[[Path], object]

SHARD = "model-00002-of-00003.safetensors"


def _header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the header of the second shard, and keep its tensors."""

    def damage(folder: Path) -> None:
        data = (folder / SHARD).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        text = change(header) or json.dumps(header)
        raw = text if isinstance(text, bytes) else str(text).encode()
        (folder / SHARD).write_bytes(len(raw).to_bytes(8, "little") + raw + data[8 + length :])

    return damage


def _json(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


def _config(**keys: Any) -> Damage:
    return _json("config.json", lambda value: value.update(keys))


def _first(header: dict[str, Any]) -> dict[str, Any]:
    """The entry of the shard's first tensor."""
    entry: dict[str, Any] = next(value for key, value in header.items() if key[0] != "_")
    return entry


def _all_in_one_place(header: dict[str, Any]) -> None:
    first = _first(header)
    for name in header.keys() - {"__metadata__"}:
        header[name] = first


def _flip(place: int, bit: int) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / SHARD).read_bytes())
        data[place] ^= 1 << bit
        (folder / SHARD).write_bytes(data)

    return damage


def _moved(place: str) -> Damage:
    """The index sends one tensor somewhere else."""
    return _json(
        "model.safetensors.index.json",
        lambda index: index["weight_map"].update({"model.norm.weight": place}),
    )


def _loop(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(name)

    return damage


def _replace(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def _only_pickles(folder: Path) -> None:
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap()))


class _Trap:
    """A pickle that leaves a file where whoever opens it stands."""

    def __reduce__(self) -> Any:
        return (open, ("trapped", "w"))


def _own_code(folder: Path) -> None:
    _config(model_type="evil", auto_map={"AutoConfig": "evil.Config"})(folder)
    (folder / "evil.py").write_text("open('trapped', 'w')")


#: What is done to a good checkpoint -> a word of the sentence that must come.
CASES: dict[str, tuple[Damage, str]] = {
    "a bit of the header's length": (_flip(0, 1), "the header of"),
    "a high bit of the header's length": (_flip(6, 3), "cut short or no safetensors file"),
    "a bit of a bracket": (_flip(8, 0), "not valid JSON"),
    "a byte that is not UTF-8": (_flip(12, 7), "not valid JSON"),
    "another dtype": (_header(lambda h: _first(h).update(dtype="F32")), "bytes, but F32"),
    "an unknown dtype": (_header(lambda h: _first(h).update(dtype="F128")), "unknown dtype"),
    "a dtype of the same size": (_header(lambda h: _first(h).update(dtype="I16")), "I16"),
    "a shape of the same size": (
        _header(lambda h: _first(h).update(shape=[1, *_first(h)["shape"]])),
        "has the shape",
    ),
    "a huge shape": (_header(lambda h: _first(h).update(shape=[10**18, 10**18])), "needs"),
    "a negative offset": (_header(lambda h: _first(h).update(data_offsets=[-2, 6])), "no dtype"),
    "tensors that overlap": (_header(_all_in_one_place), "overlaps"),
    "an index that names an absent file": (_moved("model-00009-of-00003.safetensors"), "1 of the"),
    "an index that leaves the folder": (_moved("../../secret.safetensors"), "tampered"),
    "an absolute path in the index": (_moved("/etc/x.safetensors"), "tampered"),
    "an index of another version": (_moved("model-00003-of-00003.safetensors"), "not there"),
    "a tensor too many": (
        _header(lambda h: h.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})),
        "does not put there",
    ),
    "a shard too many": (
        lambda folder: (folder / "model-00004-of-00004.safetensors").write_bytes(b""),
        "does not name",
    ),
    "a nesting bomb": (_header(lambda h: b"[" * 1_000_000), "not valid JSON"),
    "a bomb of empty lists": (
        _replace("config.json", lambda p: p.write_text('{"a": [' + "[]," * 6_000_000 + "[]]}")),
        "parts",
    ),
    "a number without end": (
        _replace("config.json", lambda p: p.write_text('{"vocab_size": ' + "9" * 5_000_000 + "}")),
        "not valid JSON",
    ),
    "a billion layers": (_config(num_hidden_layers=10**9), "num_hidden_layers"),
    "a billion experts": (_config(num_experts=10**9), "num_experts"),
    "words for numbers": (_config(num_key_value_heads="many"), "num_key_value_heads"),
    "no number": (_config(rope_theta=float("nan")), "rope_theta"),
    "a quantisation that is a list": (_config(quantization=[1]), "quantization"),
    "packing of no bits": (
        _config(quantization_config={"quant_method": "gptq", "bits": []}), "bits",
    ),
    "a loop of links for weights": (_loop(SHARD), "weight files"),
    "a loop of links for config.json": (_loop("config.json"), "config.json"),
    "a loop of links for the tokenizer": (_loop("tokenizer.json"), "tokenizer.json"),
    "a pipe for config.json": (_replace("config.json", os.mkfifo), "not a regular file"),
    "a pipe for the tokenizer": (_replace("tokenizer.json", os.mkfifo), "not a regular file"),
    "a device for the tokenizer": (
        _replace("tokenizer.json", lambda p: p.symlink_to("/dev/zero")), "not a regular file",
    ),
    "a folder for the tokenizer": (_replace("tokenizer.json", os.mkdir), "not a regular file"),
    "pickles only": (_only_pickles, "never opened"),
    "code of its own": (_own_code, "'evil'"),
}  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _seen(folder: Path) -> dict[str, tuple[int, int]]:
    every = [path for path in folder.rglob("*") if path.name != "source"]
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in every}


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_and_nothing_written(
    case: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, word = CASES[case]
    source = write_checkpoint(work / "source", moe=True, shards=3, tokenizer=True)
    damage(source)
    before = _seen(work)
    status = main(["convert", str(source), "-o", str(work / "out")])
    out, err = capsys.readouterr()
    assert status == 2, (status, out, err)
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("qwen3-mlx: ")
    assert word in lines[0]
    assert "Traceback" not in err
    assert len(lines[0]) < 600
    assert _seen(work) == before


def test_no_blow_up_of_memory(tmp_path: Path) -> None:
    """All of the damaged folders in one process: its peak stays near what imports take."""
    for number, (damage, _) in enumerate(CASES.values()):
        source = write_checkpoint(tmp_path / str(number), moe=True, shards=3, tokenizer=True)
        damage(source)
    code = (
        "import resource, sys\nfrom qwen3_mlx_app.cli import main\n"
        "import mlx.core, numpy, qwen3_mlx_convert.pipeline\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"for n in range({len(CASES)}): assert main(['convert', str(n), '-o', 'out']) == 2\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout.splitlines()[-1]) * unit < 200 << 20
    assert not (tmp_path / "trapped").exists()


def test_code_and_pickles_beside_good_weights_are_left_alone(work: Path) -> None:
    source = write_checkpoint(work / "source", auto_map={"AutoModel": "evil.Model"})
    (source / "evil.py").write_text("open('trapped', 'w')")
    (source / "training_args.bin").write_bytes(pickle.dumps(_Trap()))
    assert main(["convert", str(source), "-o", str(work / "out")]) == 0
    assert not (work / "trapped").exists()
    assert not {"evil.py", "training_args.bin"} & set(os.listdir(work / "out"))
    assert "auto_map" not in (work / "out" / "config.json").read_text()


def test_a_full_disk_ends_with_status_2(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(work / "source")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    assert main(["convert", str(source), "-o", str(work / "out")]) == 2
    assert "1 KB free; nothing was written" in capsys.readouterr().err
    assert sorted(os.listdir(work)) == ["source"]
