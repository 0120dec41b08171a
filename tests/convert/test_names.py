"""The table of names covers every tensor, and each lands in its own place."""

from __future__ import annotations

import pytest

from qwen3_mlx.model.config import ModelConfig
from qwen3_mlx.model.shapes import expected_shapes
from qwen3_mlx_convert.names import Kind, Place, place
from tests.checkpoints import base_config


@pytest.mark.parametrize("moe", [False, True])
def test_every_tensor_has_a_place_of_its_own(moe: bool) -> None:
    config = ModelConfig.from_dict(base_config(moe=moe, decoder_sparse_step=2))
    places = [place(name) for name in expected_shapes(config)]
    assert None not in places
    assert len({(where.path, where.expert) for where in places if where}) == len(places)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("lm_head.weight", Place("lm_head", Kind.MATRIX)),
        ("model.norm.weight", Place("model.norm", Kind.VECTOR)),
        ("model.layers.12.mlp.gate.weight", Place("model.layers.12.mlp.gate", Kind.ROUTER)),
        ("model.layers.0.mlp.gate_proj.weight", Place("model.layers.0.mlp.gate_proj", Kind.MATRIX)),
        (
            "model.layers.3.mlp.experts.127.down_proj.weight",
            Place("model.layers.3.mlp.switch_mlp.down_proj", Kind.MATRIX, 127),
        ),
        (
            "model.layers.1.self_attn.q_norm.weight",
            Place("model.layers.1.self_attn.q_norm", Kind.VECTOR),
        ),
    ],
)
def test_places(name: str, where: Place) -> None:
    assert place(name) == where


@pytest.mark.parametrize(
    "name",
    [
        "model.visual.patch_embed.weight",
        "lm_head.weight_scale_inv",
        "model.layers.x.mlp.gate.weight",
        "model.layers.0.mlp.shared_expert.up_proj.weight",
        "xlm_head.weight",
        "",
    ],
)
def test_strangers_have_none(name: str) -> None:
    assert place(name) is None
