"""/v1/embeddings: vectors of texts, asked for and written as OpenAI does."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_mlx.errors import OptionError
from qwen3_mlx.interface import ChatModel
from qwen3_mlx_app.server.faults import ApiError
from qwen3_mlx_app.server.fields import Fields

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Texts", "answer", "texts"]


@dataclass(frozen=True, slots=True)
class Texts:
    """A request that was understood.

    Args:
        model: the name that the client gave, "" for none.
        texts: what to read.
        query: whether the texts are searched for, or what for (`Qwen3.embed`).
        dimensions: how many numbers of each vector; None for all.
        packed: whether the numbers go out as bytes in base64, which the official clients ask for.
    """

    model: str
    texts: list[str]
    query: bool | str = False
    dimensions: int | None = None
    packed: bool = False


def texts(body: Mapping[str, Any]) -> Texts:
    """What a body for /v1/embeddings asks for.

    >>> texts({"input": "hi", "encoding_format": "base64"})
    Texts(model='', texts=['hi'], query=False, dimensions=None, packed=True)

    Raises:
        ApiError: it is malformed, or asks for what cannot be done.
    """
    fields = Fields(body)
    asked = Texts(
        model=fields.text("model") or "",
        texts=fields.strings("input"),
        query=_query(fields.any("query")),
        dimensions=fields.whole("dimensions"),
        packed=_packed(fields.text("encoding_format")),
    )
    fields.any("user")
    if fields.left():
        name = fields.left()[0]
        raise ApiError(400, f"{name} is not known here", param=name)
    if not asked.texts:
        raise ApiError(400, "input is missing: a string or a list of strings", param="input")
    return asked


def answer(model: ChatModel, asked: Texts, name: str, go_on: Callable[[], None]) -> dict[str, Any]:
    """The vectors as the object that goes out; `go_on` raises where nobody waits any more.

    Raises:
        Qwen3Error: the model makes no vectors, or cannot read a text.
    """
    embed = getattr(model, "embed", None)
    if embed is None:  # a scripted model
        raise OptionError("this model makes no vectors")
    made = embed(
        asked.texts, query=asked.query, dimensions=asked.dimensions, progress=lambda *_: go_on()
    )
    tokens = sum(len(model.encode(text)) + 1 for text in asked.texts)
    data = [
        {"object": "embedding", "index": place, "embedding": _numbers(vector, asked.packed)}
        for place, vector in enumerate(made)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": name, "usage": usage}


def _query(value: Any) -> bool | str:
    if value is None or isinstance(value, bool | str):
        return value or False
    raise ApiError(400, "query must be true, false or a task in words", param="query")


def _packed(form: str | None) -> bool:
    if form not in (None, "float", "base64"):
        raise ApiError(400, "encoding_format must be float or base64", param="encoding_format")
    return form == "base64"


def _numbers(vector: np.ndarray, packed: bool) -> list[float] | str:
    """A vector (D,) as numbers, or as float32, little endian, in base64."""
    if packed:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
