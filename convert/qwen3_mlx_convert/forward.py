"""A forward pass that holds one matrix at a time, over the weights of any checkpoint.

Measuring a model and calibrating one both need what every layer makes of some text. Here all of
the text goes through one layer before the next layer is read, and through one expert before the
next expert is read, so memory is that of the activations and of the largest matrix, whatever
the size of the model. Everything is float32 on the CPU: numpy's products come from the system's
BLAS, in the same order each time, so a calibration can be repeated to the bit.

A `visit` sees each matrix before it is used, with the inputs that it will be applied to, and
returns the matrix to use: itself to measure, what is left of it after packing to calibrate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from qwen3_mlx.checkpoint import Checkpoint
from qwen3_mlx.model.moe import route
from qwen3_mlx.model.rope import Rope
from qwen3_mlx_convert.dialects import plain_config, plain_tensors, refuse_records, without_packing
from qwen3_mlx_convert.read import Reader
from qwen3_mlx_convert.sources import blocks

__all__ = ["Floats", "Forward", "Inputs", "Visit", "Weights", "rms_norm"]

Floats = NDArray[np.float32]

#: The rows that a matrix is applied to, (n, in) at a time; may be asked for more than once.
Inputs = Callable[[], Iterator[Floats]]

#: (name of the tensor, the matrix (out, in), its inputs) -> the matrix to go on with.
Visit = Callable[[str, Floats, Inputs], Floats]

#: Tokens that go through a matrix at once.
_ROWS = 2048


class Weights:
    """The tensors of a checkpoint of any kind under their plain names, as float32.

    Use it as a context manager; it keeps a file open.

    Raises:
        UnsupportedModelError: the experts are records.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        refuse_records(checkpoint.path)
        config = plain_config(checkpoint.config)
        self._sources = plain_tensors(checkpoint, config)
        self.config = without_packing(config)
        self._reader = Reader()

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def __call__(self, name: str) -> Floats:
        """The whole tensor."""
        return np.concatenate([rows for _, rows in self.blocks(name)])

    def blocks(self, name: str) -> Iterator[tuple[int, Floats]]:
        """The tensor block by block, as (first row, rows)."""
        for first, _, rows in blocks(self._sources[name], "F32", self._reader):
            yield first, np.asarray(rows)

    @property
    def head(self) -> str:
        """The name of the matrix that makes logits."""
        return "model.embed_tokens.weight" if self.config.tied else "lm_head.weight"


def keep(name: str, matrix: Floats, inputs: Inputs) -> Floats:
    """The visit that changes nothing."""
    return matrix


class Forward:
    """Some text on its way through a model: `x` (B, L, D), and the layer it has come to.

    >>> forward = Forward(weights, ids)                                 # doctest: +SKIP
    >>> for _ in range(weights.config.layers): forward.step()           # doctest: +SKIP
    >>> forward.last()                                                  # doctest: +SKIP

    Args:
        weights: of the model.
        ids: token ids (B, L): B texts that do not see each other.
    """

    def __init__(self, weights: Weights, ids: NDArray[np.int64]) -> None:
        self.weights, self.config = weights, weights.config
        self.layer = 0
        self.x = self._embed(ids)
        self._rope = Rope(self.config)

    def step(self, visit: Visit = keep) -> None:
        """Let the text through one layer."""
        path = f"model.layers.{self.layer}"
        shape = self.x.shape
        self.x += self._attention(path, visit).reshape(shape)
        norm = self.weights(f"{path}.post_attention_layernorm.weight")
        tokens = rms_norm(self.x, norm, self.config.norm_eps).reshape(-1, shape[-1])  # (N, D)
        mlp = self._experts if self.config.is_moe(self.layer) else self._mlp
        self.x += mlp(f"{path}.mlp", tokens, visit).reshape(shape)
        self.layer += 1

    def last(self) -> Floats:
        """What the head is applied to, (N, D)."""
        normed = rms_norm(self.x, self.weights("model.norm.weight"), self.config.norm_eps)
        return normed.reshape(-1, self.config.hidden_size)

    def _embed(self, ids: NDArray[np.int64]) -> Floats:
        """Of the table only a block is in memory."""
        out = np.zeros((*ids.shape, self.config.hidden_size), np.float32)
        for first, rows in self.weights.blocks("model.embed_tokens.weight"):
            here = (ids >= first) & (ids < first + len(rows))
            out[here] = rows[ids[here] - first]
        return out

    def _take(self, path: str, inputs: Inputs, visit: Visit) -> Floats:
        name = f"{path}.weight"
        return visit(name, self.weights(name), inputs)

    def _attention(self, path: str, visit: Visit) -> Floats:
        config = self.config
        B, L, D = self.x.shape
        norm = self.weights(f"{path}.input_layernorm.weight")
        tokens = rms_norm(self.x, norm, config.norm_eps).reshape(-1, D)
        path = f"{path}.self_attn"
        parts = []
        for name in ("q", "k", "v"):
            matrix = self._take(f"{path}.{name}_proj", _chunks(tokens), visit)
            part = (tokens @ matrix.T).reshape(B, L, -1, config.head_dim).swapaxes(1, 2)
            if name != "v":
                weight = self.weights(f"{path}.{name}_norm.weight")
                part = self._rotated(rms_norm(part, weight, config.norm_eps))
            parts.append(part)
        mixed = np.concatenate([self._attend(*text) for text in zip(*parts, strict=True)])
        out = self._take(f"{path}.o_proj", _chunks(mixed), visit)
        return mixed @ out.T

    def _rotated(self, heads: Floats) -> Floats:
        return np.asarray(self._rope(mx.array(heads), 0))

    def _attend(self, q: Floats, k: Floats, v: Floats) -> Floats:
        """One text: q (H, L, C) over k and v (K, L, C) -> (L, H C)."""
        H, L, C = q.shape
        K = k.shape[0]
        scale = np.float32(self._rope.score_scale * C**-0.5)
        hidden = np.triu(np.full((L, L), -np.inf, np.float32), 1)
        mixed = np.empty((L, H, C), np.float32)
        for head in range(H):
            scores = (q[head] * scale) @ k[head * K // H].T + hidden
            np.exp(scores - scores.max(axis=-1, keepdims=True), out=scores)
            mixed[:, head] = (scores @ v[head * K // H]) / scores.sum(axis=-1, keepdims=True)
        return mixed.reshape(L, -1)

    def _mlp(self, path: str, tokens: Floats, visit: Visit) -> Floats:
        """SwiGLU over rows (N, D); the wide rows in between are made where they are needed."""
        gate, up = (
            self._take(f"{path}.{part}_proj", _chunks(tokens), visit) for part in ("gate", "up")
        )

        def wide() -> Iterator[Floats]:
            for rows in _chunks(tokens)():
                yield _silu(rows @ gate.T) * (rows @ up.T)

        down = self._take(f"{path}.down_proj", wide, visit)
        return np.concatenate([tokens[:0], *(rows @ down.T for rows in wide())])

    def _experts(self, path: str, tokens: Floats, visit: Visit) -> Floats:
        """The sum of the chosen experts, one expert after another: (N, D) -> (N, D)."""
        config = self.config
        router = self._take(f"{path}.gate", _chunks(tokens), visit)
        logits = mx.array(tokens @ router.T)
        chosen, shares = map(np.asarray, route(logits, config.top_k, config.normalise_top_k))
        out = np.zeros_like(tokens)
        for expert in range(config.experts):
            rows, place = np.nonzero(chosen == expert)
            made = self._mlp(f"{path}.experts.{expert}", tokens[rows], visit)
            out[rows] += made * shares[rows, place][:, None]
        return out


def rms_norm(x: Floats, weight: Floats, eps: float) -> Floats:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis."""
    mean = np.mean(np.square(x), axis=-1, keepdims=True)
    result: Floats = x / np.sqrt(mean + np.float32(eps)) * weight
    return result


def _silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) of a very negative x is inf, and the result 0
        result: Floats = x / (1 + np.exp(-x))
    return result


def _chunks(rows: Any) -> Inputs:
    def chunks() -> Iterator[Floats]:
        for first in range(0, len(rows), _ROWS):
            yield rows[first : first + _ROWS]

    return chunks
