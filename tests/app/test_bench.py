"""`qwen3-mlx bench`: what it counts and how it tells. No test asserts a time."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import write_checkpoint

from qwen3_mlx.errors import EngineError
from qwen3_mlx.loading import read_parts, read_weights
from qwen3_mlx.model.qwen3 import Qwen3Model
from qwen3_mlx_app.bench import launches, machine, measure
from qwen3_mlx_app.bench.measure import Row, Spread
from qwen3_mlx_app.bench.report import Results, as_page
from qwen3_mlx_app.bench.sides import cold_process, prompt_ids
from qwen3_mlx_app.cli import main
from qwen3_mlx_convert import convert
from qwen3_mlx_convert.packing import pack_folder

FEW = ["--generate", "4", "--warm", "2"]
QUICK = [*FEW, "--prompts", "4,8", "--batches", "3", "--rounds", "2", "--no-cold"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models by name: dense and MoE, plain and with 4 bits."""
    root = tmp_path_factory.mktemp("bench")
    made = {}
    for name in ("dense", "moe"):
        made[name] = write_checkpoint(root / name, moe=name == "moe", dtype="F32", tokenizer=True)
        convert(made[name], root / f"{name}-q4", bits=4)
        made[f"{name}-q4"] = root / f"{name}-q4"
    return made


def load(folder: Path) -> Qwen3Model:
    return read_weights(read_parts(folder), "float32")


@pytest.mark.parametrize(
    ("name", "compiled", "plain"),
    [("dense", 15, 17), ("dense-q4", 15, 17), ("moe", 20, 22), ("moe-q4", 20, 22)],
)
def test_launches_per_layer(name: str, compiled: int, plain: int, folders: dict[str, Path]) -> None:
    model = load(folders[name])

    assert launches.ours(model).total == compiled
    assert launches.ours(model, compiled=False).total == plain
    assert sum(launches.ours(model).kinds.values()) == compiled


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "count"), [("dense", 19), ("dense-q4", 19), ("moe", 30)])
def test_launches_of_mlx_lm_by_the_same_rule(
    name: str, count: int, folders: dict[str, Path]
) -> None:
    from mlx_lm.utils import load_model

    model: Any = load_model(folders[name])[0]
    model.set_dtype(mx.float32)

    assert launches.theirs(model).total == count
    assert len(model.model.layers) == 3


def test_counting_gives_the_fast_operations_back(folders: dict[str, Path]) -> None:
    kept = mx.fast.rms_norm, mx.fast.rope, mx.fast.scaled_dot_product_attention
    with pytest.raises(ZeroDivisionError):
        launches.count(lambda: mx.array(1 / 0))

    assert kept == (mx.fast.rms_norm, mx.fast.rope, mx.fast.scaled_dot_product_attention)


def test_the_table(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-m", str(folders["dense"]), *QUICK]) == 0
    out = capsys.readouterr().out

    for test in ("load", "prefill 8", "decode 4 after 8", "batch of 3", "first token", "peak"):
        assert test in out
    assert "launches per layer in decode: qwen3-mlx 15" in out
    assert "gain" not in out


@pytest.mark.filterwarnings("ignore")
def test_json_beside_mlx_lm(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, plot = tmp_path / "page.md", tmp_path / "plot.svg"
    told = main([
        "bench", "-m", str(folders["moe-q4"]), *QUICK, "--against", "mlx-lm", "--dtype", "float32",
        "--sampled", "--json", "--report", str(page), "--plot", str(plot),
    ])  # fmt: skip
    results = json.loads(capsys.readouterr().out)

    assert told == 0
    assert set(results["ratio"]) == {"prefill", "decode", "batch", "ttft", "load"}
    assert all(set(spread) == {"median", "low", "high"} for spread in results["ratio"].values())
    assert {side: found["total"] for side, found in results["launches"].items()} == {
        "qwen3-mlx": 20, "mlx-lm": 30,
    }  # fmt: skip
    for row in results["rows"]:
        assert [len(values) for values in row["rounds"].values()] == [2, 2]
        assert min(min(values) for values in row["rounds"].values()) > 0
    assert ET.fromstring(plot.read_text()).tag.endswith("svg")
    assert "| test | qwen3-mlx | mlx-lm | gain |" in page.read_text()


def test_cold_starts_are_whole_processes(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*FEW, "--prompts", "4", "--batches", "0", "--rounds", "1"]
    assert main(["bench", "-m", str(folders["dense"]), *flags]) == 0
    out = capsys.readouterr().out

    assert "cold start to one token" in out
    assert "compile cache empty" in out
    assert "batch" not in out


def test_metal_keeps_its_kernels_where_no_test_empties_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qwen3_mlx_app.bench.measure.mx.metal.is_available", lambda: True)
    monkeypatch.setattr("qwen3_mlx_app.bench.measure.cold_process", lambda command, **_: 1.0)
    told: list[str] = []
    measure._each_cold_start([], lambda rows, run: told.extend(row.kind for row in rows))
    assert told == ["cold_ask"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--rounds", "0"], "at least"), (["--prompts", "0"], "at least"),
     (["--generate", "1"], "at least"), (["--batches", "-3"], "--batches 0"),
     (["--context", "60"], "are 576 tokens, and the context is 60: pass shorter --prompts")],
)  # fmt: skip
def test_plans_that_cannot_be_measured(
    flags: list[str], words: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "-m", str(folders["dense"]), "--warm", "48", *flags]) == 2
    assert words in capsys.readouterr().err


def test_a_model_without_a_template_is_measured_all_the_same(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(shutil.copytree(folders["dense"], tmp_path / "base"))
    (base / "chat_template.jinja").unlink()
    assert main(["bench", "-m", str(base), *[word for word in QUICK if word != "--no-cold"]]) == 0
    told = capsys.readouterr()
    assert "decode 4 after 8" in told.out
    assert "first token" not in told.out
    assert "cold start" not in told.out
    assert "note: no chat template" in told.err


def test_a_model_that_makes_vectors_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "embedder", embedder=True)
    assert main(["bench", "-m", str(folder), *QUICK]) == 2
    assert "makes vectors and answers nothing" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_mlx_lm_cannot_read(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_folder(folders["moe-q4"], tmp_path / "records")
    flags = [*QUICK, "--against", "mlx-lm"]
    assert main(["bench", "-m", str(tmp_path / "records"), *flags]) == 2
    assert "its experts are records, `qwen3-mlx unpack` it first" in capsys.readouterr().err


def test_one_layer_has_no_launches_to_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "one", tokenizer=True, num_hidden_layers=1)
    assert main(["bench", "-m", str(folder), *QUICK]) == 0
    out = capsys.readouterr().out
    assert "bytes read per token" in out
    assert "launches" not in out


def test_gains_say_how_many_times_better() -> None:
    speed = Row("decode", "decode", "t/s", {"ours": [30.0, 20.0], "theirs": [10.0, 20.0]})
    time = Row("load", "load", "s", {"ours": [1.0, 2.0], "theirs": [4.0, 2.0]})

    assert speed.gains("ours", "theirs") == [3.0, 1.0]
    assert time.gains("ours", "theirs") == [4.0, 1.0]
    assert Spread.of([1.0, 9.0, 2.0]) == Spread(2.0, 1.0, 9.0)


def test_bytes_per_token(folders: dict[str, Path]) -> None:
    """Everything but the token table; of the experts, the two of eight that are chosen."""
    dense, moe = load(folders["dense"]), load(folders["moe"])
    whole = sum(array.nbytes for array in dense.arrays())
    table = 320 * 64 * 4
    context = 10 * moe.config.kv_bytes_per_token(4)
    experts = 3 * 8 * 3 * 64 * 64 * 4

    assert machine.bytes_per_token(dense, 0) == whole - table
    assert machine.bytes_per_token(moe, 10) == (
        sum(array.nbytes for array in moe.arrays()) - table - experts * 6 // 8 + context
    )


def test_the_machine_is_described() -> None:
    assert machine.describe()["mlx"].startswith("0.")


def test_prompts_differ_by_seed_only() -> None:
    assert prompt_ids(50, 300, 1) == prompt_ids(50, 300, 1) != prompt_ids(50, 300, 2)
    assert all(0 <= token < 300 for token in prompt_ids(500, 300, 3))


def test_the_page_says_memory_as_it_is_sold() -> None:
    about = dict.fromkeys(("cores", "system", "backend", "qwen3-mlx", "mlx", "mlx-lm", "python"), 1)
    results = Results(
        "m", "bench", about | {"chip": "Apple M4 Max", "memory_bytes": 2**36},
        measure.Plan((8,), 4, 2, (), 1, cold=False), ("qwen3-mlx",), [], {}, 1, {},
    )  # fmt: skip
    assert "\n64 GB of memory, 1 cores" in as_page(results)


def test_a_page_that_cannot_be_written_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "-m", "tiny", "--report", "/no/such/folder/p.md"]) == 2
    assert "/no/such/folder is no folder: nothing was done" in capsys.readouterr().err
    assert main(["bench", "-m", "tiny", "--report", str(tmp_path)]) == 2
    assert f"{tmp_path} is a folder, and a file is to be written" in capsys.readouterr().err
    monkeypatch.setattr("qwen3_mlx_app.writing.os.access", lambda path, mode: False)
    assert main(["bench", "-m", "tiny", "--report", str(tmp_path / "p.md")]) == 2
    assert "p.md cannot be written: nothing was done" in capsys.readouterr().err


def test_a_cold_start_that_fails_says_why() -> None:
    with pytest.raises(EngineError, match="failed: it broke"):
        cold_process([sys.executable, "-c", "raise SystemExit('it broke')"])
