"""A model at the agent: what it cannot do is done by one that is loaded here, and only by one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from qwen3_mlx import api
from qwen3_mlx.testing import FakeModel
from qwen3_mlx.warm.model import WarmModel


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded here; each takes a moment, in which others can ask for it."""
    made: list[str] = []

    def load(name: str, **options: Any) -> FakeModel:
        made.append(name)
        threading.Event().wait(0.1)
        return FakeModel([])

    monkeypatch.setattr(api, "load", load)
    return made


def test_threads_that_need_it_load_it_once(loads: list[str]) -> None:
    model = WarmModel("tiny", {}, FakeModel([]).info)
    threads = [threading.Thread(target=lambda: model.encode("a b")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["tiny"]


def test_a_name_that_no_model_has_loads_none(loads: list[str]) -> None:
    model = WarmModel("tiny", {}, FakeModel([]).info)
    assert not hasattr(model, "no_such_name")
    with pytest.raises(AttributeError, match="a model has no 'telepathy'"):
        model.telepathy("hello")
    assert loads == []
