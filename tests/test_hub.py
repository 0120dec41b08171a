"""Names become folders; every way in which the hub fails becomes a sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen3_mlx import hub, places, pulling
from qwen3_mlx.checkpoint import open_checkpoint
from qwen3_mlx.errors import ModelNotFoundError
from tests.checkpoints import write_checkpoint
from tests.hub_stand_in import stand_in

RESOLVE = """
import json, sys
from qwen3_mlx import hub
from qwen3_mlx.errors import Qwen3Error
for name in sys.argv[1:]:
    try:
        print(json.dumps(["path", str(hub.resolve(name))]))
    except Qwen3Error as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QWEN3_MLX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


def _resolve(*names: str, **environment: str) -> list[list[str]]:
    """In a process of its own, since huggingface_hub reads its environment on import."""
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, *names],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# Without a network.


def test_tiny_and_paths(home: Path) -> None:
    assert hub.resolve("tiny") == Path(hub.__file__).parent / "tiny"
    folder = write_checkpoint(home / "model")
    assert hub.resolve(str(folder)) == folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no model is called ''"),
        ("4c", "did you mean '4b'"),
        ("./nowhere", "no folder ./nowhere: check the path"),
        ("/no/such/folder", "no folder /no/such/folder"),
        ("../..x/../y", "no folder"),
        ("a/b/c", "no folder a/b/c"),
        ("org/", "no folder org/"),
        ("~nobody-of-this-name/model", "no folder ~nobody-of-this-name/model"),
        ("x" * 5000, "no model is called 'xxx"),
        ("4b\0", "no model is called"),
    ],
)
def test_names_that_are_none(name: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError, match=words.replace(".", r"\.").replace("?", r"\?")):
        hub.resolve(name)


def test_a_conversion_of_ours_comes_first() -> None:
    q8 = write_checkpoint(hub.models_dir() / "Qwen3-4B-q8")
    assert hub.resolve("4b") == q8
    q4 = write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    assert hub.resolve("Qwen/Qwen3-4B") == q4
    other = write_checkpoint(hub.models_dir() / "someone--Qwen3-4B-q4")
    assert hub.resolve("someone/Qwen3-4B") == other


def _cache(name: str, **options: Any) -> Path:
    """A model as huggingface_hub's cache holds it."""
    repo = hub.cache_dir() / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("2" * 40)
    return write_checkpoint(repo / "snapshots" / ("2" * 40), **options)


def test_a_whole_snapshot_in_the_cache_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("asked the hub"))
    folder = _cache("Qwen/Qwen3-4B", shards=2)
    assert hub.resolve("4b").samefile(folder)
    write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    assert hub.resolve("4b", source=True).samefile(folder)


def test_a_part_of_a_snapshot_is_downloaded_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pulling, "pull_into", lambda cache, name, present, *_: Path("asked for") / name
    )
    folder = _cache("org/model", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert hub.resolve("org/model") == Path("asked for/org/model")


def test_local_models_are_listed() -> None:
    assert list(hub.local_models()) == []
    ours = write_checkpoint(hub.models_dir() / "Qwen3-4B-q4")
    cached = _cache("org/model", moe=True)
    bert = _cache("org/zebra")
    (bert / "config.json").write_text('{"model_type": "bert"}')
    assert list(hub.local_models()) == [("Qwen3-4B-q4", ours), ("org/model", cached)]


def test_the_last_model_is_remembered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.last_model() is None
    places.remember_model("4b")
    assert places.last_model() == "4b"
    write_checkpoint(home / "model")
    monkeypatch.chdir(home)
    places.remember_model("model")
    assert places.last_model() == str((home / "model").resolve())
    assert os.listdir(hub.data_dir()) == ["state.json"]
    for text in ("", "[]", '{"last_model": 3}', "{"):
        (hub.data_dir() / "state.json").write_text(text)
        assert places.last_model() is None


def test_a_home_that_cannot_be_written_is_no_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("QWEN3_MLX_HOME", str(home / "file"))
    places.remember_model("4b")
    assert places.last_model() is None


def test_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QWEN3_MLX_HOME")
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setattr(sys, "platform", "linux")
    assert hub.models_dir() == Path("/data/qwen3-mlx/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert hub.data_dir() == Path("/h/.local/share/qwen3-mlx")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hub.data_dir() == Path("/h/Library/Application Support/qwen3-mlx")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert hub.cache_dir() == Path("/h/.cache/huggingface/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/c")
    assert hub.cache_dir() == Path("/c")


# The real downloader, against a stand-in.


def test_download_and_what_the_hub_refuses(home: Path) -> None:
    source = write_checkpoint(home / "source", moe=True, shards=2, tokenizer=True)
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    (source / "modeling.py").write_text("raise SystemExit")
    names = ("org/model", "org/model", "org/missing", "gated/model", "limited/model", "down/model")
    with stand_in({"org/model": source}) as server:
        answers = _resolve(*names, HF_ENDPOINT=server.url)
        asked = server.requests
    (kind, path), again, *refused = answers
    assert kind == "path"
    assert again == [kind, path]
    assert open_checkpoint(path).weight_bytes == open_checkpoint(source).weight_bytes
    here = {file.name for file in Path(path).iterdir()}
    assert {file.name for file in source.iterdir()} - here == {"pytorch_model.bin", "modeling.py"}
    assert sum("/api/models/org/model/revision" in request for request in asked) == 1
    assert not any("agent" in request for request in asked)
    for (error, message), words in zip(
        refused,
        ["no such public model", "accept its terms at http", "429, too many", "answered 501"],
        strict=True,
    ):
        assert error == "HubError"
        assert words in message
        assert message.endswith("or use `-m tiny`, which is built in")
    assert refused[0][1].startswith("org/missing was not downloaded: ")


def test_no_network() -> None:
    endpoint = _closed_port()
    ((error, message),) = _resolve("4b", HF_ENDPOINT=endpoint)
    assert error == "HubError"
    assert message.startswith(f"Qwen/Qwen3-4B was not downloaded: {endpoint} cannot be reached")
    assert "check the network" in message
    assert "`-m tiny`" in message


def test_offline_mode() -> None:
    ((error, message),) = _resolve("4b", HF_HUB_OFFLINE="1")
    assert error == "HubError"
    assert "offline mode is on" in message
    assert "unset HF_HUB_OFFLINE" in message
