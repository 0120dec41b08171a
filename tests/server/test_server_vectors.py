"""/v1/embeddings: vectors as the library makes them, in OpenAI's form."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from agent_stand import until
from checkpoints import write_checkpoint
from server_stand import Reply, Stand, serving

import qwen3_mlx

PAGE = "/v1/embeddings"
TEXTS = ["Bees dance.", "The meter is read in May.", "a"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    path = tmp_path_factory.mktemp("embedder") / "mini"
    folder = write_checkpoint(path, dtype="F32", embedder=True, tied=True)
    with serving(qwen3_mlx.load(str(folder), agent=False)) as made:
        yield made


def ask(stand: Stand, **body: Any) -> Reply:
    return stand.ask("POST", PAGE, body)


def test_vectors_are_those_of_the_library(stand: Stand) -> None:
    reply = ask(stand, input=TEXTS, model="fake", user="me")
    assert reply.status == 200, reply.data
    expected = stand.model.embed(TEXTS)
    data = reply.json["data"]
    assert [each["index"] for each in data] == [0, 1, 2]
    np.testing.assert_allclose([each["embedding"] for each in data], expected, atol=1e-6)
    tokens = sum(len(text) + 1 for text in TEXTS)
    assert reply.json["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (reply.json["object"], reply.json["model"]) == ("list", "fake")
    assert stand.lines[-1].endswith(f"{tokens} tokens")


def test_the_official_clients_get_bytes(stand: Stand) -> None:
    [packed] = ask(stand, input="bees", encoding_format="base64", dimensions=32).json["data"]
    vector = np.frombuffer(base64.b64decode(packed["embedding"]), "<f4")
    np.testing.assert_allclose(vector, stand.model.embed(["bees"], dimensions=32)[0], atol=1e-6)


@pytest.mark.parametrize("query", [True, "Find animals"])
def test_queries_say_what_they_are_for(stand: Stand, query: bool | str) -> None:
    [each] = ask(stand, input=["bees"], query=query).json["data"]
    np.testing.assert_allclose(
        each["embedding"], stand.model.embed(["bees"], query=query)[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "input is missing"),
        ({"input": []}, "input", "input is missing"),
        ({"input": [1, 2]}, "input", "a string or a list of strings"),
        ({"input": ["a", ""]}, "input", "text 2 of 2 is empty"),
        ({"input": "x" * 5000}, "input", "5,001 tokens and the context"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "float or base64"),
        ({"input": "a", "dimensions": 7}, None, "dimensions is 7"),
        ({"input": "a", "query": 1}, "query", "query must be"),
        ({"input": "a", "colour": 1}, "colour", "colour is not known"),
    ],
)
def test_what_cannot_be_done_is_said(
    stand: Stand, body: dict[str, Any], param: str | None, words: str
) -> None:
    reply = ask(stand, **body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert words in reply.error["message"]


def test_each_model_answers_at_its_page(stand: Stand) -> None:
    assert "makes vectors of texts" in stand.chat().error["message"]
    assert ask(stand, input="a", model="another").status == 404
    with serving() as scripted:
        assert ask(scripted, input="a").error["message"] == "this model makes no vectors"


def test_a_client_that_leaves_is_noticed_between_two_batches(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch begins when the client has left, and no other follows."""
    left, batches = threading.Event(), []
    call = stand.model._engine.call

    def counted(work: Any) -> Any:
        batches.append(work)
        assert left.wait(60)
        return call(work)

    monkeypatch.setattr(stand.model._engine, "call", counted)
    texts = ["x" * length for length in range(300, 310)]
    body = json.dumps({"input": texts}).encode()
    head = f"POST {PAGE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    client = stand.raw(head.encode() + body)
    until(lambda: len(batches) == 1)
    client.close()
    left.set()
    until(lambda: stand.gate.running == 0)
    assert len(batches) <= 2
